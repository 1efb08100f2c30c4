"""Reading the list and what earlier runs have left, and sending each item where its row says it stands."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable

from wanasync.engine.batch.collector import Collector
from wanasync.engine.batch.dispatcher import Dispatcher
from wanasync.engine.batch.follower import Follower
from wanasync.engine.batch.lost import LostAndFound
from wanasync.engine.batch.run import Run, paid_task
from wanasync.engine.gate import AnyGate
from wanasync.engine.reading import LIST, Requests, as_planned, chunks, fingerprint, known_list
from wanasync.errors import JournalError, RequestValidationError, WanError
from wanasync.models import BatchItem, Outcome, OutcomeState, VideoRequest
from wanasync.rules.known_list import MOST_UNLISTED, KnownList
from wanasync.rules.lifecycle import PAID_STATES, ItemEvent, ItemState
from wanasync.rules.marks import Marks
from wanasync.rules.outcomes import Next, next_step
from wanasync.rules.provenance import objection
from wanasync.rules.records import ItemRecord, PlannedItem

__all__ = ["Intake", "check_provider"]

logger: logging.Logger = logging.getLogger("wanasync.batch")

CHUNK = 200
"""Items planned in one journal transaction."""
READ_AHEAD = 400
"""Planned items held in memory; the list is read no further until they are submitted."""

PROVIDER = "provider"

_UNPAID = (ItemState.PLANNED, ItemState.REJECTED, ItemState.FAILED)


class Intake:
    """Knows which items of the list, and of earlier runs, have been met."""

    def __init__(
        self,
        run: Run,
        requests: Requests,
        gate: AnyGate,
        dispatcher: Dispatcher,
        lost: LostAndFound,
        follower: Follower,
        collector: Collector,
    ) -> None:
        self._run = run
        self._requests = requests
        self._gate = gate
        self._dispatcher = dispatcher
        self._lost = lost
        self._follower = follower
        self._collector = collector
        self._met = Marks()

    # What a run takes over from an earlier one

    async def take_over(self) -> None:
        """What is or may be paid for comes first, wherever it stands in the list: links may be dying."""
        run = self._run
        totals = await self._run.journal.totals()
        run.budget.spent = totals.committed
        run.tally.credits_reserved = totals.reserved
        run.tally.credits_used = totals.used
        async for record in self._run.journal.iter_items({ItemState.UNKNOWN}):
            self._met.add(record.seq)
            run.budget.hold(record.request)
            self._take(record)
        async for record in self._run.journal.iter_items({ItemState.ACCEPTED, ItemState.READY}):
            self._met.add(record.seq)
            self._gate.track(paid_task(record))
            self._take(record)

    # The list

    async def read(self) -> None:
        """Read the whole list; an error of its own stops the batch."""
        try:
            mark = await fingerprint(self._requests)
            known = await known_list(self._run.journal, mark)
            await (self._plan_list(mark) if known is None else self._go_on_with(known))
        except WanError:
            raise
        except Exception as error:  # noqa: BLE001 — whatever the user's list raises, what is paid for is finished
            self._run.failure = error
            self._run.stop(f"the list could not be read on: {error!r}")
        self._run.tally.is_read = True
        self._run.end_if_done()

    async def _go_on_with(self, known: KnownList) -> None:
        """The very list of an earlier run: the journal tells what that has planned of it, first what is left to do.

        What is saved is told beside it: a million outcomes take their time, and nobody should wait for them.
        """
        tally = self._run.tally
        tally.listed = known.items
        saved = self._run.spawn(self._meet_all(known, {ItemState.SAVED}, self._run.is_heard))
        await self._meet_all(known, set(ItemState) - {ItemState.SAVED}, self._has_room)
        if known.is_whole:
            tally.unlisted = len(known.unlisted)
        else:
            await self._run.journal.list_all()
            await self._plan_list(known.fingerprint, known.items)
        await saved

    async def _meet_all(self, known: KnownList, states: set[ItemState], has_room: Callable[[], bool]) -> None:
        async for records in self._run.journal.slices(states):
            await self._meet([record for record in records if record.seq not in known.unlisted])
            await self._run.until(has_room)

    async def _plan_list(self, mark: str | None, index: int = 0) -> None:
        """Plan the list, from the item at `index` on."""
        rows = await self._item_count()
        if not index:
            await self._run.journal.set_meta(LIST, "")
        async for chunk in chunks(self._requests, CHUNK, index):
            await self._run.until(self._has_room)
            await self._plan(index, chunk)
            index += len(chunk)
            if mark is not None:
                await self._run.journal.set_meta(LIST, KnownList(mark, index, is_whole=False).to_json())
        await self._compare(rows)
        if mark is not None:
            await self._remember(mark, index)

    async def _remember(self, mark: str, items: int) -> None:
        """The list was planned to its end: all rows of the journal are its own now, or known as none of its."""
        tally = self._run.tally
        if mark != await fingerprint(self._requests):
            # Somebody has saved the file meanwhile, and what was read is neither the one list nor the other.
            await self._run.journal.set_meta(LIST, "")
        elif tally.listed == items and tally.unlisted <= MOST_UNLISTED:
            known = KnownList(mark, items, is_whole=True, unlisted=await self._run.journal.unlisted())
            await self._run.journal.set_meta(LIST, known.to_json())

    async def _compare(self, known: int) -> None:
        """How the list differs from the one that an earlier run was given; `known` is how many items that had left."""
        tally, items = self._run.tally, await self._item_count()
        tally.added = items - known
        tally.unlisted = items - tally.listed
        if known and (tally.added or tally.unlisted):
            logger.info("%d items are new, %d are not in the list any more", tally.added, tally.unlisted)

    async def _item_count(self) -> int:
        return sum((await self._run.journal.counts()).values())

    def _has_room(self) -> bool:
        return len(self._dispatcher) < READ_AHEAD and self._run.is_heard()

    async def _plan(self, first_index: int, chunk: list[str | VideoRequest | BatchItem]) -> None:
        records: list[ItemRecord] = []
        async for planned in self._as_planned(first_index, chunk):
            records += planned
        self._run.tally.listed += len(records)
        await self._meet(records)

    async def _as_planned(
        self, first_index: int, chunk: list[str | VideoRequest | BatchItem]
    ) -> AsyncIterator[list[ItemRecord]]:
        """The chunk's rows. One bad entry is an outcome of its own and spoils no other."""
        planned: list[PlannedItem] = []
        for index, entry in enumerate(chunk, first_index):
            try:
                planned.append(as_planned(index, entry, self._run.template, self._run.clock()))
            except RequestValidationError as error:
                self._tell_invalid(index, None, error)
        try:
            yield await self._run.journal.plan(planned)
        except RequestValidationError:
            # Ids or file names that clash: nothing of the chunk was written, so its entries are tried one by one.
            for item in planned:
                try:
                    yield await self._run.journal.plan([item])
                except RequestValidationError as error:
                    self._tell_invalid(item.index, item.request, error)

    def _tell_invalid(self, index: int, request: VideoRequest | None, error: RequestValidationError) -> None:
        self._run.tally.taken += 1
        self._run.tell(Outcome(str(index), index, request, OutcomeState.REJECTED, error=error))

    # Each item

    async def _meet(self, records: list[ItemRecord]) -> None:
        """Go on with items of the list from where they stand; with each one once."""
        # Marked before anything is waited for: from here on its state may change.
        await self.go_on([record for record in records if self._met.add(record.seq)])

    async def go_on(self, records: list[ItemRecord]) -> None:
        """Go on with items from where they stand."""
        saved = [record for record in records if record.state is ItemState.SAVED]
        gone = await self._run.outlet.missing(saved)
        objections = await self._run.outlet.objections([r for r in records if r.state in _UNPAID])
        for record in records:
            if record.key in gone:
                record = await self._run.journal.record(record.key, ItemEvent.FILE_LOST)
            elif self._follower.may_try_again(record):
                record = await self._follower.tried_again(record)
            self._take(record, objections.get(record.key))

    def _take(self, record: ItemRecord, obstacle: RequestValidationError | None = None) -> None:
        """`obstacle` is what stands in the way of a submission."""
        run = self._run
        run.tally.taken += 1
        match next_step(record.state, run.config.on_unknown):
            case Next.SUBMIT if obstacle is not None:
                logger.warning("item %s is not submitted: %s", record.seq, obstacle)
                run.tell_of(record, state=OutcomeState.REJECTED, error=obstacle)
            case Next.SUBMIT | Next.RESUBMIT:
                self._dispatcher.add(record)
            case Next.FOLLOW:
                run.teller.item_started(record)
                # A reply that told its task would have told one of these, too.
                was_found = record.credits_reserved is None and record.estimated_time is None
                self._follower.follow(record, at_once=was_found)
            case Next.SAVE:
                run.teller.item_started(record)
                run.spawn(self._collector.save(record), record.key)
            case Next.LOOK_UP:
                self._lost.add(record, recovered=True)
            case Next.REPORT:
                run.tally.resumed += 1
                run.tell_of(record, resumed=True)


async def check_provider(run: Run) -> None:
    """Raises `JournalError` where the batch's tasks are another provider's."""
    counts = await run.journal.counts()
    under_way = sum(counts[state] for state in PAID_STATES - {ItemState.SAVED})
    here = run.config.base_url
    before = await run.journal.get_meta(PROVIDER) or ""
    reason = objection(before, here, under_way)
    if reason:
        raise JournalError(reason, str(run.directory))
    if before != here:
        await run.journal.set_meta(PROVIDER, here)
