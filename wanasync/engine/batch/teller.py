"""Telling listeners of a batch's items. Costs nothing where nobody listens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from wanasync import events
from wanasync.engine.announcer import Emit
from wanasync.engine.task import wait_ended
from wanasync.errors import WanError
from wanasync.models import Outcome, TaskSnapshot
from wanasync.rules.deadlines import Nearing
from wanasync.rules.records import ItemRecord

__all__ = ["Teller", "name_of"]


@frozen(eq=False)
class Teller:
    """`emit` is None where nobody listens; `clock` gives unix seconds."""

    _emit: Emit | None
    _clock: Callable[[], float]
    _directory: Path

    def item_started(self, record: ItemRecord) -> None:
        if self._emit is None:
            return
        started = events.ItemStarted(
            at=self._clock(),
            idempotency_key=record.idempotency_key,
            item_id=name_of(record),
            request=record.request,
            directory=self._directory,
            task_id=record.task_id,
        )
        self._emit(started)

    def item_retried(self, failed: ItemRecord, again: ItemRecord) -> None:
        if self._emit is None:
            return
        retried = events.ItemRetried(
            at=self._clock(),
            task_id=failed.task_id,
            idempotency_key=again.idempotency_key,
            item_id=name_of(again),
        )
        self._emit(retried)

    def item_finished(self, told: Outcome, record: ItemRecord | None) -> None:
        if self._emit is not None:
            key = record.idempotency_key if record is not None else None
            self._emit(events.ItemFinished(at=self._clock(), outcome=told, idempotency_key=key))

    def found(self, record: ItemRecord, task_id: str, by: str) -> None:
        if self._emit is None:
            return
        found = events.SubmissionFound(
            at=self._clock(), task_id=task_id, idempotency_key=record.idempotency_key, item_id=name_of(record), by=by
        )
        self._emit(found)

    def wait_started(self, record: ItemRecord, task_id: str) -> None:
        if self._emit is not None:
            self._emit(events.WaitStarted(at=self._clock(), task_id=task_id, item_id=name_of(record)))

    def wait_ended(self, task_id: str, news: TaskSnapshot | WanError | None = None) -> None:
        if self._emit is not None:
            self._emit(wait_ended(self._clock(), task_id, news))

    def links_expiring(self, near: Nearing) -> None:
        if self._emit is not None:
            self._emit(events.LinksExpiring(at=self._clock(), count=near.count, left=near.left, first=near.first))


def name_of(record: ItemRecord) -> str:
    """The item as its owner knows it, which is `Outcome.id`."""
    return record.item_id or record.key
