"""What the page is made from: `wanasync.BatchHistory`, or whatever else can tell the same of a batch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Protocol

from wanasync import BatchStatus, ItemChanges, ItemStatus, OutcomeState, PaceSample

__all__ = ["Source"]


class Source(Protocol):
    """A batch that is looked at from outside; see `wanasync.BatchHistory` for what each answers."""

    @property
    def directory(self) -> Path: ...
    async def status(self) -> BatchStatus: ...
    def items(self, states: Iterable[OutcomeState] | None = None) -> AsyncIterator[ItemStatus]: ...
    async def item(self, number: int) -> ItemStatus | None: ...
    async def mark(self) -> str: ...
    async def changes(self, since: str) -> ItemChanges: ...
    async def pace(self, after: float = 0.0) -> tuple[PaceSample, ...]: ...
