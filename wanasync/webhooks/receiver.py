"""The receiver: one core that knows no framework, and a thin door to it for each.

The order is what protects it: the token is checked before a byte of the body is read, the size before anything is
parsed, and nothing is believed of what was parsed. What passes is handed to the mailbox, and the answer goes out.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from wanasync import CallbackCodec, CallbackError, Delivery
from wanasync.webhooks.mailbox import Mailbox, opened

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["CallbackReceiver", "ReceiverStatistics"]

logger: logging.Logger = logging.getLogger("wanasync.webhooks")

Answer = tuple[int, dict[str, str], bytes]
Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

MAX_BODY = 2**20
"""Bytes; the body of a query, which a callback has, is a few thousand."""
ANSWER_WITHIN = 5.0
"""Seconds; the provider waits for 10."""
QUIET_SECONDS = 60.0
"""Between two log lines about refused deliveries, of which there may be thousands."""


@frozen
class ReceiverStatistics:
    """What one receiver has been sent. `accepted` were handed on; `forged` had no token of ours, or one too old;
    `unreadable` were too large, cut short or named no task; `failed` could not be handed on."""

    accepted: int = 0
    forged: int = 0
    unreadable: int = 0
    failed: int = 0


class CallbackReceiver:
    """Receives the provider's callbacks for `WanSession(callbacks=…)`; an ASGI app, to be put on a route.

    `public_url` is where the provider reaches that route, without its last part, the token: https on a public host
    (or on this machine, for an emulator on it). `secret` is what tokens are signed with: at least 16 bytes, the same
    in every process that receives or submits; of several, the first signs and all are accepted. A URL is good for
    `lifetime` seconds and until the end of that day. `mailbox` is how deliveries reach a session in another process:
    the path of a file, or of a directory, that these processes share, or a `Mailbox` of your own; without it they
    reach this process alone. `clock` gives unix seconds.

    A delivery is a hint: it makes the session look at its task at once. Lost, doubled, late or forged ones do no harm.

    Raises `ConfigError`.
    """

    def __init__(
        self,
        *,
        public_url: str,
        secret: str | bytes | Sequence[str | bytes],
        lifetime: float = 7 * 86_400.0,
        mailbox: Mailbox | str | os.PathLike[str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._codec = CallbackCodec(public_url, secret, lifetime)
        self._mailbox = opened(mailbox)
        self._clock = clock
        self._counts: Counter[str] = Counter()
        self._quiet_until = float("-inf")
        self._untold = 0

    # What a session asks of it.

    @property
    def public_url(self) -> str:
        return self._codec.public_url

    def url(self, idempotency_key: str, at: float) -> str:
        """The callback URL of the submission with that key, first sent `at` (unix seconds)."""
        return self._codec.url(idempotency_key, at)

    def watch(self) -> AsyncGenerator[Delivery, None]:
        """The deliveries, of this process and those that share the mailbox. Raises `CallbackError`."""
        return self._mailbox.watch()

    # What a web application asks of it.

    async def handle(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterable[bytes],
    ) -> Answer:
        """Take a delivery in; what to answer: status, headers and body.

        `path` ends in the token; what stands before it is not looked at. A body that is given in pieces is read no
        further than a megabyte, and not at all for a token that is not ours. Never raises for what a stranger sends.
        """
        length = next((value for name, value in headers.items() if name.lower() == "content-length"), None)
        pieces = _in_one_piece(body) if isinstance(body, bytes | bytearray | memoryview) else body
        return await self._answer(method, path, length, pieces)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The receiver as an ASGI app."""
        if scope["type"] != "http":
            raise CallbackError(f"a callback receiver speaks http only, not {scope['type']}")
        length = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"content-length"), None)
        status, headers, body = await self._answer(scope["method"], scope["path"], length, _asgi_body(receive))
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        await send({"type": "http.response.body", "body": body})

    async def aiohttp(self, request: web.Request) -> web.Response:
        """The receiver as a handler of aiohttp.web."""
        from aiohttp import web

        length = request.headers.get("Content-Length")
        status, headers, body = await self._answer(request.method, request.path, length, _aiohttp_body(request))
        return web.Response(status=status, headers=headers, body=body)

    def statistics(self) -> ReceiverStatistics:
        """What has come so far, to this receiver."""
        return ReceiverStatistics(**self._counts)

    # The core.

    async def _answer(self, method: str, path: str, length: str | None, pieces: AsyncIterable[bytes]) -> Answer:
        if method != "POST":
            return 405, {"allow": "POST", "content-length": "0"}, b""
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                status = await self._take(path, length, pieces)
        except TimeoutError as error:
            status = self._refuse(503, "failed", error)
        return status, {} if status == 204 else {"content-length": "0"}, b""

    async def _take(self, path: str, length: str | None, pieces: AsyncIterable[bytes]) -> int:
        try:
            key = self._codec.key(path.partition("?")[0].rstrip("/").rpartition("/")[2], self._clock())
        except CallbackError as error:
            return self._refuse(404, "forged", error)
        try:
            body = await _read(pieces, length)
            delivery = self._codec.delivery(key, body, self._clock())
        except _TooLargeError as error:
            return self._refuse(413, "unreadable", error)
        except CallbackError as error:
            return self._refuse(400, "unreadable", error)
        return 204 if delivery is None else await self._hand_on(delivery)

    async def _hand_on(self, delivery: Delivery) -> int:
        try:
            await self._mailbox.put(delivery)
        except CallbackError as error:
            return self._refuse(503, "failed", error)
        logger.debug("task %s was called back", delivery.task_id)
        self._counts["accepted"] += 1
        return 204

    def _refuse(self, status: int, kind: str, error: Exception) -> int:
        self._counts[kind] += 1
        self._untold += 1
        now = self._clock()
        if now >= self._quiet_until:
            reason = str(error) or "not answered in time"
            logger.warning("a delivery was refused, the last of %d since this was last said: %s", self._untold, reason)
            self._quiet_until, self._untold = now + QUIET_SECONDS, 0
        return status


class _TooLargeError(CallbackError):
    """More than `MAX_BODY`."""


async def _read(pieces: AsyncIterable[bytes], length: str | None) -> bytes:
    """The whole body. Raises `CallbackError`; nothing is kept beyond `MAX_BODY`."""
    if length is not None and length.isdecimal() and len(length) < 20 and int(length) > MAX_BODY:
        raise _TooLargeError(f"the body has {length} bytes")
    body = bytearray()
    async for piece in pieces:
        if len(body) + len(piece) > MAX_BODY:
            raise _TooLargeError(f"the body has more than {MAX_BODY} bytes")
        body += piece
    return bytes(body)


async def _in_one_piece(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _asgi_body(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallbackError("the body was cut short")
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


async def _aiohttp_body(request: web.Request) -> AsyncIterator[bytes]:
    from aiohttp import ClientError, http_exceptions

    try:
        async for piece in request.content.iter_any():
            yield piece
    except (ClientError, http_exceptions.HttpProcessingError, OSError) as error:
        raise CallbackError("the body was cut short") from error
