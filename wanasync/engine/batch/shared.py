"""A batch that several processes work on at once, each on the rows it is given.

The rooms are those of a batch; what differs is where work comes from and to whom it is told. Rows are handed in
(`work_off`) by whoever shares them out, instead of being read from a list, and the caller is told when all of them have
come to an end, instead of hearing of each. Nothing depends on a row being given to one process only: a submission goes
out on a claim, which one of them gets, and a step that another has taken already is told as it stands there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from attrs import Factory, define, field

from wanasync.config import Config
from wanasync.edges.journal.contract import SharedJournal
from wanasync.engine.announcer import Emit
from wanasync.engine.batch.collector import Collector
from wanasync.engine.batch.dispatcher import Dispatcher
from wanasync.engine.batch.follower import Follower
from wanasync.engine.batch.intake import Intake, check_provider
from wanasync.engine.batch.learned import Learned
from wanasync.engine.batch.lost import LostAndFound
from wanasync.engine.batch.outlet import SharedOutlet
from wanasync.engine.batch.run import Run, paid_task
from wanasync.engine.batch.teller import Teller
from wanasync.engine.callbacks import CallbackDesk
from wanasync.engine.gate import AnyGate
from wanasync.engine.pace_log import PaceLog, pace_sample
from wanasync.engine.poller import Poller
from wanasync.engine.recent import RecentTasks
from wanasync.engine.saver import Saver
from wanasync.engine.submitter import Submitter
from wanasync.errors import JournalError, RequestValidationError, WanError
from wanasync.models import Outcome, OutcomeState, PaceSample
from wanasync.rules.budget import Budget
from wanasync.rules.claims import ON_THE_WIRE
from wanasync.rules.destination import Destination
from wanasync.rules.ledger import BUDGET, LIMIT
from wanasync.rules.lifecycle import ItemState, TransitionError
from wanasync.rules.records import ItemRecord
from wanasync.rules.tally import Tally

__all__ = ["STAGES", "ShareJournal", "SharedBatch"]

logger: logging.Logger = logging.getLogger("wanasync.batch")

STAGES = ("saved", "made", "accepted")
LOOK_AGAIN = 2.0
"""Seconds between two looks at submissions that others have on the wire."""
BEYOND_TIMEOUTS = 5.0
"""Seconds over the longest submission, after which one without an answer counts as given up by its maker."""


class ShareJournal(Protocol):
    """Opens a batch's journal beside others who have it open. `PostgresJournal` does."""

    async def share(self, directory: Path, /, *, now: Callable[[], float]) -> SharedJournal: ...


@define(eq=False)
class _Part:
    """Rows that somebody waits for."""

    left: set[int]
    told: Counter[OutcomeState] = Factory(Counter)
    ended: asyncio.Future[None] = field(factory=lambda: asyncio.get_running_loop().create_future())

    def take(self, seq: int, state: OutcomeState) -> None:
        self.left.discard(seq)
        self.told[state] += 1
        if not self.left:
            self.end()

    def end(self, error: BaseException | None = None) -> None:
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)


@define(eq=False)
class _SharedRun(Run):
    """Tells those who wait for rows, row by row."""

    parts: dict[int, list[_Part]] = Factory(dict)

    def hand_out(self, told: Outcome, record: ItemRecord | None) -> None:
        if record is not None:
            for part in self.parts.pop(record.seq, ()):
                part.take(record.seq, told.state)

    def end_if_done(self) -> None:
        """There is always more to come."""

    def end(self) -> None:
        parts, self.parts = self.parts, {}
        for part in {id(part): part for waiting in parts.values() for part in waiting}.values():
            part.end(self.failure)

    async def beaten(self, key: str, error: TransitionError) -> None:
        """Another process has taken the step: the item is told as it stands there."""
        logger.info("item %s: %s; another process works on it", key, error.message)
        self.tell_as_it_stands(await self.journal.get(key))


class _UntilAccepted(Follower):
    """For processes that only submit: others follow."""

    def follow(self, record: ItemRecord, *, at_once: bool = False) -> None:  # noqa: ARG002 - it is left to others
        self._run.tell_of(record)


class _UntilMade(Collector):
    """For processes that don't save: others do."""

    async def save(self, record: ItemRecord) -> None:
        self._run.tell_of(record)


class SharedBatch:
    """One process's part in a batch that several work on. Made by `WanSession.shared_batch`.

    ``async with wan.shared_batch("videos/", journal=PostgresJournal(dsn, "films")) as batch:``
    ``    await batch.work_off(1, 100)``

    Leaving the block stops submitting, lets POSTs on the wire end and cancels waiting and downloads; tasks go on at the
    provider, and whoever is given their rows next goes on with them. Raises `JournalError` when entered, where the
    database is out of reach, or the batch's tasks are another provider's.
    """

    def __init__(
        self,
        destination: Destination,
        *,
        config: Config,
        gate: AnyGate,
        poller: Poller,
        saver: Saver,
        submitter: Submitter,
        recent: RecentTasks,
        desk: CallbackDesk | None,
        clock: Callable[[], float],
        emit: Emit | None,
        journal: ShareJournal,
        until: str = "saved",
        retry_failed: int = 0,
    ) -> None:
        if until not in STAGES:
            raise RequestValidationError("until", until, "is no stage of an item's way", STAGES)
        self.directory: Path = destination.directory
        directory = self.directory
        self._share = journal.share
        self._gate = gate
        self._submitter = submitter
        outlet = SharedOutlet(directory, destination.url)
        teller = Teller(emit, clock, directory)
        self._run = run = _SharedRun(directory, config, clock, teller, Budget(None), Tally(), outlet)
        self._learned = Learned(run, gate)
        self._collector = (Collector if until == "saved" else _UntilMade)(run, saver)
        follower = _UntilAccepted if until == "accepted" else Follower
        self._follower = follower(run, poller, self._collector, again=self._again, retry_failed=retry_failed)
        self._lost = LostAndFound(run, gate, submitter, recent, desk, self._follower)
        self._dispatcher = Dispatcher(run, gate, submitter, self._learned, self._lost, self._follower, desk, limit=None)
        self._intake = Intake(run, (), gate, self._dispatcher, self._lost, self._follower, self._collector)
        self._elsewhere: dict[str, ItemRecord] = {}
        self._unread = 0
        self._given_up_after = config.connect_timeout + config.read_timeout + BEYOND_TIMEOUTS
        run.on_stop = self._dispatcher.stop
        self._is_open = False

    def _again(self, record: ItemRecord) -> None:
        self._dispatcher.add(record)

    async def __aenter__(self) -> Self:
        run = self._run
        run.outlet.prepare()
        self._journal = run.journal = await self._share(self.directory, now=run.clock)
        run.pace_log = PaceLog(run.journal, run.clock, self._sample)
        try:
            await check_provider(run)
            await run.outlet.open(run.journal)
            await self._learned.recall()
        except BaseException:
            await run.journal.close()
            raise
        run.begin(
            self._dispatcher.dispatch(),
            self._lost.look_up(),
            self._follower.lose_patience(),
            self._collector.watch_links(),
            self._look_elsewhere(),
        )
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """As leaving the block. Whoever waits for rows is told what they have come to."""
        if not self._is_open:
            return
        self._is_open = False
        run = self._run
        run.stopped = run.stopped or "left"
        async with contextlib.AsyncExitStack() as leaving:
            leaving.push_async_callback(run.journal.close)
            leaving.callback(run.end)
            leaving.callback(run.pace_log.take)
            leaving.push_async_callback(self._submitter.drain)
            self._follower.let_go()
            await run.cancel()

    async def work_off(self, first: int, last: int) -> Mapping[OutcomeState, int]:
        """Bring the items in the rows `first` to `last` to an end; how many came to which.

        Pending and not started ones are left for another time: the provider has not ended them in
        `Config.task_patience`, somebody else has them in hand, or the batch was stopped (see `stop_error`) or left.
        Raises what has broken the batch, `JournalError` mostly.
        """
        self._check()
        await self.is_spent()
        records = await self._read(first, last)
        # Left or broken meanwhile, nobody would tell of these rows any more.
        self._check()
        part = _Part({record.seq for record in records})
        if not records:
            return part.told
        fresh = [record for record in records if record.seq not in self._run.parts]
        for record in records:
            self._run.parts.setdefault(record.seq, []).append(part)
        await self._take(fresh)
        await part.ended
        part.told[OutcomeState.PENDING] += len(part.left)
        return part.told

    async def is_spent(self) -> bool:
        """Whether the batch's budget or limit is reached, for all who work on it; it goes on here once it is raised."""
        run = self._run
        if run.stopped not in (BUDGET, LIMIT):
            return False
        terms = await self._journal.terms()
        if terms is not None and terms.stopped is not None:
            return True
        if run.stopped in (BUDGET, LIMIT):
            run.stopped = run.stop_error = None
        return False

    def _check(self) -> None:
        if self._run.failure is not None:
            raise self._run.failure
        if not self._is_open:
            raise JournalError("the batch was left", str(self.directory))

    async def _read(self, first: int, last: int) -> list[ItemRecord]:
        self._unread += last - first + 1
        try:
            return await self._journal.rows(first, last)
        finally:
            self._unread -= last - first + 1

    async def _take(self, records: Iterable[ItemRecord]) -> None:
        here = []
        for record in records:
            if record.state in ON_THE_WIRE:
                self._elsewhere[record.key] = record
                continue
            if record.state is ItemState.UNKNOWN:
                self._run.budget.hold(record.request)
            elif record.state is ItemState.ACCEPTED:
                self._gate.track(paid_task(record))
            here.append(record)
        await self._intake.go_on(here)

    async def _look_elsewhere(self) -> None:
        """Wait for the answers to others' submissions, and for the end of those whose makers are gone."""
        while True:
            # What dead processes had on the wire also takes room in the batch's budget.
            await self._run.until(lambda: bool(self._elsewhere) or self._dispatcher.is_held_back)
            await asyncio.sleep(LOOK_AGAIN)
            await self._journal.settle_interrupted(self._given_up_after)
            found = await self._journal.find(list(self._elsewhere))
            answered = [record for record in found.values() if record.state not in ON_THE_WIRE]
            for record in answered:
                del self._elsewhere[record.key]
            await self._take(answered)

    # How it stands

    @property
    def waiting(self) -> int:
        """How many items are in hand and not submitted yet."""
        return self._unread + len(self._dispatcher) + self._run.tally.posting

    @property
    def in_hand(self) -> int:
        """How many items are in hand."""
        return len(self._run.parts)

    @property
    def stopped(self) -> str | None:
        """Why nothing more is submitted here; None while it is."""
        return self._run.stopped

    @property
    def stop_error(self) -> WanError | None:
        """Why submissions were stopped, where an error was the reason."""
        return self._run.stop_error

    def stop(self, reason: str, error: WanError | None = None) -> None:
        """Submit nothing more; what is under way is finished and saved."""
        self._run.stop(reason, error)

    def _sample(self, at: float, began: float) -> PaceSample:
        return pace_sample(self._gate.statistics(), self._run.tally, len(self._follower), at, began)
