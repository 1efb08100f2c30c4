"""A TCP server that answers as it is told, for what no well-behaved HTTP server does."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from attrs import define, field, frozen

__all__ = ["Answer", "RawServer", "Wire", "raw_server", "reply", "say"]

_LENGTH = re.compile(rb"(?im)^content-length: *(\d+)")


@frozen
class Wire:
    """The server's end of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    requests: list[bytes]

    async def request(self) -> bytes:
        """Read one request, body included, and note it."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        request = head + await self.reader.readexactly(int(length[1]) if length else 0)
        self.requests.append(request)
        return request

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """End the connection with a RST."""
        self.writer.transport.abort()

    async def forever(self) -> None:
        """Keep the connection open, silently."""
        await asyncio.Event().wait()


Answer = Callable[[Wire], Awaitable[None]]


@define
class RawServer:
    """`url` is its address without a path; `requests` those that were read; `connections` counts those accepted."""

    url: str
    port: int
    requests: list[bytes] = field(factory=list)
    connections: int = 0


@asynccontextmanager
async def raw_server(*answers: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """Each connection is given to the next of `answers`, the last one to all further ones."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = answers[min(server.connections, len(answers) - 1)]
        server.connections += 1
        try:
            await answer(Wire(reader, writer, server.requests))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listening = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    port: int = listening.sockets[0].getsockname()[1]
    server = RawServer(f"{'https' if tls else 'http'}://127.0.0.1:{port}", port)
    try:
        yield server
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listening.wait_closed()


def reply(body: bytes = b"{}", *headers: str, status: str = "200 OK") -> bytes:
    """A whole HTTP/1.1 reply; its length is told unless `headers` say how it is sent."""
    lines = [f"HTTP/1.1 {status}", *headers]
    if not any(line.lower().startswith(("content-length:", "transfer-encoding:")) for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def say(data: bytes) -> Answer:
    """Answer every request with `data`."""

    async def answer(wire: Wire) -> None:
        while True:
            await wire.request()
            await wire.send(data)

    return answer
