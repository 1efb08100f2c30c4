"""Emulated tasks. A task's state is computed from the clock when somebody looks; nothing runs meanwhile."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import define, field

from wanasync.emulator.timing import Progress
from wanasync.emulator.trouble import Fault
from wanasync.emulator.validation import Wish

__all__ = ["FAILURES", "Task", "TaskBook"]

COMPLETED, FAILED, CANCELLED = "completed", "failed", "cancelled"

# Codes and messages of the public error page of the API family; the set is open.
FAILURES: Mapping[str, str] = {
    "content_policy_violation": "Content policy violation.\nThe request was blocked by safety filters.",
    "invalid_parameters": "The model refused these parameters",
    "generation_failed_no_content": "The model returned no content",
    "service_error": "The generation service failed",
    "generation_timeout": "Generation took too long",
    "resource_exhausted": "No capacity at the moment",
    "quota_exceeded": "Too many tasks at the moment, try again later",
    "service_unavailable": "The generation service is not available",
    "resource_not_found": "An input could not be fetched",
    "request_cancelled": "The request was cancelled",
    "unknown_error": "Something went wrong",
}


@define(eq=False)
class Task:
    """One task. Times are unix seconds; `ends` is None while nobody can know (its video is being rendered)."""

    id: str
    wish: Wish
    request: Mapping[str, Any]
    idempotency_key: str | None
    created: float
    starts: float
    planned_end: float
    credits: float
    outcome: str = COMPLETED
    failure: str | None = None
    quirks: tuple[Fault, ...] = ()
    ends: float | None = None

    def ended(self, now: float) -> bool:
        return self.ends is not None and now >= self.ends

    def status(self, now: float) -> str:
        """One of the words of the provider's document (and cancelled, which its callbacks know)."""
        if self.ended(now):
            return self.outcome
        return "pending" if now < self.starts else "processing"

    def progress(self, now: float, curve: Progress) -> int:
        """0 to 100; falls back to 0 when the task fails, as the provider's does."""
        if self.ended(now):
            return 100 if self.outcome == COMPLETED else 0
        whole = self.planned_end - self.starts
        share = (now - self.starts) / whole if whole > 0 else 0.0
        return min(99, int(100 * curve(min(max(share, 0.0), 1.0))))

    def credits_used(self, now: float) -> float:
        return self.credits if self.ended(now) and self.outcome == COMPLETED else 0.0

    def credits_reserved(self, now: float) -> float:
        return 0.0 if self.ended(now) else self.credits


@define(eq=False)
class TaskBook:
    """All tasks, who of them is under way, and what they cost so far. `credits_*` are totals."""

    credits_used: float = 0.0
    credits_reserved: float = 0.0
    credits_released: float = 0.0
    _tasks: dict[str, Task] = field(factory=dict, init=False)
    _ends: list[tuple[float, int, Task]] = field(factory=list, init=False)
    _open: int = field(default=0, init=False)
    _order: Iterator[int] = field(factory=itertools.count, init=False)

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def newest_first(self) -> Iterator[Task]:
        return reversed(self._tasks.values())

    def get(self, task_id: str) -> Task | None:
        return self._tasks.get(task_id)

    def add(self, task: Task) -> None:
        self._tasks[task.id] = task
        self._open += 1
        self.credits_reserved += task.credits
        if task.ends is not None:
            self._note_end(task, task.ends)

    def end(self, task: Task, when: float, *, outcome: str | None = None, failure: str | None = None) -> None:
        """Let a task that is under way end at `when`, its planned outcome replaced where one is given."""
        task.ends = when
        if outcome:
            task.outcome, task.failure = outcome, failure
        self._note_end(task, when)

    def under_way(self, now: float) -> int:
        self.settle(now)
        return self._open

    def next_end(self, now: float) -> float | None:
        self.settle(now)
        return self._ends[0][0] if self._ends else None

    def settle(self, now: float) -> None:
        """Bill what has ended by now: a completed task is charged, any other gets its credits back."""
        while self._ends and self._ends[0][0] <= now:
            when, _, task = heapq.heappop(self._ends)
            # An end that was moved (cancelled, say) leaves its old entry behind.
            if when == task.ends:
                self._bill(task)

    def _bill(self, task: Task) -> None:
        self._open -= 1
        self.credits_reserved -= task.credits
        if task.outcome == COMPLETED:
            self.credits_used += task.credits
        else:
            self.credits_released += task.credits

    def _note_end(self, task: Task, when: float) -> None:
        heapq.heappush(self._ends, (when, next(self._order), task))
