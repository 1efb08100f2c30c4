"""Following the tasks that are paid for, to their end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from wanasync.engine.batch.collector import Collector
from wanasync.engine.batch.run import Run, paid_task, stop_reason
from wanasync.engine.poller import Poller
from wanasync.engine.task import failed
from wanasync.errors import TaskError, TaskTimeoutError, WanError
from wanasync.models import TaskSnapshot, TaskStatus
from wanasync.rules.failures import may_try_again, wait_before
from wanasync.rules.lifecycle import ItemEvent, ItemState
from wanasync.rules.links import death_of
from wanasync.rules.patience import patience_left
from wanasync.rules.records import ItemRecord

__all__ = ["Follower"]

logger: logging.Logger = logging.getLogger("wanasync.batch")

LONGEST_NAP = 300.0
"""Seconds between two looks at who has waited long enough; or a tenth of the patience, where that is less."""


class Follower:
    """Knows which tasks are under way, whose they are, and until when they are waited for.

    `again` takes an item that is to have another task.
    """

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
        # By task: the items it is for, and until when it is waited for. One, unless a host tells the same id twice.
        self._live: dict[str, list[tuple[str, float]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._live.values()))

    @property
    def expected_seconds(self) -> float | None:
        """What a task takes, as far as is known."""
        return self._poller.statistics().expected_seconds

    def follow(self, record: ItemRecord, *, at_once: bool = False) -> None:
        """`at_once` is for a task that was found: it was made without our hearing of it, and may have ended since."""
        task_id = paid_task(record)
        run = self._run
        left = patience_left(record.submitted_at, run.clock(), run.config.task_patience)
        # By the loop's clock, which nobody sets.
        items = self._live.setdefault(task_id, [])
        items.append((record.key, asyncio.get_running_loop().time() + left))
        if len(items) > 1:
            logger.warning("task %s was told for %d items; all of them end as it does", task_id, len(items))
            return
        run.teller.wait_started(record, task_id)
        self._poller.follow(
            task_id,
            self._heard,
            submitted_at=record.submitted_at,
            estimated_time=record.estimated_time,
            at_once=at_once,
        )

    def let_go(self) -> None:
        live, self._live = self._live, {}
        for task_id in live:
            self._poller.unfollow(task_id, self._heard)
            self._run.teller.wait_ended(task_id)

    def _heard(self, news: TaskSnapshot | WanError) -> None:
        if isinstance(news, TaskError):
            self._run.teller.wait_ended(news.task_id, news)
            for key, _ in self._live.pop(news.task_id, ()):
                self._run.spawn(self._lost(key, news), key)
        elif isinstance(news, WanError):
            self._deaf(news)
        elif news.is_final:
            self._run.teller.wait_ended(news.id, news)
            for key, _ in self._live.pop(news.id, ()):
                self._run.spawn(self._finished(key, news), key)

    def _deaf(self, error: WanError) -> None:
        """No poll can succeed any more: all tasks are left for the next run."""
        self._run.stop(stop_reason(error), error)
        live, self._live = self._live, {}
        for task_id, items in live.items():
            self._run.teller.wait_ended(task_id, error)
            self._leave_pending(items, error)

    def _leave_pending(self, items: list[tuple[str, float]], error: WanError) -> None:
        for key, _ in items:
            self._run.spawn(self._left_pending(key, error))

    async def _left_pending(self, key: str, error: WanError) -> None:
        record = await self._run.journal.get(key)
        self._run.tell_of(record, error=error)

    async def lose_patience(self) -> None:
        """Let go of tasks that do not end, as long as the batch goes on: it would never end itself."""
        while True:
            await asyncio.sleep(self._nap())
            now = asyncio.get_running_loop().time()
            for task_id in [task_id for task_id, items in self._live.items() if _until(items) <= now]:
                self._give_up(task_id)

    def _nap(self) -> float:
        now = asyncio.get_running_loop().time()
        soonest = min(map(_until, self._live.values()), default=now + LONGEST_NAP)
        return min(max(soonest - now, 0.0), LONGEST_NAP, self._run.config.task_patience / 10)

    def _give_up(self, task_id: str) -> None:
        self._poller.unfollow(task_id, self._heard)
        items = self._live.pop(task_id)
        patience = self._run.config.task_patience
        span = f"{patience / 3600:g} h" if patience >= 3600 else f"{patience:g} s"
        words = f"the provider has not ended it {span} after its submission"
        logger.warning("task %s: %s; it is left to the next run", task_id, words)
        error = TaskTimeoutError(f"{words}; run again to go on, or: wanasync fetch {task_id}", task_id)
        self._run.teller.wait_ended(task_id, error)
        self._leave_pending(items, error)

    async def _lost(self, key: str, error: TaskError) -> None:
        record = await self._run.journal.record(key, ItemEvent.LOST, error_message=str(error))
        self._run.tell_of(record, error=error)

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
            run.tell_of(record, error=error)

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


def _until(items: list[tuple[str, float]]) -> float:
    return max(until for _, until in items)
