"""Runs one of the example applications over https, as a process of its own: ``serve.py NAME PORT CERTIFICATE``.

The loop's lag is printed once a second, so that whoever started this can tell how it was at some time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples" / "webapp"
STEP = 0.005


async def tell_lag() -> None:
    """How late a timer of 5 ms was, at worst and in one of a hundred times, in each second."""
    while True:
        until, late = time.monotonic() + 1.0, []
        while (before := time.monotonic()) < until:
            await asyncio.sleep(STEP)
            late.append(max(time.monotonic() - before - STEP, 0.0))
        late.sort()
        print(json.dumps({"at": time.time(), "late": late}), flush=True)


@contextlib.asynccontextmanager
async def telling_lag() -> AsyncIterator[None]:
    telling = asyncio.create_task(tell_lag())
    try:
        yield
    finally:
        telling.cancel()


def fastapi(port: int, certificate: str) -> Coroutine[Any, Any, None]:
    import uvicorn
    from app_fastapi import app

    config = uvicorn.Config(
        app,
        port=port,
        ssl_certfile=certificate,
        ssl_keyfile=certificate,
        timeout_graceful_shutdown=2,
        log_level="warning",
        backlog=2048,
    )
    return uvicorn.Server(config).serve()


async def aiohttp(port: int, certificate: str) -> None:
    from aiohttp import web
    from app_aiohttp import main

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(15, stopped.set)
    runner = web.AppRunner(main(), shutdown_timeout=2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context, backlog=2048).start()
    await stopped.wait()
    await runner.cleanup()


async def serve(name: str, port: int, certificate: str) -> None:
    async with telling_lag():
        await {"fastapi": fastapi, "aiohttp": aiohttp}[name](port, certificate)


if __name__ == "__main__":
    sys.path.insert(0, str(EXAMPLES))
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
