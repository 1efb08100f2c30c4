"""An ASGI app on a real server in this process."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

__all__ = ["bound", "serving"]


def bound() -> socket.socket:
    """A socket on a free port of 127.0.0.1, for those who must know the port before there is an app."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


@asynccontextmanager
async def serving(app: Any, sock: socket.socket, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
    config = uvicorn.Config(app, log_config=None, lifespan="auto", timeout_graceful_shutdown=1, ws="none")
    config.load()
    config.ssl = tls
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve([sock]))
    try:
        async with asyncio.timeout(20):
            while not server.started:
                if task.done():
                    await task
                await asyncio.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        await task
