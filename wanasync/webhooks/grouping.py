"""Deliveries written down in groups, for mailboxes that outlive their process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from wanasync import Delivery

__all__ = ["GroupWriter"]


class GroupWriter:
    """Writes what is put: while one group is written, what else comes gathers for the next. For one event loop."""

    def __init__(self, write: Callable[[Sequence[Delivery]], Awaitable[None]]) -> None:
        self._write = write
        self._unwritten: list[tuple[Delivery, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def put(self, delivery: Delivery) -> None:
        """Returns once it is written; raises what its group's writing raised."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unwritten.append((delivery, written))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all(), name="wanasync mailbox")
        await written

    async def _write_all(self) -> None:
        while self._unwritten:
            group, self._unwritten = self._unwritten, []
            error: Exception | None = None
            try:
                await self._write([delivery for delivery, _ in group])
            except Exception as raised:  # noqa: BLE001 — each who waits is told
                error = raised
            for _, written in group:
                if not written.done():
                    written.set_result(None) if error is None else written.set_exception(error)
