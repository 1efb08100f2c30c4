"""A batch: a list of requests, one durable journal, and an outcome for each item in order of completion.

The data's way: the reader takes items from the list and plans them in the journal; the dispatcher takes planned items
to the gate, one at a time; each admitted one is posted; the poller tells when its task has ended; the saver brings the
video. Every step is in the journal before the next one begins, so a run that is cut anywhere goes on from there.

Items under way are known by their task id and journal key alone. Whatever else is needed is read from the journal when
it is needed: thousands of tasks in flight cost a dict entry each.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, assert_never

import attrs
from attrs import Factory, define, field

from wanasync import events
from wanasync.config import Config
from wanasync.edges.download import Existing
from wanasync.edges.journal import Journal
from wanasync.edges.retrying import full_jitter
from wanasync.engine.gate import Gate, Ticket
from wanasync.engine.poller import Poller
from wanasync.engine.reading import LIST, Requests, as_planned, chunks, fingerprint, known_list, missing_files
from wanasync.engine.recent import RecentTasks
from wanasync.engine.saver import Saver, is_passing
from wanasync.engine.submitter import NeverSent, SubmitResult, Submitter
from wanasync.engine.task import failed
from wanasync.errors import (
    APIError,
    AuthenticationError,
    BudgetExceededError,
    InsufficientCreditError,
    JournalError,
    LinkExpiredError,
    PermissionDeniedError,
    RequestValidationError,
    SubmissionUnknownError,
    TaskError,
    WanError,
)
from wanasync.models import (
    BatchItem,
    BatchProgress,
    Outcome,
    OutcomeState,
    SavedVideo,
    TaskSnapshot,
    TaskStatus,
    VideoRequest,
)
from wanasync.rules.budget import PRICES, Budget, Verdict
from wanasync.rules.deadlines import Deadlines
from wanasync.rules.failures import may_try_again, wait_before
from wanasync.rules.known_list import MOST_UNLISTED, KnownList
from wanasync.rules.lifecycle import PAID_STATES, ItemEvent, ItemState
from wanasync.rules.links import death_of
from wanasync.rules.marks import Marks
from wanasync.rules.outcomes import Next, next_step, outcome, unknown_reason
from wanasync.rules.pacing import PaceRecord
from wanasync.rules.provenance import objection
from wanasync.rules.records import ItemRecord, PlannedItem
from wanasync.rules.replies import Accepted, Refused, Throttled, Unknown
from wanasync.rules.resolution import Resolution

__all__ = ["Batch", "Requests"]

logger = logging.getLogger("wanasync.batch")

CHUNK = 200
"""Items planned in one journal transaction."""
READ_AHEAD = 400
"""Planned items held in memory; the list is read no further until they are submitted."""
UNREAD_OUTCOMES = 1000
"""A user who reads outcomes slowly slows the reading of the list, never the saving of videos."""

FEW = 5
"""Videos from which on their pace says something about the rest."""
RESAVE_BASE, RESAVE_CAP = 30.0, 600.0
"""Seconds between two rounds of a download's attempts."""
OUTAGE_BASE, OUTAGE_CAP = 1.0, 60.0
LOOK_UP_AFTER = 15.0
"""Seconds after a lost reply before the provider's list is asked: a task may be some time in coming there, and replies
are seldom lost alone."""
LONGEST_NAP = 300.0
"""Deadlines are by the wall's clock, which may be set while a nap is by the loop's."""

PACE, PROVIDER = "pace", "provider"

STOPS_THE_LANE = (AuthenticationError, PermissionDeniedError, InsufficientCreditError)
"""Refusals that speak of the key or the account, not of the item: the next submission would fare the same."""


class Batch:
    """Many requests on their way to a directory of videos. Made by `WanSession.batch`.

    ``async with wan.batch(requests, to="videos/") as batch: async for outcome in batch: ...``

    Exactly one `Outcome` comes for each item of the list, in order of completion; tasks an earlier run has paid for and
    whose items have left the list since are saved and told too. A `RequestList` that an earlier run has read, unchanged
    since, is not read again: the journal tells it, and what is left of it goes first.

    Leaving the block stops submitting, lets POSTs on the wire end and cancels waiting and downloads; tasks go on at the
    provider and the next run goes on with them.

    Raises `JournalError` when entered, where the directory can't be written or another process works on it. An error
    raised by the list itself stops submissions, and is raised once all that was under way has been told.
    """

    def __init__(
        self,
        requests: Requests,
        directory: Path,
        *,
        config: Config,
        gate: Gate,
        poller: Poller,
        saver: Saver,
        submitter: Submitter,
        recent: RecentTasks,
        clock: Callable[[], float],
        emit: Callable[[events.Event], None],
        budget: float | None = None,
        limit: int | None = None,
        total: int | None = None,
        retry_failed: int = 0,
    ) -> None:
        if isinstance(requests, str | bytes | VideoRequest | BatchItem):
            raise RequestValidationError("requests", requests, "must be a list of requests, not a single one")
        self.directory = directory
        self.stop_error: WanError | None = None
        self._requests = requests
        self._config = config
        self._gate = gate
        self._poller = poller
        self._saver = saver
        self._submitter = submitter
        self._recent = recent
        self._clock = clock
        self._emit = emit
        self._budget = Budget(budget)
        self._limit = limit
        self._total = total
        self._retry_failed = retry_failed
        self._stopped: str | None = None
        self._failure: BaseException | None = None
        self._ended = False
        self._read_all = False
        self._planned: deque[Candidate] = deque()
        self._live: dict[str, str] = {}
        self._recovered: set[str] = set()
        self._met = Marks()
        self._without_reply: list[ItemRecord] = []
        self._deadlines = Deadlines()
        self._tally = Tally()
        self._reached = False
        self._unreached = 0
        self._waits = full_jitter(OUTAGE_BASE, OUTAGE_CAP)
        self._outcomes: asyncio.Queue[Outcome | None] = asyncio.Queue()
        self._kept: dict[str, str] = {}
        self._sleepers: list[asyncio.Future[None]] = []
        self._admission: asyncio.Future[Ticket] | None = None
        self._lanes: list[asyncio.Task[None]] = []
        self._steps: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._journal = await Journal.open(self.directory, now=self._clock)
        try:
            await self._take_over()
        except BaseException:
            await self._leave()
            raise
        lanes = (self._read_list(), self._dispatch(), self._look_up_lost(), self._watch_links())
        self._lanes = [self._begin(lane) for lane in lanes]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopped = self._stopped or "left"
        await self._leave()

    async def _leave(self) -> None:
        """Cancel what waits, let POSTs on the wire be answered and written down, close the journal."""
        try:
            for task in (*self._lanes, *self._steps):
                task.cancel()
            await asyncio.gather(*self._lanes, *self._steps, return_exceptions=True)
            await self._submitter.drain()
            # A journal that has failed was told of; that the pace is learned anew is the least of it.
            with contextlib.suppress(JournalError):
                await self._keep(PACE, self._gate.learned().to_json())
        finally:
            for task_id in self._live:
                self._poller.unfollow(task_id, self._heard)
            await self._journal.close()
            self._ended = True

    def __aiter__(self) -> AsyncIterator[Outcome]:
        return self

    async def __anext__(self) -> Outcome:
        if self._ended:
            raise StopAsyncIteration
        told = await self._outcomes.get()
        if self._outcomes.qsize() == UNREAD_OUTCOMES - 1:
            self._poke()
        if told is not None:
            return told
        self._ended = True
        if self._failure is not None:
            raise self._failure
        raise StopAsyncIteration

    async def wait(self) -> BatchProgress:
        """Read all outcomes and drop them; for those who look at the directory or the progress instead."""
        async for _ in self:
            pass
        return self.progress()

    def stop(self, reason: str, error: WanError | None = None) -> None:
        """Submit nothing more; what is under way is finished and saved. Items not started are told as such."""
        if self._stopped is not None:
            return
        logger.info("submissions stop: %s", reason)
        self._stopped, self.stop_error = reason, error
        if self._admission is not None:
            self._admission.cancel()
        self._poke()

    def progress(self) -> BatchProgress:
        """Where the batch stands now."""
        tally = self._tally
        counts = {state.value: tally.told[state] for state in OutcomeState}
        return BatchProgress(
            total=tally.taken if self._read_all else self._total,
            planned=len(self._planned),
            submitting=tally.posting,
            following=len(self._live),
            saving=tally.saving,
            resumed=tally.resumed,
            retried=tally.retried,
            added=tally.added,
            unlisted=tally.unlisted,
            credits_reserved=tally.credits_reserved,
            credits_used=tally.credits_used,
            eta_seconds=self._eta(),
            stopped=self._stopped,
            **counts,
        )

    def _eta(self) -> float | None:
        """Seconds until the last video, by the pace since the first acceptance and the durations learned so far."""
        tally = self._tally
        total = tally.taken if self._read_all else self._total
        duration = self._poller.statistics().expected_seconds
        if total is None or duration is None or tally.first_accepted_at is None:
            return None
        under_way = len(self._live) + tally.saving
        to_submit = 0 if self._stopped else max(total - sum(tally.told.values()) - under_way, 0)
        elapsed = max(self._clock() - tally.first_accepted_at, 1.0)
        if to_submit + under_way == 0:
            return 0.0
        by_submitting = to_submit * elapsed / tally.accepted + duration
        by_saving = (to_submit + under_way) * tally.seconds_a_video(self._clock())
        return max(by_submitting, by_saving)

    # What a run takes over from an earlier one, and from the list.

    async def _take_over(self) -> None:
        """What is or may be paid for comes first, wherever it stands in the list: links may be dying."""
        await self._check_provider()
        await self._recall()
        totals = await self._journal.totals()
        self._budget.spent = totals.committed
        self._tally.credits_reserved = totals.reserved
        self._tally.credits_used = totals.used
        async for record in self._journal.iter_items({ItemState.UNKNOWN}):
            self._recovered.add(record.key)
            self._met.add(record.seq)
            self._budget.hold(record.request)
            self._take(record)
        async for record in self._journal.iter_items({ItemState.ACCEPTED, ItemState.READY}):
            self._recovered.add(record.key)
            self._met.add(record.seq)
            self._gate.track(paid_task(record))
            self._take(record)

    async def _check_provider(self) -> None:
        """Raises `JournalError` where the directory's tasks are another provider's."""
        counts = await self._journal.counts()
        under_way = sum(counts[state] for state in PAID_STATES - {ItemState.SAVED})
        here = self._config.base_url
        reason = objection(await self._journal.get_meta(PROVIDER) or "", here, under_way)
        if reason:
            raise JournalError(reason, str(self.directory))
        await self._keep(PROVIDER, here)

    async def _read_list(self) -> None:
        try:
            mark = await fingerprint(self._requests)
            known = await known_list(self._journal, mark)
            await (self._plan_list(mark) if known is None else self._go_on_with(known))
        except WanError:
            raise
        except Exception as error:  # noqa: BLE001 — whatever the user's list raises, what is paid for is finished
            self._failure = error
            self.stop(f"the list could not be read on: {error!r}")
        self._read_all = True
        self._end_if_done()

    async def _go_on_with(self, known: KnownList) -> None:
        """The very list of an earlier run: the journal tells what that has planned of it, first what is left to do.

        What is saved is told beside it: a million outcomes take their time, and nobody should wait for them.
        """
        self._tally.listed = known.items
        saved = self._spawn(self._meet_all(known, {ItemState.SAVED}, self._is_heard))
        await self._meet_all(known, set(ItemState) - {ItemState.SAVED}, self._has_room)
        if known.is_whole:
            self._tally.unlisted = len(known.unlisted)
        else:
            await self._journal.list_all()
            await self._plan_list(known.fingerprint, known.items)
        await saved

    async def _meet_all(self, known: KnownList, states: set[ItemState], has_room: Callable[[], bool]) -> None:
        async for records in self._journal.slices(states):
            await self._meet([record for record in records if record.seq not in known.unlisted])
            await self._until(has_room)

    async def _plan_list(self, mark: str | None, index: int = 0) -> None:
        """Plan the list, from the item at `index` on."""
        rows = await self._item_count()
        if not index:
            await self._journal.set_meta(LIST, "")
        async for chunk in chunks(self._requests, CHUNK, index):
            await self._until(self._has_room)
            await self._plan(index, chunk)
            index += len(chunk)
            if mark is not None:
                await self._journal.set_meta(LIST, KnownList(mark, index, is_whole=False).to_json())
        await self._compare(rows)
        if mark is not None:
            await self._remember(mark, index)

    async def _remember(self, mark: str, items: int) -> None:
        """The list was planned to its end: all rows of the journal are its own now, or known as none of its."""
        if mark != await fingerprint(self._requests):
            # Somebody has saved the file meanwhile, and what was read is neither the one list nor the other.
            await self._journal.set_meta(LIST, "")
        elif self._tally.listed == items and self._tally.unlisted <= MOST_UNLISTED:
            known = KnownList(mark, items, is_whole=True, unlisted=await self._journal.unlisted())
            await self._journal.set_meta(LIST, known.to_json())

    async def _compare(self, known: int) -> None:
        """How the list differs from the one that an earlier run was given; `known` is how many items that had left."""
        items = await self._item_count()
        self._tally.added = items - known
        self._tally.unlisted = items - self._tally.listed
        if known and (self._tally.added or self._tally.unlisted):
            logger.info("%d items are new, %d are not in the list any more", self._tally.added, self._tally.unlisted)

    async def _item_count(self) -> int:
        return sum((await self._journal.counts()).values())

    def _has_room(self) -> bool:
        return len(self._planned) < READ_AHEAD and self._is_heard()

    def _is_heard(self) -> bool:
        return self._outcomes.qsize() < UNREAD_OUTCOMES

    async def _plan(self, first_index: int, chunk: list[str | VideoRequest | BatchItem]) -> None:
        records: list[ItemRecord] = []
        async for planned in self._as_planned(first_index, chunk):
            records += planned
        self._tally.listed += len(records)
        await self._meet(records)

    async def _meet(self, records: list[ItemRecord]) -> None:
        """Go on with items of the list from where they stand; with each one once."""
        # Marked before anything is waited for: from here on its state may change.
        records = [record for record in records if self._met.add(record.seq)]
        saved = [record for record in records if record.state is ItemState.SAVED]
        gone = await asyncio.to_thread(missing_files, self.directory, saved) if saved else set()
        for record in records:
            if record.key in gone:
                record = await self._journal.record(record.key, ItemEvent.FILE_LOST)
            elif self._may_try_again(record):
                record = await self._tried_again(record)
            self._take(record)

    async def _as_planned(
        self, first_index: int, chunk: list[str | VideoRequest | BatchItem]
    ) -> AsyncIterator[list[ItemRecord]]:
        """The chunk's rows. One bad entry is an outcome of its own and spoils no other."""
        planned: list[PlannedItem] = []
        for index, entry in enumerate(chunk, first_index):
            try:
                planned.append(as_planned(index, entry))
            except RequestValidationError as error:
                self._tell_invalid(index, None, error)
        try:
            yield await self._journal.plan(planned)
        except RequestValidationError:
            # Ids or file names that clash: nothing of the chunk was written, so its entries are tried one by one.
            for item in planned:
                try:
                    yield await self._journal.plan([item])
                except RequestValidationError as error:
                    self._tell_invalid(item.index, item.request, error)

    def _tell_invalid(self, index: int, request: VideoRequest | None, error: RequestValidationError) -> None:
        self._tally.taken += 1
        self._tell(Outcome(str(index), index, request, OutcomeState.REJECTED, error=error))

    def _take(self, record: ItemRecord, *, again: bool = False) -> None:
        self._tally.taken += not again
        match next_step(record.state, self._config.on_unknown):
            case Next.SUBMIT | Next.RESUBMIT:
                self._planned.append(Candidate(record, is_held=record.state is ItemState.UNKNOWN))
                self._poke()
            case Next.FOLLOW:
                self._follow(record)
            case Next.SAVE:
                self._spawn(self._save(record))
            case Next.LOOK_UP:
                self._without_reply.append(record)
                self._poke()
            case Next.REPORT:
                self._tally.resumed += 1
                self._tell(outcome(record, self.directory, resumed=True))

    # Submitting.

    async def _dispatch(self) -> None:
        while True:
            await self._until(self._may_send)
            candidate = self._planned.popleft()
            verdict = self._verdict(candidate)
            if self._stopped is not None:
                self._not_started(candidate)
                continue
            ticket = None
            if verdict is Verdict.WAIT:
                await self._until(lambda: not self._tally.posting)
            else:
                ticket = await self._admit()
            if ticket is None:
                self._planned.appendleft(candidate)
                continue
            self._hold(candidate)
            self._tally.posting += 1
            self._spawn(self._submit(ticket, candidate))

    def _may_send(self) -> bool:
        if not self._planned:
            return False
        # One at a time until the provider has answered one, so that a wrong key or an empty account is told by a
        # single request; and again while it is out of reach.
        return self._stopped is not None or self._reached or not self._tally.posting

    def _verdict(self, candidate: Candidate) -> Verdict:
        if self._limit is not None and self._tally.sent >= self._limit:
            if self._tally.posting:
                return Verdict.WAIT
            self.stop("limit")
        if candidate.is_held:
            return Verdict.SEND
        verdict = self._budget.verdict(candidate.request)
        if verdict is Verdict.STOP:
            budget, needed = self._budget, self._budget.price(candidate.request) or 0.0
            self.stop("budget", BudgetExceededError(budget.cap or 0.0, budget.spent + budget.held, needed))
        return verdict

    def _not_started(self, candidate: Candidate) -> None:
        """An unknown one that was to be sent again stays unknown."""
        state = None if candidate.record.state is ItemState.UNKNOWN else OutcomeState.NOT_STARTED
        self._tell(outcome(candidate.record, self.directory, state=state, error=self.stop_error))

    async def _admit(self) -> Ticket | None:
        """A ticket from the gate; None when the batch was stopped meanwhile."""
        admission = self._admission = asyncio.ensure_future(self._gate.admit())
        try:
            return await admission
        except asyncio.CancelledError:
            if admission.done() and not admission.cancelled():
                self._gate.release(admission.result())
            if self._stopped is None or not admission.cancelled() or _being_cancelled():
                raise
            return None
        finally:
            self._admission = None

    async def _submit(self, ticket: Ticket, candidate: Candidate) -> None:
        record = candidate.record
        log = JournalLog(self._journal, record, self._clock)
        try:
            result = await self._submitter.submit(
                ticket, candidate.request, record.idempotency_key, log, record.item_id or record.key
            )
            candidate.record = log.record
            await self._answered(candidate, result)
        except JournalError as error:
            if isinstance(log.result, Accepted):
                self._tell_unwritten(candidate, log.result.snapshot.id, error)
            raise
        finally:
            self._tally.posting -= 1
            self._poke()

    def _tell_unwritten(self, candidate: Candidate, task_id: str, error: JournalError) -> None:
        """Paid for, and the journal can't say so any more: the user is the last to whom its id can be given."""
        words = f"task {task_id} was accepted, and that could not be written down; save its video with its id"
        logger.error("item %s: %s", candidate.record.key, words)
        failure = JournalError(f"{words} ({error.message})", error.path)
        told = outcome(candidate.record, self.directory, state=OutcomeState.UNKNOWN, error=failure)
        self._tell(attrs.evolve(told, task_id=task_id))

    async def _answered(self, candidate: Candidate, result: SubmitResult) -> None:
        self._reached = not isinstance(result, NeverSent)
        if self._reached:
            self._unreached = 0
            self._waits = full_jitter(OUTAGE_BASE, OUTAGE_CAP)
        match result:
            case Accepted(snapshot=snapshot):
                await self._accepted(candidate, snapshot)
            case Throttled():
                self._back(candidate)
            case NeverSent(error=unreachable):
                await self._out_of_reach(candidate, unreachable)
            case Refused(error=error):
                self._refused(candidate, error)
            case Unknown():
                await self._reply_lost(candidate)
            case _:
                assert_never(result)

    async def _accepted(self, candidate: Candidate, snapshot: TaskSnapshot) -> None:
        self._budget.reserve(candidate.request, snapshot.credits_reserved)
        tally = self._tally
        tally.accepted += 1
        tally.credits_reserved += snapshot.credits_reserved or 0.0
        if tally.first_accepted_at is None:
            tally.first_accepted_at = self._clock()
        self._follow(candidate.record)
        await self._keep(PRICES, self._budget.prices_json())

    def _back(self, candidate: Candidate) -> None:
        """To the front again, so that the list's order holds."""
        self._release(candidate)
        self._planned.appendleft(candidate)

    def _hold(self, candidate: Candidate) -> None:
        if not candidate.is_held:
            self._budget.hold(candidate.request)
            candidate.is_held = True

    def _release(self, candidate: Candidate) -> None:
        """It was not taken, so it can't cost anything; unless an earlier try of it may have been."""
        if candidate.record.state is not ItemState.UNKNOWN:
            self._budget.release(candidate.request)
            candidate.is_held = False

    async def _out_of_reach(self, candidate: Candidate, error: WanError) -> None:
        """Wait before the next try. A provider never reached in this run ends it; another is waited for."""
        self._unreached += 1
        self._back(candidate)
        if not self._tally.accepted and self._unreached >= self._config.connect_attempts:
            self.stop("the provider can't be reached", error)
            return
        await self._pause(next(self._waits))

    def _refused(self, candidate: Candidate, error: APIError) -> None:
        self._release(candidate)
        if isinstance(error, STOPS_THE_LANE):
            self.stop(stop_reason(error), error)
        self._tell(outcome(candidate.record, self.directory, error=error))

    async def _reply_lost(self, candidate: Candidate) -> None:
        """May be paid. Held, its price stays held against the budget; else the same key goes again."""
        candidate.lost_replies += 1
        if candidate.lost_replies == 1:
            self._tally.unknown += 1
        if self._config.on_unknown == "hold":
            self._without_reply.append(candidate.record)
            self._poke()
        elif candidate.lost_replies >= self._config.connect_attempts:
            self._tell(outcome(candidate.record, self.directory))
        else:
            await self._pause(next(self._waits))
            self._back(candidate)

    # Lost replies: what does the provider's list tell of them?

    async def _look_up_lost(self) -> None:
        while True:
            await self._until(lambda: bool(self._without_reply))
            if self._recent.is_offered:
                await asyncio.sleep(self._too_early())
            lost, self._without_reply = self._without_reply, []
            await self._resolve(lost)

    def _too_early(self) -> float:
        now = self._clock()
        # A clock that was set back must not make this wait for long.
        return min(
            max((record.updated_at or now) + LOOK_UP_AFTER - now for record in self._without_reply), LOOK_UP_AFTER
        )

    async def _resolve(self, lost: list[ItemRecord]) -> None:
        resolution = Resolution()
        if self._recent.is_offered:
            others = self._submitter.recently_accepted
            resolution = await self._recent.find(lost, self._journal, others, self._config.read_timeout)
        for record in lost:
            task_id = resolution.found.get(record.key)
            if task_id is not None:
                await self._found(record, task_id)
            else:
                self._still_unknown(record, resolution.candidates.get(record.key, ()))

    async def _found(self, record: ItemRecord, task_id: str) -> None:
        logger.warning("a lost submission was found in the provider's list, by its time alone: task %s", task_id)
        request = record.request
        record = await self._journal.record(record.key, ItemEvent.RESOLVED, task_id=task_id)
        self._budget.reserve(request, self._budget.price(request))
        self._emit(events.SubmissionFound(at=self._clock(), task_id=task_id, item_id=record.item_id or record.key))
        self._gate.track(task_id)
        self._follow(record)

    def _still_unknown(self, record: ItemRecord, candidates: tuple[str, ...]) -> None:
        resumed = record.key in self._recovered
        self._tally.resumed += resumed
        error = SubmissionUnknownError(unknown_reason(record), record.idempotency_key, candidates=candidates)
        self._tell(outcome(record, self.directory, error=error, resumed=resumed))

    # Following.

    def _follow(self, record: ItemRecord) -> None:
        task_id = paid_task(record)
        self._live[task_id] = record.key
        self._poller.follow(
            task_id, self._heard, submitted_at=record.submitted_at, estimated_time=record.estimated_time
        )

    def _heard(self, news: TaskSnapshot | WanError) -> None:
        if isinstance(news, TaskError):
            self._spawn(self._lost(self._live.pop(news.task_id), news))
        elif isinstance(news, WanError):
            self._deaf(news)
        elif news.is_final:
            self._spawn(self._finished(self._live.pop(news.id), news))

    def _deaf(self, error: WanError) -> None:
        """No poll can succeed any more: all tasks are left for the next run."""
        self.stop(stop_reason(error), error)
        live, self._live = self._live, {}
        for key in live.values():
            self._spawn(self._left_pending(key, error))

    async def _left_pending(self, key: str, error: WanError) -> None:
        record = await self._journal.get(key)
        if record is not None:
            self._tell(outcome(record, self.directory, error=error))

    async def _lost(self, key: str, error: TaskError) -> None:
        record = await self._journal.record(key, ItemEvent.LOST, error_message=str(error))
        self._tell(outcome(record, self.directory, error=error))

    async def _finished(self, key: str, snapshot: TaskSnapshot) -> None:
        if snapshot.status is not TaskStatus.COMPLETED:
            await self._failed(key, snapshot)
            return
        record = await self._journal.get(key)
        record = await self._journal.record(
            key,
            ItemEvent.LINKED,
            links=snapshot.links,
            link_deadline=self._deadline(snapshot, record),
            credits_used=snapshot.credits_used,
        )
        self._budget.settle(record.credits_reserved, snapshot.credits_used)
        self._tally.credits_used += snapshot.credits_used or 0.0
        await self._save(record)

    def _deadline(self, snapshot: TaskSnapshot, record: ItemRecord) -> float:
        """When the links die at the earliest: they live from generation (provider's document), which is never before
        the submission, and which we may have noticed long after."""
        now = self._clock()
        made = min(moment for moment in (snapshot.created, record.submitted_at, now) if moment is not None)
        said = (death_of(link) for link in snapshot.links)
        return min([made + self._config.link_lifetime, *(death for death in said if death is not None)])

    async def _failed(self, key: str, snapshot: TaskSnapshot) -> None:
        error = failed(snapshot)
        code = snapshot.failure.code if snapshot.failure else None
        record = await self._journal.record(key, ItemEvent.FAILED, error_code=code, error_message=error.message)
        # A failed task is not charged (seen in public client code).
        self._budget.settle(record.credits_reserved, 0.0)
        if self._may_try_again(record) and self._stopped is None:
            await self._pause(wait_before(record.attempt))
        if self._may_try_again(record) and self._stopped is None:
            self._take(await self._tried_again(record), again=True)
        else:
            self._tell(outcome(record, self.directory, error=error))

    def _may_try_again(self, record: ItemRecord) -> bool:
        failed = record.state is ItemState.FAILED
        return failed and may_try_again(record.error_code, record.attempt, self._retry_failed)

    async def _tried_again(self, record: ItemRecord) -> ItemRecord:
        """The item of a failed task, planned anew: with another idempotency key, for another task."""
        logger.info("item %s is tried again, its task %s failed: %s", record.key, record.task_id, record.error_code)
        self._tally.retried += 1
        return await self._journal.record(record.key, ItemEvent.RETRY)

    # Saving.

    async def _save(self, record: ItemRecord) -> None:
        self._tally.saving += 1
        now = self._clock()
        self._deadlines.add(record.key, record.link_deadline or now, now)
        self._poke()
        try:
            told = await self._saved(record)
        finally:
            self._tally.saving -= 1
            self._deadlines.remove(record.key)
        self._tell(told)

    async def _saved(self, record: ItemRecord) -> Outcome:
        """Fetch the video; while the network is at fault and the link alive, again and again."""
        waits = full_jitter(RESAVE_BASE, RESAVE_CAP)
        while True:
            try:
                video = await self._fetched(record)
            except WanError as error:
                if not is_passing(error) or self._clock() >= (record.link_deadline or 0.0):
                    return await self._not_saved(record, error)
                logger.warning("task %s: %s; trying again later", record.task_id, error)
                await asyncio.sleep(next(waits))
                continue
            record = await self._journal.record(record.key, ItemEvent.SAVED, bytes=video.bytes, sha256=video.sha256)
            self._emit(events.VideoSaved(at=self._clock(), video=video))
            return outcome(record, self.directory, video=video)

    async def _fetched(self, record: ItemRecord) -> SavedVideo:
        made = TaskSnapshot(
            paid_task(record), TaskStatus.COMPLETED, links=record.links, credits_used=record.credits_used
        )
        deadline = record.link_deadline or self._clock()
        # The journal gave this name to this item alone: a whole video under it is the one that a run saved which was
        # killed before it could write that down.
        return await self._saver.save(made, self.directory / record.file, deadline=deadline, existing=Existing.ADOPT)

    async def _not_saved(self, record: ItemRecord, error: WanError) -> Outcome:
        """A link found dead before its time may be a host's passing mood: the next run asks again."""
        if isinstance(error, LinkExpiredError) and self._clock() >= (record.link_deadline or 0.0):
            record = await self._journal.record(record.key, ItemEvent.EXPIRED, error_message=error.message)
        if is_disk_full(error):
            self.stop("the disk is full", error)
        return outcome(record, self.directory, error=error)

    async def _watch_links(self) -> None:
        """Warn of links that will die soon with their videos still waiting: the disk or the line is too slow."""
        while True:
            await self._until(lambda: self._deadlines.next_at() is not None)
            for near in self._deadlines.crossed(self._clock()):
                logger.warning(
                    "%d finished videos are not saved, and their links die within %g h", near.count, near.left / 3600
                )
                self._emit(events.LinksExpiring(at=self._clock(), count=near.count, left=near.left, first=near.first))
            nearest = self._deadlines.next_at()
            if nearest is not None:
                await asyncio.sleep(min(max(nearest - self._clock(), 0.0), LONGEST_NAP))

    # Telling, waking, ending.

    def _tell(self, told: Outcome) -> None:
        self._tally.told[told.state] += 1
        if told.state is OutcomeState.SAVED and not told.resumed:
            self._tally.note_saved(self._clock())
        self._outcomes.put_nowait(told)
        self._emit(events.ItemFinished(at=self._clock(), outcome=told))
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._read_all and sum(self._tally.told.values()) == self._tally.taken:
            self._outcomes.put_nowait(None)

    def _spawn(self, step: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._begin(step)
        self._steps.add(task)
        task.add_done_callback(self._steps.discard)
        return task

    def _begin(self, step: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(self._guarded(step))
        # One that is cancelled before its first turn has not begun its step, which would be reported as never awaited.
        task.add_done_callback(lambda _: step.close())
        return task

    async def _guarded(self, step: Coroutine[Any, Any, None]) -> None:
        """A step that fails (a broken journal, a bug) ends the batch with its error rather than hanging it."""
        try:
            await step
        except Exception as error:  # noqa: BLE001 — raised to the user by __anext__
            self._failure = self._failure or error
            self.stop(f"{error}", error if isinstance(error, WanError) else None)
            # What is on the wire may be accepted, and then there is still something to tell.
            await self._until(lambda: not self._tally.posting)
            self._outcomes.put_nowait(None)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._sleepers.append(sleeper)
            await sleeper

    async def _pause(self, seconds: float) -> None:
        """Sleep, but no longer than until the batch is stopped."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._until(lambda: self._stopped is not None)

    def _poke(self) -> None:
        sleepers, self._sleepers = self._sleepers, []
        for sleeper in sleepers:
            if not sleeper.done():
                sleeper.set_result(None)

    # What was learned of the provider's limits and prices is kept in the journal for the next run.

    async def _recall(self) -> None:
        for name in (PACE, PRICES):
            self._kept[name] = await self._journal.get_meta(name) or ""
        pace = PaceRecord.from_json(self._kept[PACE])
        if pace is not None:
            self._gate.teach(pace)
        self._budget.recall_prices(self._kept[PRICES])

    async def _keep(self, name: str, text: str) -> None:
        if self._kept.get(name) != text:
            self._kept[name] = text
            await self._journal.set_meta(name, text)


@define(eq=False)
class Candidate:
    """An item on its way to the gate; `record` is its row as it stands."""

    record: ItemRecord
    request: VideoRequest = field(default=Factory(lambda self: self.record.request, takes_self=True))
    lost_replies: int = 0
    is_held: bool = False
    """Its price is held against the budget."""


@define
class Tally:
    """The counts of one run, and the credits of the whole batch."""

    taken: int = 0
    resumed: int = 0
    retried: int = 0
    listed: int = 0
    added: int = 0
    unlisted: int = 0
    posting: int = 0
    saving: int = 0
    accepted: int = 0
    unknown: int = 0
    credits_reserved: float = 0.0
    credits_used: float = 0.0
    first_accepted_at: float | None = None
    first_saved_at: float | None = None
    saved: int = 0
    told: Counter[OutcomeState] = Factory(Counter)

    @property
    def sent(self) -> int:
        """Submissions of this run that are, or may be, paid."""
        return self.accepted + self.posting + self.unknown

    def note_saved(self, now: float) -> None:
        self.saved += 1
        if self.first_saved_at is None:
            self.first_saved_at = now

    def seconds_a_video(self, now: float) -> float:
        """Between two saved ones, since the first; 0 while there are too few to tell."""
        if self.first_saved_at is None or self.saved < FEW:
            return 0.0
        return (now - self.first_saved_at) / (self.saved - 1)


@define
class JournalLog:
    """Writes an item's submission down around its POST; `record` is the row as it stands, `result` what came of it."""

    _journal: Journal
    record: ItemRecord
    _clock: Callable[[], float]
    result: SubmitResult | None = None

    async def intent(self) -> None:
        again = self.record.state is ItemState.UNKNOWN
        await self._write(ItemEvent.RESUBMIT if again else ItemEvent.SUBMIT, submitted_at=self._clock())

    async def answered(self, result: SubmitResult) -> None:
        self.result = result
        event, changes = journal_event(result)
        await self._write(event, **changes)

    async def _write(self, event: ItemEvent, **changes: Any) -> None:
        self.record = await self._journal.record(self.record.key, event, **changes)


def journal_event(result: SubmitResult) -> tuple[ItemEvent, dict[str, Any]]:
    """What a submission's result means for its item's row."""
    match result:
        case Accepted(snapshot=snapshot):
            return ItemEvent.ACCEPTED, {
                "task_id": snapshot.id,
                "credits_reserved": snapshot.credits_reserved,
                "estimated_time": snapshot.estimated_time,
            }
        case Throttled() | NeverSent():
            return ItemEvent.NOT_TAKEN, {}
        case Refused(error=error) if isinstance(error, STOPS_THE_LANE):
            return ItemEvent.NOT_TAKEN, {}
        case Refused(error=error):
            return ItemEvent.REFUSED, {"error_code": str(error.code or error.status), "error_message": error.message}
        case Unknown(reason=reason):
            return ItemEvent.REPLY_LOST, {"error_message": reason}
        case _:
            assert_never(result)


def paid_task(record: ItemRecord) -> str:
    if record.task_id is None:
        raise JournalError(f"item {record.key} is {record.state} and has no task id")
    return record.task_id


def stop_reason(error: WanError) -> str:
    if isinstance(error, InsufficientCreditError):
        return "no credit"
    if isinstance(error, AuthenticationError | PermissionDeniedError):
        return "key refused"
    return str(error)


def is_disk_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and bool(task.cancelling())
