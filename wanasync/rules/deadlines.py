"""When to warn that links die: the deadlines of finished videos that are not saved yet."""

from __future__ import annotations

import heapq

from attrs import Factory, define, frozen

__all__ = ["MARKS", "PATIENCE", "Deadlines", "Nearing"]

MARKS = (3600.0, 6 * 3600.0)
"""Seconds before a link's death at which it is warned of; the nearest first."""
PATIENCE = 60.0
"""Seconds that a video has, however late it was found, before it is warned of: most are saved in fewer."""


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
    _heaps: dict[float, list[tuple[float, str, float]]] = Factory(lambda: {mark: [] for mark in MARKS})

    def add(self, key: str, deadline: float, now: float) -> None:
        self._deadlines[key] = deadline
        for mark, heap in self._heaps.items():
            heapq.heappush(heap, (max(deadline - mark, now + PATIENCE), key, deadline))

    def remove(self, key: str) -> None:
        self._deadlines.pop(key, None)

    def next_at(self) -> float | None:
        """When the next mark is crossed, if nothing is saved until then; None where there is none."""
        return min((heap[0][0] for heap in self._heaps.values() if self._tidy(heap)), default=None)

    def crossed(self, now: float) -> list[Nearing]:
        """One for each mark that links crossed since the last call. A link that crosses two counts at the nearer."""
        told: set[str] = set()
        nearing = (self._crossed(mark, heap, now, told) for mark, heap in self._heaps.items())
        return [near for near in nearing if near is not None]

    def _crossed(self, mark: float, heap: list[tuple[float, str, float]], now: float, told: set[str]) -> Nearing | None:
        found: list[float] = []
        while self._tidy(heap) and heap[0][0] <= now:
            _, key, deadline = heapq.heappop(heap)
            if key not in told:
                told.add(key)
                found.append(deadline)
        return Nearing(len(found), mark, min(found)) if found else None

    def _tidy(self, heap: list[tuple[float, str, float]]) -> bool:
        """Drop what was saved meanwhile; whether anything is left."""
        while heap and self._deadlines.get(heap[0][1]) != heap[0][2]:
            heapq.heappop(heap)
        return bool(heap)
