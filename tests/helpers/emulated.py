"""A session on an emulator, both in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from wanasync import Config, WanSession
from wanasync.emulator import Emulator
from wanasync.testing import START, now

__all__ = ["emulated", "session_on"]


def session_on(emu: Emulator, **options: Any) -> WanSession:
    """A session, not opened yet, whose clock is the virtual one. `config` options may be given by name."""
    keywords = {
        name: options.pop(name)
        for name in ("on_event", "client_session", "trace_configs", "callbacks")
        if name in options
    }
    config = Config(api_key=emu.api_key, base_url=emu.base_url, **options)
    return WanSession(config=config, clock=now, **keywords)


@asynccontextmanager
async def emulated(
    *, session: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[Emulator, WanSession]]:
    async with Emulator(epoch=START, **options) as emu, session_on(emu, **(session or {})) as wan:
        yield emu, wan
