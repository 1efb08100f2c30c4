"""When to warn that links die: the deadlines of finished videos that are not saved yet."""

from __future__ import annotations

import heapq

from attrs import Factory, define, frozen

__all__ = ["MARKS", "Deadlines", "Nearing"]

MARKS = (6 * 3600.0, 3600.0)
"""Seconds before a link's death at which it is warned of."""


@frozen
class Nearing:
    """So many unsaved videos have less than `left` seconds; the first of their links dies at `first` (unix seconds)."""

    count: int
    left: float
    first: float


@define(eq=False)
class Deadlines:
    """The links of videos on their way to the disk; each crosses each mark once. Times are unix seconds.

    A heap for each mark, in which what was saved meanwhile is left lying until it comes up: nothing here costs more
    than a logarithm, with a hundred thousand waiting.
    """

    _deadlines: dict[str, float] = Factory(dict)
    _heaps: dict[float, list[tuple[float, str]]] = Factory(lambda: {mark: [] for mark in MARKS})

    def add(self, key: str, deadline: float) -> None:
        self._deadlines[key] = deadline
        for heap in self._heaps.values():
            heapq.heappush(heap, (deadline, key))

    def remove(self, key: str) -> None:
        self._deadlines.pop(key, None)

    def next_at(self) -> float | None:
        """When the next mark is crossed, if nothing is saved until then; None where there is none."""
        crossings = [heap[0][0] - mark for mark, heap in self._heaps.items() if self._tidy(heap)]
        return min(crossings, default=None)

    def crossed(self, now: float) -> list[Nearing]:
        """One for each mark that links have crossed since the last call, the nearest death last."""
        return [nearing for mark, heap in self._heaps.items() if (nearing := self._crossed(mark, heap, now))]

    def _crossed(self, mark: float, heap: list[tuple[float, str]], now: float) -> Nearing | None:
        found: list[float] = []
        while self._tidy(heap) and heap[0][0] - mark <= now:
            found.append(heapq.heappop(heap)[0])
        return Nearing(len(found), mark, found[0]) if found else None

    def _tidy(self, heap: list[tuple[float, str]]) -> bool:
        """Drop what was saved meanwhile; whether anything is left."""
        while heap and self._deadlines.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return bool(heap)
