"""What the rooms of a batch share: whether it goes on, what it tells, and the steps under way."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from attrs import Factory, define, field

from wanasync.config import Config
from wanasync.edges.journal.contract import BatchJournal
from wanasync.engine.batch.outlet import Outlet
from wanasync.engine.batch.teller import Teller
from wanasync.engine.pace_log import PaceLog
from wanasync.errors import AuthenticationError, InsufficientCreditError, JournalError, PermissionDeniedError, WanError
from wanasync.models import Outcome, OutcomeState
from wanasync.rules.budget import Budget
from wanasync.rules.claims import ON_THE_WIRE
from wanasync.rules.lifecycle import TransitionError
from wanasync.rules.outcomes import outcome
from wanasync.rules.records import ItemRecord
from wanasync.rules.tally import Tally
from wanasync.rules.templates import NameTemplate

__all__ = ["STOPS_THE_LANE", "UNREAD_OUTCOMES", "Run", "paid_task", "stop_reason"]

logger: logging.Logger = logging.getLogger("wanasync.batch")

UNREAD_OUTCOMES = 1000
"""A user who reads outcomes slowly slows the reading of the list, never the saving of videos."""

STOPS_THE_LANE = (AuthenticationError, PermissionDeniedError, InsufficientCreditError)
"""Refusals that speak of the key or the account, not of the item: the next submission would fare the same."""


@define(eq=False)
class Run:
    """One run of a batch. `clock` gives unix seconds; `stopped` says why nothing more is submitted."""

    directory: Path
    config: Config
    clock: Callable[[], float]
    teller: Teller
    budget: Budget
    tally: Tally
    outlet: Outlet = field(default=Factory(lambda run: Outlet(run.directory), takes_self=True))
    journal: BatchJournal = field(init=False)
    """Once the batch is entered, as `pace_log`."""
    pace_log: PaceLog = field(init=False)
    template: NameTemplate | None = None
    """How videos are named that want no name of their own."""
    stopped: str | None = None
    stop_error: WanError | None = None
    failure: BaseException | None = None
    """What is raised to the user once all that was under way has been told."""
    on_stop: Callable[[], None] = lambda: None
    outcomes: asyncio.Queue[Outcome | None] = Factory(asyncio.Queue)
    _lanes: list[asyncio.Task[None]] = field(init=False, factory=list)
    _context: contextvars.Context = field(init=False, factory=contextvars.copy_context)
    _steps: set[asyncio.Task[None]] = field(init=False, factory=set)
    _sleepers: list[asyncio.Future[None]] = field(init=False, factory=list)

    def stop(self, reason: str, error: WanError | None = None) -> None:
        """Submit nothing more; what is under way goes on."""
        if self.stopped is not None:
            return
        logger.info("submissions stop: %s", reason)
        self.stopped, self.stop_error = reason, error
        self.on_stop()
        self.poke()

    # Telling

    def tell(self, told: Outcome, record: ItemRecord | None = None) -> None:
        told = self.outlet.located(told)
        self.tally.told[told.state] += 1
        if told.state is OutcomeState.SAVED and not told.resumed:
            self.tally.note_saved(self.clock())
        self.hand_out(told, record)
        self.pace_log.note()
        self.teller.item_finished(told, record)
        self.end_if_done()

    def tell_of(
        self,
        record: ItemRecord,
        *,
        state: OutcomeState | None = None,
        error: WanError | None = None,
        resumed: bool = False,
    ) -> None:
        """Tell what became of an item by its row, and by what is given beside it."""
        self.tell(outcome(record, self.directory, state=state, error=error, resumed=resumed), record)

    def tell_as_it_stands(self, record: ItemRecord) -> None:
        """Tell of an item that another process has in hand."""
        self.tell_of(record, state=OutcomeState.PENDING if record.state in ON_THE_WIRE else None)

    def hand_out(self, told: Outcome, record: ItemRecord | None) -> None:  # noqa: ARG002 - for those who go by rows
        self.outcomes.put_nowait(told)

    def end_if_done(self) -> None:
        if self.tally.is_complete:
            self.end()

    def end(self) -> None:
        """Nothing more will be told."""
        self.outcomes.put_nowait(None)

    def is_heard(self) -> bool:
        """Whether the user keeps up with the outcomes."""
        return self.outcomes.qsize() < UNREAD_OUTCOMES

    async def next_outcome(self) -> Outcome | None:
        """None once all are told."""
        told = await self.outcomes.get()
        if told is None:
            self.end()  # for whoever else reads
            return None
        if self.outcomes.qsize() == UNREAD_OUTCOMES - 1:
            self.poke()
        return told

    # Steps

    def begin(self, *lanes: Coroutine[Any, Any, None]) -> None:
        """Begin what goes on as long as the batch does."""
        self._lanes += [self._started(lane) for lane in lanes]

    def spawn(self, step: Coroutine[Any, Any, None], key: str | None = None) -> asyncio.Task[None]:
        """Begin a step of an item's way; `key` says which, where another process may have taken that step already."""
        task = self._started(step if key is None else self._unless_taken(step, key))
        self._steps.add(task)
        task.add_done_callback(self._steps.discard)
        return task

    async def cancel(self) -> None:
        """Cancel all that waits, and see it ended."""
        under_way = (*self._lanes, *self._steps)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    def _started(self, step: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # In the context of whoever made the batch, not of whatever brought the news.
        task = asyncio.get_running_loop().create_task(self._guarded(step), context=self._context.copy())
        # One that is cancelled before its first turn has not begun its step, which would be reported as never awaited.
        task.add_done_callback(lambda _: step.close())
        return task

    async def _unless_taken(self, step: Coroutine[Any, Any, None], key: str) -> None:
        try:
            await step
        except TransitionError as error:
            await self.beaten(key, error)
        finally:
            step.close()

    async def beaten(self, key: str, error: TransitionError) -> None:  # noqa: ARG002 - for those who share a batch
        """The item is not where its step began. Nobody but us moves items here, so that is a fault of ours."""
        raise error

    async def _guarded(self, step: Coroutine[Any, Any, None]) -> None:
        """A step that fails (a broken journal, a bug) ends the batch with its error rather than hanging it."""
        try:
            await step
        except Exception as error:  # noqa: BLE001 — raised to the user by __anext__
            self.failure = self.failure or error
            self.stop(f"{error}", error if isinstance(error, WanError) else None)
            # What is on the wire may be accepted, and then there is still something to tell.
            await self.until(lambda: not self.tally.posting)
            self.end()

    # Waiting

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what a `poke` after each change makes be looked at again."""
        while not condition():
            sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._sleepers.append(sleeper)
            await sleeper

    def poke(self) -> None:
        sleepers, self._sleepers = self._sleepers, []
        for sleeper in sleepers:
            if not sleeper.done():
                sleeper.set_result(None)

    async def pause(self, seconds: float) -> None:
        """Sleep, but no longer than until the batch is stopped."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.until(lambda: self.stopped is not None)


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
