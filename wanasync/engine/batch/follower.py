"""Following the tasks that are paid for, to their end."""

from __future__ import annotations

import logging
from collections.abc import Callable

from wanasync.engine.batch.collector import Collector
from wanasync.engine.batch.run import Run, paid_task, stop_reason
from wanasync.engine.poller import Poller
from wanasync.engine.task import failed
from wanasync.errors import TaskError, WanError
from wanasync.models import TaskSnapshot, TaskStatus
from wanasync.rules.failures import may_try_again, wait_before
from wanasync.rules.lifecycle import ItemEvent, ItemState
from wanasync.rules.links import death_of
from wanasync.rules.outcomes import outcome
from wanasync.rules.records import ItemRecord

__all__ = ["Follower"]

logger = logging.getLogger("wanasync.batch")


class Follower:
    """Knows which tasks are under way, and whose they are. `again` takes an item that is to have another task."""

    def __init__(
        self,
        run: Run,
        poller: Poller,
        collector: Collector,
        *,
        again: Callable[[ItemRecord], None],
        retry_failed: int,
    ) -> None:
        self._run = run
        self._poller = poller
        self._collector = collector
        self._again = again
        self._retry_failed = retry_failed
        self._live: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._live)

    @property
    def expected_seconds(self) -> float | None:
        """What a task takes, as far as is known."""
        return self._poller.statistics().expected_seconds

    def follow(self, record: ItemRecord) -> None:
        task_id = paid_task(record)
        self._live[task_id] = record.key
        self._run.teller.wait_started(record, task_id)
        self._poller.follow(
            task_id, self._heard, submitted_at=record.submitted_at, estimated_time=record.estimated_time
        )

    def let_go(self) -> None:
        for task_id in self._live:
            self._poller.unfollow(task_id, self._heard)
            self._run.teller.wait_ended(task_id)

    def _heard(self, news: TaskSnapshot | WanError) -> None:
        if isinstance(news, TaskError):
            self._run.teller.wait_ended(news.task_id, news)
            self._run.spawn(self._lost(self._live.pop(news.task_id), news))
        elif isinstance(news, WanError):
            self._deaf(news)
        elif news.is_final:
            self._run.teller.wait_ended(news.id, news)
            self._run.spawn(self._finished(self._live.pop(news.id), news))

    def _deaf(self, error: WanError) -> None:
        """No poll can succeed any more: all tasks are left for the next run."""
        self._run.stop(stop_reason(error), error)
        live, self._live = self._live, {}
        for task_id, key in live.items():
            self._run.teller.wait_ended(task_id, error)
            self._run.spawn(self._left_pending(key, error))

    async def _left_pending(self, key: str, error: WanError) -> None:
        record = await self._run.journal.get(key)
        self._run.tell(outcome(record, self._run.directory, error=error), record)

    async def _lost(self, key: str, error: TaskError) -> None:
        record = await self._run.journal.record(key, ItemEvent.LOST, error_message=str(error))
        self._run.tell(outcome(record, self._run.directory, error=error), record)

    async def _finished(self, key: str, snapshot: TaskSnapshot) -> None:
        if snapshot.status is not TaskStatus.COMPLETED:
            await self._failed(key, snapshot)
            return
        run = self._run
        record = await run.journal.get(key)
        record = await run.journal.record(
            key,
            ItemEvent.LINKED,
            links=snapshot.links,
            link_deadline=self._deadline(snapshot, record),
            credits_used=snapshot.credits_used,
        )
        run.budget.settle(record.credits_reserved, snapshot.credits_used)
        run.tally.credits_used += snapshot.credits_used or 0.0
        await self._collector.save(record)

    def _deadline(self, snapshot: TaskSnapshot, record: ItemRecord) -> float:
        """When the links die at the earliest: they live from generation (provider's document), which is never before
        the submission, and which we may have noticed long after."""
        now = self._run.clock()
        made = min(moment for moment in (snapshot.created, record.submitted_at, now) if moment is not None)
        said = (death_of(link) for link in snapshot.links)
        return min([made + self._run.config.link_lifetime, *(death for death in said if death is not None)])

    # Tasks that failed

    async def _failed(self, key: str, snapshot: TaskSnapshot) -> None:
        run, error = self._run, failed(snapshot)
        code = snapshot.failure.code if snapshot.failure else None
        record = await run.journal.record(key, ItemEvent.FAILED, error_code=code, error_message=error.message)
        # A failed task is not charged (seen in public client code).
        run.budget.settle(record.credits_reserved, 0.0)
        if self.may_try_again(record) and run.stopped is None:
            await run.pause(wait_before(record.attempt))
        if self.may_try_again(record) and run.stopped is None:
            self._again(await self.tried_again(record))
        else:
            run.tell(outcome(record, run.directory, error=error), record)

    def may_try_again(self, record: ItemRecord) -> bool:
        failed = record.state is ItemState.FAILED
        return failed and may_try_again(record.error_code, record.attempt, self._retry_failed)

    async def tried_again(self, record: ItemRecord) -> ItemRecord:
        """The item of a failed task, planned anew: with another idempotency key, for another task."""
        logger.info("item %s is tried again, its task %s failed: %s", record.key, record.task_id, record.error_code)
        self._run.tally.retried += 1
        again = await self._run.journal.record(record.key, ItemEvent.RETRY)
        self._run.teller.item_retried(record, again)
        return again
