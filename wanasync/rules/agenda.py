"""The order in which followed tasks are looked at.

Most tasks wait for their first look, at an age that moves with everything that is learned meanwhile. So these are not
given a time: they stand in one queue for each estimate, in order of their submission, and only the head of each
queue is held against the age that holds now. After its first look a task gets a time of its own, in a heap.

Times are seconds on any one clock.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from attrs import define, field

__all__ = ["Agenda", "Planned"]

MAX_QUEUES = 64
"""Each is looked at on every turn; tasks with further estimates are given a time instead."""
MAX_OVERTAKING = 64
"""How many submissions a task may have been overtaken by: they run in parallel, so that many replies can cross."""


@define(eq=False, weakref_slot=False)
class Planned:
    """What an agenda keeps in order. `over` takes it out: its entries are skipped when they come up."""

    born: float
    estimate: float
    due: float = field(default=0.0, init=False)
    queued: bool = field(default=False, init=False)
    over: bool = field(default=False, init=False)

    def __lt__(self, other: Planned) -> bool:
        # Makes the items themselves the heap's entries: a tuple around each would cost as much as the item.
        return self.due < other.due


T = TypeVar("T", bound=Planned)


@define
class Agenda(Generic[T]):
    """All items that are to be looked at; `first_wait` gives the age at which one with that estimate is first due."""

    first_wait: Callable[[float], float]
    _unseen: dict[float, deque[T]] = field(factory=dict, init=False)
    _planned: list[T] = field(factory=list, init=False)
    _urgent: list[tuple[float, int, T]] = field(factory=list, init=False)
    _number: int = field(default=0, init=False)
    _left: int = field(default=0, init=False)

    def add(self, item: T) -> None:
        """Take in an item that was not yet looked at."""
        queue = self._unseen.get(item.estimate)
        if queue is None and len(self._unseen) < MAX_QUEUES:
            queue = self._unseen[item.estimate] = deque()
        if queue is not None and _insert(queue, item):
            item.queued = True
        else:
            self.plan(item, item.born + self.first_wait(item.estimate))

    def plan(self, item: T, due: float) -> None:
        """Give an item its time. One that still stands in line keeps the time it has."""
        if item.queued:
            return
        item.due = due
        item.queued = True
        heapq.heappush(self._planned, item)

    def urge(self, item: T, due: float) -> None:
        """Have an item looked at out of its turn; its planned look stays."""
        self._number += 1
        heapq.heappush(self._urgent, (due, self._number, item))

    def drop(self, item: T) -> None:
        """Take an item out; what is left of it is swept up when it outweighs the rest."""
        item.over = True
        self._left += item.queued
        if self._left > 1000 and self._left > len(self) // 2:
            self._sweep()

    def pop(self, until: float) -> T | None:
        """The most overdue item among those due at `until`, urgent ones first."""
        while self._urgent and self._urgent[0][0] <= until:
            item = heapq.heappop(self._urgent)[2]
            if not item.over:
                return item
        while True:
            candidate = self._head()
            if candidate is None or candidate[0] > until:
                return None
            item = self._take(candidate[1])
            if not item.over:
                return item
            self._left -= 1

    def next_due(self) -> float | None:
        """When the next item is due, perhaps one that is over; None with nothing to come."""
        head = self._head()
        if self._urgent and (head is None or self._urgent[0][0] < head[0]):
            return self._urgent[0][0]
        return head[0] if head else None

    def __len__(self) -> int:
        return len(self._planned) + sum(map(len, self._unseen.values()))

    def _head(self) -> tuple[float, float | None] | None:
        """When the first item in line is due, and the queue it stands in (None: the heap)."""
        head: tuple[float, float | None] | None = (self._planned[0].due, None) if self._planned else None
        for estimate, queue in self._unseen.items():
            due = queue[0].born + self.first_wait(estimate)
            if head is None or due < head[0]:
                head = due, estimate
        return head

    def _take(self, estimate: float | None) -> T:
        if estimate is None:
            item = heapq.heappop(self._planned)
        else:
            queue = self._unseen[estimate]
            item = queue.popleft()
            if not queue:
                del self._unseen[estimate]
        item.queued = False
        return item

    def _sweep(self) -> None:
        self._planned = [item for item in self._planned if not item.over]
        heapq.heapify(self._planned)
        kept = {estimate: deque(i for i in queue if not i.over) for estimate, queue in self._unseen.items()}
        self._unseen = {estimate: queue for estimate, queue in kept.items() if queue}
        self._left = 0


def _insert(queue: deque[T], item: T) -> bool:
    """Put an item into a queue that is in order of birth; False where it would go too far from the end."""
    if not queue or queue[-1].born <= item.born:
        queue.append(item)
        return True
    younger: list[T] = []
    while queue and queue[-1].born > item.born and len(younger) < MAX_OVERTAKING:
        younger.append(queue.pop())
    fits = not queue or queue[-1].born <= item.born
    if fits:
        queue.append(item)
    queue.extend(reversed(younger))
    return fits
