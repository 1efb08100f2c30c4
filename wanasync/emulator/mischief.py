"""Trouble done to replies of the API: what a proxy, a broken host or the network makes of them."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import cast

from aiohttp import web

from wanasync.emulator.clock import Clock
from wanasync.emulator.provider import throttled
from wanasync.emulator.refusals import KINDS, Refusal, error_body
from wanasync.emulator.settings import Settings
from wanasync.emulator.trouble import Fault

__all__ = ["GONE", "damage", "hang_up", "html_page", "json_reply", "reset", "strike"]

GONE = 499
"""Status of a reply that nobody will read, since the connection is closed; never seen on the wire."""


def json_reply(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return web.Response(body=text.encode(), status=status, headers=headers, content_type="application/json")


def html_page(status: int) -> web.Response:
    """A page as proxies make them."""
    title = f"{status} {_phrase(status)}"
    text = f"<html><head><title>{title}</title></head><body><center><h1>{title}</h1></center></body></html>"
    return web.Response(text=text, status=status, content_type="text/html")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Web server is returning an unknown error"


# --- the connection


def reset(request: web.Request) -> web.Response:
    """End the connection with a TCP reset."""
    transport = request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            # Lingering for 0 s makes close() send RST in place of FIN.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response(status=GONE)


def hang_up(request: web.Request) -> web.Response:
    """End the connection in good order; what was written goes out first."""
    if request.transport is not None:
        request.transport.close()
    return web.Response(status=GONE)


# --- in place of a reply


async def strike(request: web.Request, fault: Fault, settings: Settings, clock: Clock) -> web.Response:
    """Answer with the fault, whatever the request was."""
    if fault.name == "reset":
        return reset(request)
    if fault.name == "hangup":
        return hang_up(request)
    if fault.name == "hang":
        # On the loop's own clock: it tests the client's read timeout, which knows nothing of ours.
        await asyncio.sleep(fault.number(3600.0))
        return hang_up(request)
    if fault.name == "success_false":
        return json_reply({"success": False, "code": 500, "msg": fault.word("system busy")})
    if fault.name == "throttled":
        return refuse(throttled(settings.hint, fault.number(60.0), clock.now()), settings)
    style, _, status = fault.name.partition("_")
    if style == "http":
        return _documented(int(status), request, settings)
    return html_page(int(status)) if style == "html" else web.Response(status=int(status))


def refuse(refusal: Refusal, settings: Settings) -> web.Response:
    return json_reply(error_body(refusal, settings.errors), refusal.status, refusal.headers)


def _documented(status: int, request: web.Request, settings: Settings) -> web.Response:
    """The error that the provider documents for this status at this endpoint, else one made up in its style."""
    about_a_task = "task_id" in request.match_info
    for name, kind in KINDS.items():
        if kind.status == status and (name != "no_model" or not about_a_task):
            return refuse(Refusal(name), settings)
    return json_reply({"error": {"code": status, "message": _phrase(status), "type": "upstream_error"}}, status)


# --- to a reply


async def damage(request: web.Request, reply: web.Response, fault: Fault, clock: Clock) -> web.StreamResponse:
    """Do something to the reply of a request that was served. Refusals only come late or cut."""
    if fault.name == "slow":
        await clock.sleep(fault.number(5.0))
        return reply
    if fault.name == "cut_reply":
        return await _cut(request, reply)
    if reply.status == 200:
        return _DAMAGES[fault.name](reply)
    return reply


async def _cut(request: web.Request, reply: web.Response) -> web.StreamResponse:
    body = _body(reply)
    stream = web.StreamResponse(status=reply.status, headers=reply.headers)
    stream.content_length = len(body)
    await stream.prepare(request)
    await stream.write(body[: len(body) // 2])
    hang_up(request)
    return stream


def _body(reply: web.Response) -> bytes:
    return cast(bytes, reply.body)


def _truncated(reply: web.Response) -> web.Response:
    body = _body(reply)
    return web.Response(body=body[: len(body) * 2 // 3], content_type="application/json")


def _empty(_: web.Response) -> web.Response:
    return web.Response(content_type="application/json")


def _page(_: web.Response) -> web.Response:
    return html_page(200)


def _wrong_types(reply: web.Response) -> web.Response:
    return json_reply(_twisted(json.loads(_body(reply))))


def _twisted(value: object) -> object:
    """The same shape with numbers for words, words for numbers and lists for objects within."""
    if isinstance(value, dict):
        return {
            name: [_twisted(inner)] if isinstance(inner, dict) else _twisted(inner) for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_twisted(inner) for inner in value]
    return len(value) if isinstance(value, str) else str(value)


def _without_id(reply: web.Response) -> web.Response:
    body = json.loads(_body(reply))
    body.pop("id", None)
    return json_reply(body)


def _not_an_object(_: web.Response) -> web.Response:
    return json_reply(["ok"])


_DAMAGES: Mapping[str, Callable[[web.Response], web.Response]] = {
    "truncated_json": _truncated,
    "empty_200": _empty,
    "html_200": _page,
    "wrong_types": _wrong_types,
    "without_id": _without_id,
    "not_an_object": _not_an_object,
}
