"""A callback receiver on a server of this machine, and a session that submits with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from attrs import define

from tests.helpers.emulated import session_on
from wanasync import WanSession
from wanasync.emulator import Emulator
from wanasync.testing import START, now
from wanasync.webhooks import CallbackReceiver

__all__ = ["SECRET", "Called", "called_back", "receiving"]

SECRET = "a secret of the tests' own"


@asynccontextmanager
async def receiving(**options: Any) -> AsyncIterator[CallbackReceiver]:
    app = web.Application()
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    receivers: list[CallbackReceiver] = []

    async def handle(request: web.Request) -> web.Response:
        return await receivers[0].aiohttp(request)

    app.router.add_post("/hooks/wan/{token}", handle)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/hooks/wan"
    settings: dict[str, Any] = {"public_url": url, "secret": SECRET, "clock": now}
    receivers.append(CallbackReceiver(**settings | options))
    try:
        yield receivers[0]
    finally:
        await runner.cleanup()


@define
class Called:
    emu: Emulator
    wan: WanSession
    receiver: CallbackReceiver


@asynccontextmanager
async def called_back(
    *, session: dict[str, Any] | None = None, receiver: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[Called]:
    """An emulator that calls back, in virtual time."""
    settings: dict[str, Any] = {"epoch": START, "local_callbacks": True, "keepalive": 1e6}
    async with (
        receiving(**(receiver or {})) as rec,
        Emulator(**settings | options) as emu,
        session_on(emu, callbacks=rec, **(session or {})) as wan,
    ):
        yield Called(emu, wan, rec)
