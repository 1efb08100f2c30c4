"""What the emulator remembers for its owner: who paid for what, and what was asked how often."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, field, frozen

from wanasync.emulator.tasks import Task, TaskBook

__all__ = ["Entry", "Ledger", "RequestNote"]

_NOTES_KEPT = 20_000


@frozen
class Entry:
    """One paid task. Credits as they stand: reserved while it runs, then used (completed) or released."""

    task_id: str
    idempotency_key: str | None
    request: Mapping[str, Any]
    created: float
    status: str
    credits_reserved: float
    credits_used: float
    credits_released: float


@frozen
class RequestNote:
    """One request as the emulator saw it. `status` is None where it was left without a reply."""

    kind: str
    at: float
    status: int | None
    task_id: str | None = None
    fault: str | None = None


@define
class Ledger:
    """Counts of everything, by kind: submit, query, batch, list, credits, download, callback, other.

    `refused` counts 429s by kind; `key_leaks` requests to the video host that carried the API key; `bytes_served` the
    body bytes sent per task; `notes` the last requests in full.
    """

    _book: TaskBook
    _now: Callable[[], float]
    counts: Counter[str] = field(factory=Counter, init=False)
    refused: Counter[str] = field(factory=Counter, init=False)
    replays: int = field(default=0, init=False)
    key_leaks: int = field(default=0, init=False)
    downloads: Counter[str] = field(factory=Counter, init=False)
    bytes_served: Counter[str] = field(factory=Counter, init=False)
    callbacks_delivered: Counter[str] = field(factory=Counter, init=False)
    notes: deque[RequestNote] = field(factory=lambda: deque(maxlen=_NOTES_KEPT), init=False)

    def note(self, kind: str, status: int | None, *, task_id: str | None = None, fault: str | None = None) -> None:
        self.counts[kind] += 1
        if status == 429:
            self.refused[kind] += 1
        self.notes.append(RequestNote(kind, self._now(), status, task_id, fault))

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every task that was ever accepted, oldest first."""
        now = self._now()
        return tuple(_entry(task, now) for task in self._book)

    @property
    def credits_used(self) -> float:
        self._book.settle(self._now())
        return self._book.credits_used

    @property
    def credits_reserved(self) -> float:
        self._book.settle(self._now())
        return self._book.credits_reserved

    @property
    def credits_released(self) -> float:
        self._book.settle(self._now())
        return self._book.credits_released

    def paid_twice(self) -> dict[str, tuple[str, ...]]:
        """Prompts for which more than one task was accepted, with the tasks' ids."""
        by_prompt: dict[str, list[str]] = {}
        for task in self._book:
            by_prompt.setdefault(task.wish.prompt, []).append(task.id)
        return {prompt: tuple(ids) for prompt, ids in by_prompt.items() if len(ids) > 1}


def _entry(task: Task, now: float) -> Entry:
    ended = task.ended(now)
    used = task.credits_used(now)
    return Entry(
        task_id=task.id,
        idempotency_key=task.idempotency_key,
        request=task.request,
        created=task.created,
        status=task.status(now),
        credits_reserved=task.credits_reserved(now),
        credits_used=used,
        credits_released=task.credits - used if ended else 0.0,
    )
