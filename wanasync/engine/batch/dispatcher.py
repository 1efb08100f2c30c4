"""Taking planned items to the gate, one at a time, and posting those that are admitted."""

from __future__ import annotations

import logging
from collections import deque
from typing import assert_never

import attrs

from wanasync.edges.retrying import full_jitter
from wanasync.engine.admission import Admissions
from wanasync.engine.batch.candidate import Candidate, JournalLog
from wanasync.engine.batch.follower import Follower
from wanasync.engine.batch.learned import Learned
from wanasync.engine.batch.lost import LostAndFound
from wanasync.engine.batch.run import STOPS_THE_LANE, Run, stop_reason
from wanasync.engine.batch.teller import name_of
from wanasync.engine.callbacks import CallbackDesk
from wanasync.engine.gate import AnyGate, Ticket
from wanasync.engine.submitter import NeverSent, SubmitResult, Submitter
from wanasync.errors import APIError, BudgetExceededError, JournalError, NotFoundError, WanError
from wanasync.models import OutcomeState, TaskSnapshot
from wanasync.rules.budget import Verdict
from wanasync.rules.claims import StaleClaimError, StrayTaskError
from wanasync.rules.ledger import HeldBackError
from wanasync.rules.lifecycle import ItemState, TransitionError
from wanasync.rules.outcomes import outcome
from wanasync.rules.records import ItemRecord
from wanasync.rules.replies import Accepted, Refused, Throttled, Unknown

__all__ = ["Dispatcher"]

logger: logging.Logger = logging.getLogger("wanasync.batch")

OUTAGE_BASE, OUTAGE_CAP = 1.0, 60.0

ROOM_AGAIN = 0.5
"""Seconds until a ledger that has no room just now is asked again."""

NOT_FOUND_AT_MOST = 3
"""Submissions in a row that a host may answer with 404, before it is taken for another address than the API's."""


class Dispatcher:
    """Keeps the items that wait to be submitted, and knows whether the provider can be reached.

    `limit` is the most submissions of this run.
    """

    def __init__(
        self,
        run: Run,
        gate: AnyGate,
        submitter: Submitter,
        learned: Learned,
        lost: LostAndFound,
        follower: Follower,
        desk: CallbackDesk | None,
        *,
        limit: int | None,
    ) -> None:
        self._run = run
        self._gate = gate
        self._submitter = submitter
        self._learned = learned
        self._lost = lost
        self._follower = follower
        self._desk = desk
        self._limit = limit
        self._planned: deque[Candidate] = deque()
        self._admissions = Admissions(gate)
        self._reached = False
        self.is_held_back: bool = False
        """Whether others' submissions are waited for, since theirs may use up what may be spent."""
        self._unreached = 0
        self._not_found = 0
        self._waits = full_jitter(OUTAGE_BASE, OUTAGE_CAP)

    @property
    def _pays_anew(self) -> bool:
        """Whether what is sent again may be paid beside what was lost: then either is held against the budget."""
        return self._run.config.on_unknown == "resubmit"

    def __len__(self) -> int:
        return len(self._planned)

    def add(self, record: ItemRecord) -> None:
        again = record.state is ItemState.UNKNOWN
        is_held = again and not self._pays_anew
        self._planned.append(Candidate(record, is_held=is_held, first_sent=record.submitted_at if again else None))
        self._run.poke()

    def stop(self) -> None:
        """Wait at the gate no longer."""
        self._admissions.call_off()

    async def dispatch(self) -> None:
        """Submit what is planned, as long as the batch goes on."""
        run = self._run
        while True:
            await run.until(self._may_send)
            candidate = self._planned.popleft()
            verdict = self._verdict(candidate)
            if run.stopped is not None:
                self._not_started(candidate)
                continue
            if not candidate.is_told:
                candidate.is_told = True
                run.teller.item_started(candidate.record)
            came, ticket = run.clock(), None
            if verdict is Verdict.WAIT:
                await run.until(lambda: not run.tally.posting)
            elif run.stopped is None:  # as a listener may have told it to
                ticket = await self._admissions.admit()
            if ticket is None or not self._is_still_wanted(ticket, candidate):
                self._planned.appendleft(candidate)
                continue
            self._hold(candidate)
            candidate.waited = run.clock() - came
            run.tally.posting += 1
            run.spawn(self._submit(ticket, candidate))

    def _may_send(self) -> bool:
        if not self._planned:
            return False
        # One at a time until the provider has answered one, so that a wrong key or an empty account is told by a
        # single request; and again while it is out of reach.
        return self._run.stopped is not None or self._reached or not self._run.tally.posting

    def _verdict(self, candidate: Candidate) -> Verdict:
        run = self._run
        if self._limit is not None and run.tally.sent >= self._limit:
            if run.tally.posting:
                return Verdict.WAIT
            run.stop("limit")
        if candidate.is_held:
            return Verdict.SEND
        verdict = run.budget.verdict(candidate.request)
        if verdict is Verdict.WAIT and not run.tally.posting:
            # What is held is of unknown outcome and price, and no reply is to come that tells it.
            verdict = Verdict.STOP
        if verdict is Verdict.STOP:
            budget, needed = run.budget, run.budget.price(candidate.request) or 0.0
            run.stop("budget", BudgetExceededError(budget.cap or 0.0, budget.spent + budget.held, needed))
        return verdict

    def _is_still_wanted(self, ticket: Ticket, candidate: Candidate) -> bool:
        """Prices may have risen, or the batch been stopped, while this waited at the gate."""
        verdict = Verdict.STOP if self._run.stopped is not None else self._verdict(candidate)
        if verdict is Verdict.SEND and self._run.stopped is None:
            return True
        self._gate.release(ticket)
        return False

    def _not_started(self, candidate: Candidate) -> None:
        """An unknown one that was to be sent again stays unknown."""
        state = None if candidate.record.state is ItemState.UNKNOWN else OutcomeState.NOT_STARTED
        self._run.tell_of(candidate.record, state=state, error=self._run.stop_error)

    async def _submit(self, ticket: Ticket, candidate: Candidate) -> None:
        record = candidate.record
        log = JournalLog(self._run.journal, record, self._run.clock)
        try:
            result = await self._submitter.submit(
                ticket,
                candidate.request,
                record.idempotency_key,
                log,
                name_of(record),
                waited=candidate.waited,
                callback_url=None if self._desk is None else self._callback_url(self._desk, candidate),
            )
            candidate.record = log.record
            await self._answered(candidate, result)
        except StaleClaimError as error:
            logger.info("%s: %s; it is sent in another turn", name_of(record), error.message)
            self._back(candidate)
        except HeldBackError as error:
            await self._held_back(candidate, error)
        except StrayTaskError as error:
            # We were taken for dead, and somebody was told to send it again.
            logger.warning("%s: %s; it may have been paid twice", name_of(record), error.message)
            await self._beaten(candidate)
        except JournalError as error:
            if isinstance(error, TransitionError) and not isinstance(log.result, Accepted):
                return await self._beaten(candidate)
            if isinstance(log.result, Accepted):
                self._tell_unwritten(candidate, log.result.snapshot.id, error)
            raise
        finally:
            self._run.tally.posting -= 1
            self._run.poke()

    def _callback_url(self, desk: CallbackDesk, candidate: Candidate) -> str:
        if candidate.first_sent is None:
            candidate.first_sent = self._run.clock()
        return desk.url(candidate.record.idempotency_key, candidate.first_sent)

    async def _held_back(self, candidate: Candidate, error: HeldBackError) -> None:
        """What may be spent is told by the journal, for all who work on the batch: it has no room, or none just now."""
        if error.stopped is not None:
            self._run.stop(error.stopped, error.reason)
        else:
            # One at a time until there is.
            self._reached, self.is_held_back = False, True
            self._run.poke()
            await self._run.pause(ROOM_AGAIN)
        self._back(candidate)

    async def _beaten(self, candidate: Candidate) -> None:
        """Another process has claimed the item: it is told as it stands there."""
        run = self._run
        self._release(candidate)
        record = candidate.record = await run.journal.get(candidate.record.key)
        if record.state is ItemState.PLANNED:
            self._planned.append(candidate)  # and was turned away
        else:
            run.tell_as_it_stands(record)

    def _tell_unwritten(self, candidate: Candidate, task_id: str, error: JournalError) -> None:
        """Paid for, and the journal can't say so any more: the user is the last to whom its id can be given."""
        words = f"task {task_id} was accepted, and that could not be written down; save its video with its id"
        failure = JournalError(f"{words} ({error.message})", error.path)
        told = outcome(candidate.record, self._run.directory, state=OutcomeState.UNKNOWN, error=failure)
        self._run.tell(attrs.evolve(told, task_id=task_id), candidate.record)

    # What the provider has answered

    async def _answered(self, candidate: Candidate, result: SubmitResult) -> None:
        self._run.pace_log.note(urgent=isinstance(result, Throttled))
        self._reached, self.is_held_back = not isinstance(result, NeverSent), False
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
        run = self._run
        run.budget.reserve(candidate.request, snapshot.credits_reserved)
        run.tally.note_accepted(snapshot.credits_reserved, run.clock())
        self._follower.follow(candidate.record)
        await self._learned.keep_prices()

    def _back(self, candidate: Candidate) -> None:
        """To the front again, so that the list's order holds."""
        self._release(candidate)
        self._planned.appendleft(candidate)

    def _hold(self, candidate: Candidate) -> None:
        if not candidate.is_held:
            self._run.budget.hold(candidate.request)
            candidate.is_held = True

    def _release(self, candidate: Candidate) -> None:
        """It was not taken, so it can't cost anything; unless an earlier try of it may have been."""
        if candidate.record.state is not ItemState.UNKNOWN:
            self._run.budget.release(candidate.request)
            candidate.is_held = False

    async def _out_of_reach(self, candidate: Candidate, error: WanError) -> None:
        """Wait before the next try. A provider never reached in this run ends it; another is waited for."""
        self._unreached += 1
        self._back(candidate)
        if not self._run.tally.accepted and self._unreached >= self._run.config.connect_attempts:
            self._run.stop("the provider can't be reached", error)
            return
        await self._run.pause(next(self._waits))

    def _refused(self, candidate: Candidate, error: APIError) -> None:
        self._release(candidate)
        if isinstance(error, STOPS_THE_LANE):
            self._run.stop(stop_reason(error), error)
        # One that speaks of the model is a `BadRequestError`; this one finds nothing at the address.
        self._not_found += isinstance(error, NotFoundError)
        if self._not_found >= NOT_FOUND_AT_MOST and not self._run.tally.accepted:
            self._run.stop("nothing at this address", error)
        self._run.tell_of(candidate.record, error=error)

    async def _reply_lost(self, candidate: Candidate) -> None:
        """May be paid. Held, its price stays held against the budget; else the same key goes again."""
        run = self._run
        candidate.lost_replies += 1
        if candidate.lost_replies == 1:
            run.tally.unknown += 1
        if run.config.on_unknown == "hold":
            self._lost.add(candidate.record)
        elif candidate.lost_replies >= run.config.connect_attempts:
            run.tell_of(candidate.record)
        else:
            candidate.is_held = not self._pays_anew
            await run.pause(next(self._waits))
            self._back(candidate)
