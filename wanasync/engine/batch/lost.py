"""Submissions whose reply was lost: what do the provider's list, and its callbacks, tell of them?"""

from __future__ import annotations

import asyncio
import logging

from wanasync.engine.batch.follower import Follower
from wanasync.engine.batch.run import Run
from wanasync.engine.callbacks import CALLBACK_WAIT, CallbackDesk
from wanasync.engine.gate import AnyGate
from wanasync.engine.recent import RecentTasks
from wanasync.engine.submitter import Submitter
from wanasync.errors import SubmissionUnknownError
from wanasync.rules.lifecycle import ItemEvent, TransitionError
from wanasync.rules.outcomes import unknown_reason
from wanasync.rules.records import ItemRecord
from wanasync.rules.resolution import Resolution, Unanswered

__all__ = ["LostAndFound"]

logger: logging.Logger = logging.getLogger("wanasync.batch")

LOOK_UP_AFTER = 15.0
"""Seconds after a lost reply before the provider's list is asked: a task may be some time in coming there, and replies
are seldom lost alone."""
CATCH_UP = 5.0
"""Seconds in which callbacks that came before this run are read."""


class LostAndFound:
    """Keeps the items whose submission may have been accepted, until they are found or told as unknown."""

    def __init__(
        self,
        run: Run,
        gate: AnyGate,
        submitter: Submitter,
        recent: RecentTasks,
        desk: CallbackDesk | None,
        follower: Follower,
    ) -> None:
        self._run = run
        self._desk = desk
        self._gate = gate
        self._submitter = submitter
        self._recent = recent
        self._follower = follower
        self._lost: list[ItemRecord] = []
        self._recovered: set[str] = set()

    def add(self, record: ItemRecord, *, recovered: bool = False) -> None:
        """`recovered` is what an earlier run has lost."""
        self._lost.append(record)
        if recovered:
            self._recovered.add(record.key)
        self._run.poke()

    async def look_up(self) -> None:
        """Look for whatever is lost, as long as the batch goes on."""
        while True:
            await self._run.until(lambda: bool(self._lost))
            # What comes while these ripen is not ripe yet: it has its own turn.
            lost, self._lost = self._lost, []
            if self._recent.is_offered:
                await asyncio.sleep(self._too_early(lost))
            await self._resolve(lost)

    def _too_early(self, lost: list[ItemRecord]) -> float:
        now = self._run.clock()
        # A clock that was set back must not make this wait for long.
        return min(max((record.updated_at or now) + LOOK_UP_AFTER - now for record in lost), LOOK_UP_AFTER)

    async def _resolve(self, lost: list[ItemRecord]) -> None:
        resolution = Resolution()
        if self._recent.is_offered:
            submitter, longest = self._submitter, self._run.config.read_timeout
            resolution = await self._recent.find(
                lost, self._run.journal, submitter.recently_accepted, submitter.recently_lost, longest
            )
        for record in lost:
            task_id = resolution.found.get(record.key)
            candidates = resolution.candidates.get(record.key, ())
            if task_id is not None:
                logger.warning("a lost submission was found in the list of tasks, by its time alone: task %s", task_id)
                await self._found(record, task_id, by="list")
            elif self._desk is not None and record.request.callback_url is None:
                self._run.spawn(self._wait_for_callback(self._desk, record, candidates))
            else:
                self._still_unknown(record, candidates)

    async def _wait_for_callback(self, desk: CallbackDesk, record: ItemRecord, candidates: tuple[str, ...]) -> None:
        sent = record.submitted_at or 0.0
        unanswered = Unanswered(record.idempotency_key, record.request.model, sent)
        wait = max(sent + CALLBACK_WAIT - self._run.clock(), CATCH_UP)
        found = await desk.task_of(unanswered, min(wait, CALLBACK_WAIT), self._is_known)
        if found is None:
            self._still_unknown(record, candidates)
        else:
            logger.info("a lost submission was called back: task %s", found.id)
            await self._found(record, found.id, by="callback")

    async def _is_known(self, task_id: str) -> bool:
        ours = await self._run.journal.known_tasks([task_id])
        return task_id in ours or task_id in self._submitter.recently_accepted

    async def _found(self, record: ItemRecord, task_id: str, *, by: str) -> None:
        run, request = self._run, record.request
        try:
            record = await run.journal.record(record.key, ItemEvent.RESOLVED, task_id=task_id)
        except TransitionError as error:
            await run.beaten(record.key, error)
            return
        run.budget.reserve(request, run.budget.price(request))
        run.teller.found(record, task_id, by)
        self._gate.track(task_id)
        self._follower.follow(record, at_once=True)

    def _still_unknown(self, record: ItemRecord, candidates: tuple[str, ...]) -> None:
        run, resumed = self._run, record.key in self._recovered
        run.tally.resumed += resumed
        error = SubmissionUnknownError(unknown_reason(record), record.idempotency_key, candidates=candidates)
        run.tell_of(record, error=error, resumed=resumed)
