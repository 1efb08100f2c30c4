"""The receiver in each framework, on a real server, called back over https by an emulator that trusts nobody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from tests.helpers.serving import bound, serving
from tests.helpers.tls import PUBLIC_HOST, server_context, trusting_context
from wanasync import TaskStatus, WanSession, webhooks
from wanasync.emulator import Emulator
from wanasync.webhooks import CallbackReceiver

SECRET = "a secret of the tests' own"


def plain(receiver: CallbackReceiver) -> Any:
    return receiver


def starlette(receiver: CallbackReceiver) -> Any:
    from starlette.applications import Starlette
    from starlette.routing import Route

    return Starlette(routes=[Route("/hooks/wan/{token}", receiver, methods=["POST"])])


def fastapi(receiver: CallbackReceiver) -> Any:
    from fastapi import FastAPI

    app = FastAPI()
    app.add_route("/hooks/wan/{token}", receiver, methods=["POST"])  # type: ignore[arg-type]
    return app


def litestar(receiver: CallbackReceiver) -> Any:
    from litestar import Litestar, asgi

    # It has no path parameters for ASGI apps, but mounts them without a redirect.
    @asgi("/hooks/wan", is_mount=True, copy_scope=True)
    async def hook(scope: Any, receive: Any, send: Any) -> None:
        await receiver(scope, receive, send)

    return Litestar([hook])


def quart(receiver: CallbackReceiver) -> Any:
    from quart import Quart, Response, request

    app = Quart(__name__)

    @app.post("/hooks/wan/<token>")
    async def hook(token: str) -> Response:
        status, headers, body = await receiver.handle(request.method, request.path, dict(request.headers), request.body)
        return Response(body, status, headers)

    return app


def sanic(receiver: CallbackReceiver) -> Any:
    from sanic import HTTPResponse, Request, Sanic, raw

    Sanic.test_mode = True
    app: Any = Sanic("wanasync-hooks")

    @app.post("/hooks/wan/<token>")  # type: ignore[untyped-decorator]
    async def hook(request: Request, token: str) -> HTTPResponse:
        status, headers, body = await receiver.handle(request.method, request.path, request.headers, request.body)
        return raw(body, status, headers)

    return app


@asynccontextmanager
async def on_uvicorn(make: Callable[[CallbackReceiver], Any]) -> AsyncIterator[CallbackReceiver]:
    with bound() as sock:
        url = f"https://{PUBLIC_HOST}:{sock.getsockname()[1]}/hooks/wan"
        receiver = CallbackReceiver(public_url=url, secret=SECRET)
        async with serving(make(receiver), sock, server_context()):
            yield receiver


@asynccontextmanager
async def on_aiohttp(_: object) -> AsyncIterator[CallbackReceiver]:
    with bound() as sock:
        url = f"https://{PUBLIC_HOST}:{sock.getsockname()[1]}/hooks/wan"
        receiver = CallbackReceiver(public_url=url, secret=SECRET)
        app = web.Application()
        app.router.add_post("/hooks/wan/{token}", receiver.aiohttp)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.SockSite(runner, sock, ssl_context=server_context()).start()
        try:
            yield receiver
        finally:
            await runner.cleanup()


@pytest.mark.parametrize("make", [plain, starlette, fastapi, litestar, quart, sanic, web])
async def test_a_task_is_called_back(make: Any) -> None:
    on_a_server = on_aiohttp if make is web else on_uvicorn
    async with (
        on_a_server(make) as receiver,
        an_emulator() as emu,
        WanSession(emu.api_key, emu.base_url, callbacks=receiver) as wan,
    ):
        task = await wan.submit("a cat")
        async with asyncio.timeout(20):
            assert (await task.wait()).status is TaskStatus.COMPLETED
            await until(lambda: receiver.statistics().accepted == 1)
        await hostile(receiver)


@pytest.mark.parametrize("make", [plain, starlette, web])
async def test_a_delivery_that_breaks_off_is_no_trouble(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    on_a_server = on_aiohttp if make is web else on_uvicorn
    async with on_a_server(make) as receiver:
        address = urlsplit(receiver.url("wan-0123456789abcdef", time.time()))
        _, writer = await asyncio.open_connection("127.0.0.1", address.port, ssl=trusting_context())
        head = f"POST {address.path} HTTP/1.1\r\nHost: {PUBLIC_HOST}\r\nContent-Length: 1000\r\n\r\n"
        writer.write(head.encode() + b'{"id": "task-1", "status"')
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.transport.abort()
        async with asyncio.timeout(10):
            await until(lambda: receiver.statistics().unreadable == 1)
        await asyncio.sleep(0.1)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_all_that_is_public_says_what_it_is() -> None:
    assert [name for name in webhooks.__all__ if not getattr(webhooks, name).__doc__] == []


def an_emulator() -> Emulator:
    return Emulator(durations=50, speed=100, callback_ssl=trusting_context(), callback_hosts={PUBLIC_HOST: "127.0.0.1"})


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 — a counter sets no event
        await asyncio.sleep(0.01)


async def hostile(receiver: CallbackReceiver) -> None:
    """What strangers send is refused, and the server goes on."""
    url = receiver.url("wan-0123456789abcdef", 4e9).replace(PUBLIC_HOST, "127.0.0.1")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting_context())) as client:

        async def post(to: str, **what: Any) -> int:
            async with client.post(to, **what) as reply:
                return reply.status

        assert await post(f"{url[:-4]}AAAA", data=b"{}") == 404
        assert await post(url, data=b"{}") == 400
        assert await post(url, data=BytesIO(b" " * (2**20 + 1))) == 413
        assert await post(url, json={"id": "task-1", "status": "failed"}) == 204
    assert receiver.statistics().forged == 1
