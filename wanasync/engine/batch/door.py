"""The batch as users see it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from wanasync.config import Config
from wanasync.edges.targets import check_file_names
from wanasync.engine.announcer import Emit
from wanasync.engine.batch.collector import Collector
from wanasync.engine.batch.dispatcher import Dispatcher
from wanasync.engine.batch.follower import Follower
from wanasync.engine.batch.intake import Intake, check_provider
from wanasync.engine.batch.learned import Learned
from wanasync.engine.batch.lost import LostAndFound
from wanasync.engine.batch.outlet import Outlet
from wanasync.engine.batch.run import Run
from wanasync.engine.batch.teller import Teller
from wanasync.engine.callbacks import CallbackDesk
from wanasync.engine.gate import AnyGate
from wanasync.engine.homes import OpenJournal, opener
from wanasync.engine.pace_log import PaceLog, pace_sample
from wanasync.engine.poller import Poller
from wanasync.engine.reading import Requests
from wanasync.engine.recent import RecentTasks
from wanasync.engine.saver import Saver
from wanasync.engine.submitter import Submitter
from wanasync.errors import JournalError, RequestValidationError, SessionError, WanError
from wanasync.models import BatchItem, BatchProgress, Outcome, OutcomeState, PaceSample, VideoRequest
from wanasync.rules.budget import Budget
from wanasync.rules.destination import Destination
from wanasync.rules.records import ItemRecord
from wanasync.rules.tally import Tally
from wanasync.rules.templates import NameTemplate

__all__ = ["Batch"]


class Batch:
    """Many requests on their way to a directory of videos. Made by `WanSession.batch`.

    ``async with wan.batch(requests, to="videos/") as batch: async for outcome in batch: ...``

    Exactly one `Outcome` comes for each item of the list, in order of completion; tasks an earlier run has paid for and
    whose items have left the list since are saved and told too. A `RequestList` that an earlier run has read, unchanged
    since, is not read again: the journal tells it, and what is left of it goes first.

    A task that has not ended `Config.task_patience` seconds after its submission is told as pending, with a
    `TaskTimeoutError` that says how to go on; the next run follows it again, for ten minutes at least.

    Leaving the block stops submitting, lets POSTs on the wire end and cancels waiting and downloads; tasks go on at the
    provider and the next run goes on with them.

    Raises `JournalError` when entered, where the directory can't be written or another process works on it, and
    `SessionError` where it is read without being entered, or entered twice. An error
    raised by the list itself stops submissions, and is raised once all that was under way has been told.
    """

    def __init__(
        self,
        requests: Requests,
        destination: Destination,
        *,
        config: Config,
        gate: AnyGate,
        poller: Poller,
        saver: Saver,
        submitter: Submitter,
        recent: RecentTasks,
        desk: CallbackDesk | None = None,
        clock: Callable[[], float],
        emit: Emit | None = None,
        budget: float | None = None,
        limit: int | None = None,
        total: int | None = None,
        retry_failed: int = 0,
        journal: str | OpenJournal | None = None,
        name: NameTemplate | None = None,
    ) -> None:
        if isinstance(requests, str | bytes | VideoRequest | BatchItem):
            raise RequestValidationError("requests", requests, "must be a list of requests, not a single one")
        _check_numbers(budget=budget, limit=limit, retry_failed=retry_failed)
        self.directory: Path = destination.directory
        directory = self.directory
        self.url: str | None = destination.url
        self._open_journal = opener(journal, destination.url)
        self._submitter = submitter
        outlet = Outlet(directory, destination.url)
        self._run = run = Run(
            directory, config, clock, Teller(emit, clock, directory), Budget(budget), Tally(total), outlet
        )
        run.template = name
        self._gate = gate
        self._learned = Learned(run, gate)
        collector = Collector(run, saver)
        self._follower = Follower(run, poller, collector, again=self._again, retry_failed=retry_failed)
        lost = LostAndFound(run, gate, submitter, recent, desk, self._follower)
        self._dispatcher = Dispatcher(run, gate, submitter, self._learned, lost, self._follower, desk, limit=limit)
        self._intake = Intake(run, requests, gate, self._dispatcher, lost, self._follower, collector)
        self._lanes = (
            self._intake.read,
            self._dispatcher.dispatch,
            lost.look_up,
            self._follower.lose_patience,
            collector.watch_links,
        )
        run.on_stop = self._dispatcher.stop
        self._begun = self._is_open = self._ended = False

    def _again(self, record: ItemRecord) -> None:
        self._dispatcher.add(record)

    async def __aenter__(self) -> Self:
        if self._begun:
            raise SessionError("this batch was opened before; ask the session for another, which goes on with it")
        self._begun = True
        check_file_names()
        run = self._run
        run.outlet.prepare()
        run.journal = await self._open_journal(self.directory, now=run.clock)
        run.pace_log = PaceLog(run.journal, run.clock, self._sample)
        try:
            await check_provider(run)
            await run.outlet.open(run.journal)
            await self._learned.recall()
            await self._intake.take_over()
        except BaseException:
            await self._leave()
            raise
        self._run.begin(*(lane() for lane in self._lanes))
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._run.stopped = self._run.stopped or "left"
        await self._leave()

    async def _leave(self) -> None:
        """Cancel what waits, let POSTs on the wire be answered and written down, close the journal."""
        run = self._run
        async with contextlib.AsyncExitStack() as leaving:
            # From the last to the first, each whatever becomes of the one before, as when this is cancelled.
            leaving.push_async_callback(run.journal.close)
            leaving.callback(self._end)
            leaving.push_async_callback(self._keep_pace)
            leaving.push_async_callback(self._submitter.drain)
            # First of all: what is heard from now on would begin steps that nobody ends.
            self._follower.let_go()
            await run.cancel()

    async def _keep_pace(self) -> None:
        self._run.pace_log.take()
        # A journal that has failed was told of; that the pace is learned anew is the least of it.
        with contextlib.suppress(JournalError):
            await self._learned.keep_pace()

    def _end(self) -> None:
        self._ended = True
        self._run.end()

    def __aiter__(self) -> AsyncIterator[Outcome]:
        return self

    async def __anext__(self) -> Outcome:
        if not self._is_open:
            raise SessionError("this batch is not open: use `async with wan.batch(...) as batch:`")
        if self._ended:
            raise StopAsyncIteration
        told = await self._run.next_outcome()
        if told is not None:
            return told
        self._ended = True
        if self._run.failure is not None:
            raise self._run.failure
        raise StopAsyncIteration

    async def wait(self) -> BatchProgress:
        """Read all outcomes and drop them; for those who look at the directory or the progress instead."""
        async for _ in self:
            pass
        return self.progress()

    def stop(self, reason: str, error: WanError | None = None) -> None:
        """Submit nothing more; what is under way is finished and saved. Items not started are told as such."""
        self._run.stop(reason, error)

    @property
    def stop_error(self) -> WanError | None:
        """Why submissions were stopped, where an error was the reason."""
        return self._run.stop_error

    def _sample(self, at: float, began: float) -> PaceSample:
        return pace_sample(self._gate.statistics(), self._run.tally, len(self._follower), at, began)

    def progress(self) -> BatchProgress:
        """Where the batch stands now."""
        run, tally = self._run, self._run.tally
        counts = {state.value: tally.told[state] for state in OutcomeState}
        eta = tally.eta(
            run.clock(),
            duration=self._follower.expected_seconds,
            following=len(self._follower),
            is_stopped=run.stopped is not None,
        )
        return BatchProgress(
            total=tally.items,
            planned=len(self._dispatcher),
            submitting=tally.posting,
            following=len(self._follower),
            saving=tally.saving,
            resumed=tally.resumed,
            retried=tally.retried,
            added=tally.added,
            unlisted=tally.unlisted,
            credits_reserved=tally.credits_reserved,
            credits_used=tally.credits_used,
            eta_seconds=eta,
            stopped=run.stopped,
            **counts,
        )


def _check_numbers(**given: float | None) -> None:
    """A budget that is no number would cap nothing."""
    for name, value in given.items():
        if value is not None and not value >= 0:
            raise RequestValidationError(name, value, "must be a number of at least 0")
