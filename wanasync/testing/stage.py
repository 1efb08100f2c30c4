"""What a test plays on: an emulator, a session with it, and what that session tells."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from attrs import frozen

from wanasync import Config, WanSession
from wanasync.emulator import Emulator
from wanasync.testing.clocks import START, VirtualTimeLoop
from wanasync.testing.faults import Faults
from wanasync.testing.recorder import EventRecorder

__all__ = ["Stage", "stage_for"]

VIRTUAL: dict[str, Any] = {"epoch": START}
QUICK: dict[str, Any] = {"durations": 0.2, "queue_time": 0.0}
"""In real time a test can't wait for minutes, as the provider's users do."""


@frozen(eq=False)
class Stage:
    emulator: Emulator
    session: WanSession
    events: EventRecorder
    faults: Faults


@asynccontextmanager
async def stage_for(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    """Opened on the running loop, as the test's markers say."""
    loop = _asyncio_loop()
    if isinstance(loop, VirtualTimeLoop):
        clock, defaults = loop.now, VIRTUAL
    else:
        clock, defaults = time.time, QUICK
    # What a gate has learned is kept for its key and address, and an address may come back.
    own_key = {"api_key": f"wan-test-{secrets.token_hex(8)}"}
    events = EventRecorder()
    async with Emulator(**{**defaults, **own_key, **_marked(request, "wan_emulator")}) as emulator:
        config = Config(api_key=emulator.api_key, base_url=emulator.base_url, **_marked(request, "wan_session"))
        async with WanSession(config=config, on_event=events, clock=clock) as session:
            yield Stage(emulator, session, events, Faults(emulator))


def _asyncio_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        pytest.fail("wanasync runs on asyncio only: let the fixture anyio_backend return 'asyncio'", pytrace=False)


def _marked(request: pytest.FixtureRequest, name: str) -> dict[str, Any]:
    """The keywords of all markers of the name; those nearest to the test win."""
    keywords: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers(name))):
        if marker.args:
            pytest.fail(f"@pytest.mark.{name} takes keywords only, not {marker.args!r}", pytrace=False)
        keywords |= marker.kwargs
    return keywords
