"""A TCP proxy on 127.0.0.1 that can lose what passes through it: the network between a client and its server."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self

__all__ = ["Proxy"]


class Proxy:
    """Passes bytes between whoever connects to `port` and the server.

    `cut_after(word)` cuts a connection once the client has sent `word`, and the server has begun to answer it: the
    answer is lost. `stop_within(word)` lets the connection on which the client sends `word` pass what comes before it,
    and then nothing more in either direction; nobody is told. While `partitioned`, nothing passes on any of them.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._word: bytes | None = None
        self._last: bytes | None = None
        self._opened = asyncio.Event()
        self._opened.set()
        self._links: set[asyncio.Task[None]] = set()
        self.cuts = 0
        self.stopped = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._link, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.vanish()

    async def vanish(self) -> None:
        """Cut all connections, and take no more."""
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    def cut_after(self, word: bytes) -> None:
        self._word = word

    def stop_within(self, word: bytes) -> None:
        self._last = word

    @property
    def partitioned(self) -> bool:
        return not self._opened.is_set()

    @partitioned.setter
    def partitioned(self, value: bool) -> None:
        if value:
            self._opened.clear()
        else:
            self._opened.set()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        task.add_done_callback(self._links.discard)
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.transport.abort()
            return
        link = Link(self, writer, server_writer)
        ways = [asyncio.ensure_future(link.ask(reader)), asyncio.ensure_future(link.answer(server_reader))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.transport.abort()
            server_writer.transport.abort()

    async def passable(self) -> None:
        await self._opened.wait()

    def is_cut_by(self, data: bytes) -> bool:
        if self._word is None or self._word not in data:
            return False
        self._word = None
        self.cuts += 1
        return True

    def passing(self, data: bytes) -> bytes:
        """What of it passes; less than all on a connection that stops here."""
        if self._last is None or self._last not in data:
            return data
        place, self._last = data.index(self._last), None
        self.stopped.set()
        return data[:place]


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._is_cut = self._is_stopped = False

    async def ask(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65_536):
            await self._proxy.passable()
            self._is_cut = self._is_cut or self._proxy.is_cut_by(data)
            passing = self._proxy.passing(data)
            await self._pass(passing, self._server)
            if len(passing) < len(data):
                self._is_stopped = True
                await asyncio.Event().wait()

    async def answer(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65_536):
            await self._proxy.passable()
            if self._is_cut:
                return  # and with it both connections
            if self._is_stopped:
                await asyncio.Event().wait()
            await self._pass(data, self._client)

    async def _pass(self, data: bytes, to: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            to.write(data)
            await to.drain()
