"""The gate of a process that shares its pace with others through a database.

Who may go when is decided there (`wanasync.rules.shared_pace`), on what all have told. Here callers wait, and one task
hands in what happened and takes what is granted: one question at a time, each for all that came up meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol, Self

from attrs import evolve, field, frozen

from wanasync.engine.gate import SettledAs, Ticket
from wanasync.errors import ConfigError, JournalError, SessionError
from wanasync.models import GateStatistics, Limits
from wanasync.rules.pace_record import PaceRecord
from wanasync.rules.shared_pace import HEARTBEAT, Answer, Report, Settled, What

__all__ = ["PaceHome", "SharedGate", "SharedLimit"]

RETRY_NEWS = 5.0
"""Seconds until news that nobody waits for are handed in again, when the database was out of reach."""
LEAVE_WITHIN = 5.0
"""Seconds that a closing gate has to hand in its last news."""


class PaceHome(Protocol):
    """Where the shared pace lies."""

    async def exchange(self, report: Report) -> Answer:
        """Hand a report in. Raises `JournalError` where that can't be done for long."""
        ...

    async def close(self) -> None: ...


@frozen
class SharedLimit:
    """One limit for all processes: `WanSession(shared_limit=SharedLimit("postgresql://…"))`, or its address alone.

    What the provider's replies teach, and its pauses, are shared by all sessions that name the same database and use
    the same base URL and key, on the server's clock: a 429 that one of them gets pauses all. Interactive calls
    (`submit`, `generate`) go before batches, wherever they come from, and places are kept free for them while any come.
    A process that dies, freezes or is cut off holds up the others for seconds at most.

    Nobody submits unasked: while the database is out of reach, submissions wait, and after `patience` seconds they
    raise `JournalError`. `dsn` is what libpq takes; needs the extra `wanasync[cluster]`, and a direct connection, or
    one that a pooler gives for the whole session. Each session holds one.
    """

    dsn: str = field(repr=False)
    patience: float = 60.0

    async def open(self, base_url: str, api_key: str, *, limits: Limits | None = None) -> SharedGate:
        """The gate for this provider and key. Raises `JournalError`, and `ConfigError` where the extra is missing."""
        try:
            from wanasync.edges import postgres
        except ImportError as error:
            words = f"a shared limit needs more libraries ({error}): pip install 'wanasync[cluster]'"
            raise ConfigError(words, "shared_limit") from error
        gate = SharedGate(limits=limits)
        home = await postgres.PaceRow.open(
            self.dsn, base_url, api_key, member=gate.member, on_call=gate.called, patience=self.patience
        )
        gate.open(home)
        return gate


class SharedGate:
    """As `Gate`, with the same methods; but for one event loop, and to be closed. `SharedLimit.open` makes it.

    `admit` raises `JournalError` where the shared limit could not be asked for too long, and `SessionError` once the
    gate is closed. Its statistics count what this process sent; pauses and what is known of the limit are everybody's.
    """

    def __init__(self, *, limits: Limits | None = None, clock: Callable[[], float] = time.time) -> None:
        self.member: int = secrets.randbits(62)
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._home: PaceHome | None = None
        self._lanes: dict[bool, OrderedDict[asyncio.Future[Ticket], None]] = {True: OrderedDict(), False: OrderedDict()}
        self._asked: dict[bool, int] = {True: 0, False: 0}
        self._out: set[int] = set()
        self._settled: list[Settled] = []
        self._tracked: list[int] = []
        self._finished: list[int] = []
        self._limits = limits
        self._record: PaceRecord | None = None
        self._holds: dict[str, None] = {}
        self._asking: asyncio.Task[None] | None = None
        self._again = self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._statistics = GateStatistics()
        self._learned = PaceRecord()
        self._told_at = 0.0
        self._submitted = self._accepted = self._refused = 0

    def open(self, home: PaceHome) -> None:
        """Ask there from now on."""
        self._home = home
        self._ask()

    async def close(self) -> None:
        """Hand in what is left to tell, and go. Whoever still waits gets a `SessionError`."""
        if self._is_closed:
            return
        self._is_closed = True
        self._set_timer(math.inf)
        self._refuse(lambda: SessionError("the session was closed while this waited at the gate"))
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
        home, self._home = self._home, None
        if home is None:
            return
        try:
            async with asyncio.timeout(LEAVE_WITHIN):
                await home.exchange(evolve(self._report(), leaves=True))
        except (TimeoutError, JournalError):
            pass  # the others find out by its silence
        finally:
            await home.close()

    # ---- admission

    async def admit(self, *, interactive: bool = False, again: bool = False) -> Ticket:
        """As `Gate.admit`."""
        if self._is_closed:
            raise SessionError("the gate is closed")
        woken: asyncio.Future[Ticket] = self._loop.create_future()
        lane = self._lanes[interactive]
        lane[woken] = None
        if again:
            lane.move_to_end(woken, last=False)
        if not self._asked[interactive]:
            self._ask()
        try:
            return await woken
        except asyncio.CancelledError:
            if lane.pop(woken, self) is self and woken.done() and not woken.cancelled() and not woken.exception():
                self.release(woken.result())
            self._ask()
            raise

    def _grant(self, number: int, *, interactive: bool) -> None:
        self._out.add(number)
        self._asked[interactive] -= 1
        ticket = Ticket(self, number)
        woken = None if self._holds else self._next(interactive) or self._next(not interactive)
        if woken is None:
            self.release(ticket)
            return
        self._submitted += 1
        woken.set_result(ticket)

    def _next(self, interactive: bool) -> asyncio.Future[Ticket] | None:
        """Who has waited longest there, but for those who were cancelled and had no turn of the loop yet."""
        lane = self._lanes[interactive]
        while lane:
            woken, _ = lane.popitem(last=False)
            if not woken.done():
                return woken
        return None

    def _refuse(self, error: Callable[[], Exception]) -> None:
        for interactive in self._lanes:
            while woken := self._next(interactive):
                woken.set_exception(error())

    # ---- asking

    def called(self) -> None:
        """It is this process's turn, or its connection was lost."""
        self._ask()

    def _ask(self) -> None:
        self._again = True
        if self._asking is None and self._home is not None:
            self._asking = self._loop.create_task(self._ask_all(self._home))

    async def _ask_all(self, home: PaceHome) -> None:
        try:
            while self._again:
                # What the other coroutines of this turn have to tell goes with it.
                await asyncio.sleep(0)
                self._again = False
                await self._ask_once(home)
        finally:
            self._asking = None

    async def _ask_once(self, home: PaceHome) -> None:
        self._set_timer(math.inf)
        report = self._report()
        self._asked = {True: report.interactive, False: report.batch}
        try:
            answer = await home.exchange(report)
        except JournalError as error:
            self._asked = {True: 0, False: 0}
            message, path = error.message, error.path
            self._refuse(lambda: JournalError(message, path))
            self._set_timer(RETRY_NEWS if self._has_news() else math.inf)
            return
        self._forget_told(report)
        self._take(answer)

    def _report(self) -> Report:
        return Report(
            member=self.member,
            holds=frozenset(self._out),
            settled=tuple(self._settled),
            tracked=tuple(self._tracked),
            finished=tuple(self._finished),
            interactive=0 if self._holds else len(self._lanes[True]),
            batch=0 if self._holds else len(self._lanes[False]),
            limits=self._limits,
            record=self._record,
            record_age=max(self._clock() - self._record.at, 0.0) if self._record is not None else 0.0,
        )

    def _has_news(self) -> bool:
        return bool(self._settled or self._tracked or self._finished or self._out)

    def _forget_told(self, report: Report) -> None:
        del self._settled[: len(report.settled)]
        del self._tracked[: len(report.tracked)]
        del self._finished[: len(report.finished)]
        if report.limits is self._limits:
            self._limits = None
        if report.record is self._record:
            self._record = None

    def _take(self, answer: Answer) -> None:
        self._statistics, self._learned, self._told_at = answer.statistics, answer.learned, self._loop.time()
        for number in answer.interactive:
            self._grant(number, interactive=True)
        for number in answer.batch:
            self._grant(number, interactive=False)
        if (answer.interactive or answer.batch) and not self._holds and any(self._lanes.values()):
            self._again = True
        self._set_timer(min(answer.ask_in, HEARTBEAT) if self._out else answer.ask_in)

    def _set_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._ask) if seconds < math.inf and not self._is_closed else None

    # ---- settling

    def accepted(self, ticket: Ticket, task_id: str) -> None:
        """As `Gate.accepted`."""
        self._accepted += 1
        self._settle(ticket, SettledAs.ACCEPTED, What.ACCEPTED, task=_hash(task_id))

    def throttled(self, ticket: Ticket, retry_after: float | None = None, *, firm: bool = False) -> None:
        """As `Gate.throttled`."""
        self._refused += 1
        self._settle(ticket, SettledAs.THROTTLED, What.THROTTLED, hint=retry_after, firm=firm)
        if self._statistics.state == "open":
            # Until the answer comes: whoever asks right now is to hear of the pause.
            self._told_at = self._loop.time()
            self._statistics = evolve(
                self._statistics,
                state="paused",
                why="the provider refused a submission (429)",
                paused_for=60.0 if retry_after is None else retry_after,
                pauses=self._statistics.pauses + 1,
            )

    def refused(self, ticket: Ticket) -> None:
        """As `Gate.refused`."""
        self._settle(ticket, SettledAs.REFUSED, What.REFUSED)

    def never_sent(self, ticket: Ticket) -> None:
        """As `Gate.never_sent`."""
        self._settle(ticket, SettledAs.NEVER_SENT, What.NEVER_SENT)

    def release(self, ticket: Ticket) -> None:
        """As `Gate.release`."""
        self._settle(ticket, SettledAs.NEVER_SENT, What.RELEASED)

    def unknown(self, ticket: Ticket) -> None:
        """As `Gate.unknown`."""
        self._settle(ticket, SettledAs.UNKNOWN, What.UNKNOWN)

    def _settle(
        self,
        ticket: Ticket,
        outcome: SettledAs,
        what: What,
        *,
        task: int | None = None,
        hint: float | None = None,
        firm: bool = False,
    ) -> None:
        ticket.settle(outcome)
        self._out.discard(ticket.number)
        self._settled.append(Settled(ticket.number, what, task, hint, firm))
        self._ask()

    def finished(self, task_id: str) -> None:
        """As `Gate.finished`; the task may be another process's."""
        self._finished.append(_hash(task_id))
        self._ask()

    def track(self, task_id: str) -> None:
        """As `Gate.track`."""
        self._tracked.append(_hash(task_id))
        self._ask()

    # ---- steering

    def hold(self, reason: str) -> None:
        """As `Gate.hold`: for this process only."""
        self._holds[reason] = None
        self._ask()

    def resume(self, reason: str) -> None:
        """As `Gate.resume`."""
        self._holds.pop(reason, None)
        self._ask()

    def limit(self, limits: Limits) -> None:
        """As `Gate.limit`: for everybody."""
        self._limits = limits
        self._ask()

    def teach(self, record: PaceRecord) -> None:
        """As `Gate.teach`; ignored once anybody has seen replies."""
        self._record = record
        self._ask()

    def learned(self) -> PaceRecord:
        """As `Gate.learned`, by the last answer."""
        return evolve(self._learned, at=self._clock())

    def statistics(self) -> GateStatistics:
        """A snapshot, by the last answer."""
        shared = self._statistics
        left = max(shared.paused_for - (self._loop.time() - self._told_at), 0.0)
        why = f"on hold: {', '.join(self._holds)}" if self._holds else shared.why
        return evolve(
            shared,
            state="paused" if self._holds else shared.state,
            why=why,
            paused_for=left,
            waiting=sum(len(lane) for lane in self._lanes.values()),
            in_flight=len(self._out),
            submitted=self._submitted,
            accepted=self._accepted,
            refused=self._refused,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _hash(task_id: str) -> int:
    """A signed 64-bit number, as the database has them."""
    return int.from_bytes(hashlib.blake2b(task_id.encode(), digest_size=8).digest(), signed=True)
