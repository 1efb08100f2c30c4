"""A provider that costs as little as possible, so that the clients' own costs show: fixed replies, no limits.

It speaks the dialects of the SDKs that are compared, each below a path of its own. Below `/lost/NAME/` it takes each
POST, counts it for NAME and hangs up: the reply is lost. `GET /counted/NAME` tells the count.

`python -m benchmarks.server` prints its port and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["running"]

LINK = "https://cdn.example.com/videos/1757169743-7cvnl5zw.mp4"

# The provider's own documented shapes.
_TASK: dict[str, Any] = {
    "created": 1757169743,
    "id": "%ID%",
    "model": "wan2.5-text-to-video",
    "object": "video.generation.task",
    "progress": 0,
    "status": "pending",
    "task_info": {"can_cancel": True, "estimated_time": 120, "video_duration": 5},
    "type": "video",
    "usage": {"billing_rule": "per_second", "credits_reserved": 5, "user_group": "default"},
}
_DONE = {
    **{name: value for name, value in _TASK.items() if name != "usage"},
    "progress": 100,
    "status": "completed",
    "results": [LINK],
    "task_info": {"can_cancel": False},
}
_OPENAI = {
    "id": "%ID%",
    "object": "video",
    "created_at": 1757169743,
    "model": "sora-2",
    "progress": 0,
    "prompt": "A cat playing piano",
    "seconds": "4",
    "size": "1280x720",
    "status": "queued",
}
_FAL = {
    "request_id": "%ID%",
    "status": "IN_QUEUE",
    "queue_position": 0,
    "response_url": "%BASE%/fal/owner/app/requests/%ID%",
    "status_url": "%BASE%/fal/owner/app/requests/%ID%/status",
    "cancel_url": "%BASE%/fal/owner/app/requests/%ID%/cancel",
}
_REPLICATE = {
    "id": "%ID%",
    "model": "owner/app",
    "version": "5c7d5dc6dd8bf75c1acaa8565735e7986bc5b66206b55cca93cb72c9bf15ccaa",
    "input": {"prompt": "A cat playing piano"},
    "logs": "",
    "output": None,
    "error": None,
    "status": "starting",
    "created_at": "2026-09-06T12:00:00.000Z",
    "urls": {"get": "%BASE%/replicate/v1/predictions/%ID%", "cancel": "%BASE%/replicate/v1/predictions/%ID%/cancel"},
}
_RUNWAY = {"id": "%ID%", "estimatedCost": {"credits": 25}}

# Path below which it is served: what a POST and what a GET is answered with.
DIALECTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "wan": (_TASK, _DONE),
    "unfinished": (_TASK, {**_TASK, "status": "processing", "progress": 40}),
    "openai": (_OPENAI, {**_OPENAI, "status": "completed", "progress": 100, "completed_at": 1757169843}),
    "fal": (_FAL, {**_FAL, "status": "COMPLETED", "logs": [], "metrics": {"inference_time": 100.0}}),
    "replicate": (_REPLICATE, {**_REPLICATE, "status": "succeeded", "output": LINK}),
    "runway": (
        _RUNWAY,
        {
            "id": "%ID%",
            "createdAt": "2026-09-06T12:00:00.000Z",
            "status": "SUCCEEDED",
            "output": [LINK],
            "cost": {"credits": 25},
        },
    ),
}


def _reply(body: bytes) -> bytes:
    # As many headers as API hosts usually send.
    return (
        b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Sep 2026 12:00:00 GMT\r\nContent-Type: application/json; charset=utf-8\r\n"
        b"Connection: keep-alive\r\nServer: cloudflare\r\nX-Request-Id: 20260906120000123456789\r\n"
        b"Vary: Accept-Encoding\r\nCache-Control: no-store\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )


class _Replies:
    """Ready replies: only the id is filled in, which has the same length each time."""

    def __init__(self, base: str) -> None:
        self._ids = itertools.count(10_000_000)
        self.counts: Counter[str] = Counter()
        self._ready = {name: tuple(_template(shape, base) for shape in shapes) for name, shapes in DIALECTS.items()}

    def reply_to(self, method: bytes, path: str) -> bytes | None:
        """None: hang up."""
        name, _, rest = path.removeprefix("/").partition("/")
        if name == "lost":
            self.counts[rest.partition("/")[0]] += method == b"POST"
            return None
        if name == "counted":
            return _reply(json.dumps(self.counts[rest]).encode())
        post, get = self._ready[name]
        return (post if method == b"POST" else get) % {b"ID": b"task-unified-%d" % next(self._ids)}


def _template(shape: dict[str, Any], base: str) -> bytes:
    sample = b"task-unified-10000000"
    body = json.dumps(shape).encode().replace(b"%BASE%", base.encode())
    reply = _reply(body.replace(b"%ID%", sample))
    return reply.replace(b"%", b"%%").replace(sample, b"%(ID)b")


class _Connection(asyncio.Protocol):
    def __init__(self, replies: _Replies) -> None:
        self._replies = replies
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while self._answer_one():
            pass

    def _answer_one(self) -> bool:
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            return False
        length = _length(head)
        if len(rest) < length or self._transport is None:
            return False
        self._received = rest[length:]
        method, path, _ = head.split(b" ", 2)
        reply = self._replies.reply_to(method, path.decode())
        if reply is None:
            self._transport.close()
            return False
        self._transport.write(reply)
        return True


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line[:15].lower() == b"content-length:":
            return int(line[15:])
    return 0


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    port = listener.getsockname()[1]
    replies = _Replies(f"http://127.0.0.1:{port}")
    server = await loop.create_server(lambda: _Connection(replies), sock=listener)
    print(port, flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


@contextmanager
def running() -> Iterator[int]:
    """The server in a process of its own; gives its port."""
    command = [sys.executable, "-m", "benchmarks.server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()


if __name__ == "__main__":
    asyncio.run(_serve())
