"""The gate that admits submissions: one per provider and key in the process, whatever the number of sessions.

Who may go when is the pacer's decision (`wanasync.rules.pacing`); here callers wait for it. State is under one lock,
since several loops, in threads of their own, may share a gate. A waiter lives on its own loop, and each loop with
waiters has one timer, not one per waiter.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import math
import random
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial
from typing import ClassVar, Protocol

from attrs import define, evolve, field

from wanasync.models import GateStatistics, Limits
from wanasync.rules.pacing import Pacer, PaceRecord, Permit

__all__ = ["AnyGate", "Gate", "SettledAs", "Ticket"]

BATCH_SHARE = 4
"""Of so many admissions one is a batch's when both kinds wait, so that interactive calls can't starve a batch."""
GATES_KEPT = 16
"""Gates stay known without a session, so that a program that opens one session per video needn't learn anew."""


class SettledAs(enum.Enum):
    """What became of a ticket."""

    NO = "not settled"
    ACCEPTED = "accepted"
    THROTTLED = "throttled"
    REFUSED = "refused"
    NEVER_SENT = "never sent"
    UNKNOWN = "unknown"


@define(eq=False)
class Ticket:
    """Leave to send one submission. Is settled exactly once through the gate.

    As a context manager it settles itself as unknown when left unsettled: by an error between sending and reading
    the reply, say. A ticket lost altogether stops counting as on the wire after ten minutes.
    """

    gate: AnyGate = field(repr=False)
    number: int
    _settled: SettledAs = field(default=SettledAs.NO, alias="settled")

    @property
    def is_settled(self) -> bool:
        return self._settled is not SettledAs.NO

    def release(self) -> None:
        """Settle as unknown unless settled already."""
        if not self.is_settled:
            self.gate.unknown(self)

    def __enter__(self) -> Ticket:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def settle(self, outcome: SettledAs) -> None:
        """For the gate's use."""
        if self.is_settled:
            raise RuntimeError(f"ticket {self.number} is settled twice: {self._settled.value}, then {outcome.value}")
        self._settled = outcome


class AnyGate(Protocol):
    """A gate as those see it who submit: `Gate`, or `wanasync.engine.shared_gate.SharedGate`."""

    async def admit(self, *, interactive: bool = False, again: bool = False) -> Ticket: ...
    def accepted(self, ticket: Ticket, task_id: str) -> None: ...
    def throttled(self, ticket: Ticket, retry_after: float | None = None, *, firm: bool = False) -> None: ...
    def refused(self, ticket: Ticket) -> None: ...
    def never_sent(self, ticket: Ticket) -> None: ...
    def release(self, ticket: Ticket) -> None: ...
    def unknown(self, ticket: Ticket) -> None: ...
    def finished(self, task_id: str) -> None: ...
    def track(self, task_id: str) -> None: ...
    def hold(self, reason: str) -> None: ...
    def resume(self, reason: str) -> None: ...
    def limit(self, limits: Limits) -> None: ...
    def teach(self, record: PaceRecord) -> None: ...
    def learned(self) -> PaceRecord: ...
    def statistics(self) -> GateStatistics: ...


@define(eq=False)
class _Waiter:
    """One caller waiting on its loop. `ticket` is set under the gate's lock; the future only wakes it up."""

    line: _Line
    interactive: bool
    woken: asyncio.Future[None]
    ticket: Ticket | None = None

    def wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


@define(eq=False)
class _Line:
    """A loop as the gate sees it: how many wait there, its one timer, and its clock's offset to the gate's time."""

    # Weak, or the gate would keep every loop that ever used it; a waiter's future keeps its own loop.
    _loop: weakref.ref[asyncio.AbstractEventLoop]
    offset: float
    waiting: int = 0
    timer: asyncio.TimerHandle | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """None once the loop is closed or gone."""
        loop = self._loop()
        return None if loop is None or loop.is_closed() else loop

    def is_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        return self._loop() is loop

    def arm(self, gate: Gate, at: float) -> None:
        """Have the gate look again at `at`, gate time; infinite is never. On the line's own loop only."""
        when = at - self.offset if self.waiting else math.inf
        if self.timer is not None:
            if self.timer.when() == when:
                return
            self.timer.cancel()
        loop = self.loop if when < math.inf else None
        self.timer = loop.call_at(when, gate._pump) if loop is not None else None


class Gate:
    """Admits submissions at the pace the provider was found to take. `Gate.shared` gives the one for a key.

    Each `admit` gives a `Ticket` that is settled with exactly one of `accepted`, `throttled`, `refused`,
    `never_sent` and `unknown`; settling twice raises RuntimeError. All but `admit` may be called from any thread
    that runs a loop.
    """

    _shared: ClassVar[weakref.WeakValueDictionary[tuple[str, str], Gate]] = weakref.WeakValueDictionary()
    _kept: ClassVar[deque[Gate]] = deque(maxlen=GATES_KEPT)
    _shared_lock: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def shared(cls, base_url: str, api_key: str, *, limits: Limits | None = None) -> Gate:
        """The process's gate for this provider and key; made at first. `limits`, where given, replace earlier ones."""
        # The key's hash, so that no table or dump of this process spells the key out.
        name = (base_url.rstrip("/"), hashlib.sha256(api_key.encode()).hexdigest())
        with cls._shared_lock:
            gate = cls._shared.get(name)
            if gate is None:
                gate = cls._shared[name] = cls()
            if gate in cls._kept:
                cls._kept.remove(gate)
            cls._kept.append(gate)
        if limits is not None:
            gate.limit(limits)
        return gate

    def __init__(self, *, limits: Limits | None = None, rng: random.Random | None = None) -> None:
        self._lock = threading.Lock()
        self._pacer = Pacer(rng=rng or random.Random(), limits=limits)  # noqa: S311 - spreads waits, guards nothing
        self._interactive: OrderedDict[_Waiter, None] = OrderedDict()
        self._batch: OrderedDict[_Waiter, None] = OrderedDict()
        self._interactive_in_a_row = 0
        self._lines: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Line] = weakref.WeakKeyDictionary()
        # Lines with waiters, or with a timer that is still to be cancelled.
        self._busy: set[_Line] = set()
        self._last_line: _Line | None = None
        self._holds: dict[str, None] = {}
        self._latest = 0.0

    # ---- admission

    async def admit(self, *, interactive: bool = False, again: bool = False) -> Ticket:
        """Wait until a submission may be sent. Give `again` for one that was throttled: it goes to the front.

        Interactive callers go first, but every fourth place is a batch's. A cancelled wait gives its place back.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            now = self._now()
            if not (self._holds or self._busy) and (permit := self._pacer.permit(now)).at <= now:
                # Nobody waits and nothing has to be waited for: no place in a line is needed.
                return self._ticket(interactive, now, permit)
            line = self._line(loop)
            waiter = _Waiter(line, interactive, loop.create_future())
            lane = self._interactive if interactive else self._batch
            lane[waiter] = None
            if again:
                lane.move_to_end(waiter, last=False)
            line.waiting += 1
            self._busy.add(line)
            self._admit_due(now)
        try:
            if waiter.ticket is None:
                await waiter.woken
        except asyncio.CancelledError:
            self._abandon(waiter)
            raise
        assert waiter.ticket is not None  # noqa: S101 - woken means admitted
        return waiter.ticket

    def _abandon(self, waiter: _Waiter) -> None:
        # A ticket may have been granted, by another thread even, after the wait was cancelled and before it ended.
        with self._lock:
            now = self._now()
            if waiter.ticket is None:
                self._leave(waiter)
            else:
                waiter.ticket.settle(SettledAs.NEVER_SENT)
                self._pacer.never_sent(waiter.ticket.number, now, failed=False)
            self._admit_due(now)

    def _leave(self, waiter: _Waiter) -> None:
        lane = self._interactive if waiter.interactive else self._batch
        if lane.pop(waiter, self) is None:
            waiter.line.waiting -= 1

    def _pump(self) -> None:
        """A timer's call: time has come for someone."""
        with self._lock:
            self._line(asyncio.get_running_loop()).timer = None
            self._admit_due(self._now())

    def _admit_due(self, now: float) -> None:
        """Let through whoever may go now, and set each loop's timer for the next. Under the lock."""
        if not self._busy:
            return
        at = math.inf
        while not self._holds and (waiter := self._next_waiter()) is not None:
            permit = self._pacer.permit(now)
            at = permit.at
            if at > now:
                break
            self._grant(waiter, now, permit)
        else:
            at = math.inf
        self._arm(at)

    def _next_waiter(self) -> _Waiter | None:
        batch_turn = self._interactive_in_a_row >= BATCH_SHARE - 1
        lane = self._batch or self._interactive if batch_turn else self._interactive or self._batch
        return next(iter(lane)) if lane else None

    def _grant(self, waiter: _Waiter, now: float, permit: Permit) -> None:
        self._leave(waiter)
        if waiter.line.loop is None:
            return
        waiter.ticket = self._ticket(waiter.interactive, now, permit)
        if not self._call(waiter.line, waiter.wake):
            # The loop was closed in this very moment: nobody is left to use the ticket.
            self._pacer.never_sent(waiter.ticket.number, now, failed=False)

    def _ticket(self, interactive: bool, now: float, permit: Permit) -> Ticket:
        self._interactive_in_a_row = self._interactive_in_a_row + 1 if interactive else 0
        return Ticket(self, self._pacer.send(now, permit))

    def _arm(self, at: float) -> None:
        for line in tuple(self._busy):
            self._call(line, line.arm, self, at)
            if not line.waiting:
                self._busy.discard(line)

    @staticmethod
    def _call(line: _Line, call: Callable[..., object], *arguments: object) -> bool:
        """Call on the line's loop: at once when that is the running one. False when it is closed."""
        loop = line.loop
        if loop is None:
            return False
        if loop is _running_loop():
            call(*arguments)
            return True
        try:
            loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            # Closed in this very moment. Its waiters stay in their lanes until their turn comes, see `_grant`.
            return False
        return True

    # ---- settling

    def accepted(self, ticket: Ticket, task_id: str) -> None:
        """The provider made the task `task_id` of it."""
        self._settle(ticket, SettledAs.ACCEPTED, partial(self._pacer.accepted, task_id=task_id))

    def throttled(self, ticket: Ticket, retry_after: float | None = None, *, firm: bool = False) -> None:
        """The provider put it off (429, documented 503): nothing was made.

        `retry_after` is the wait it asked for in seconds; `firm` when that came in a header, see `Pacer.throttled`.
        """
        self._settle(ticket, SettledAs.THROTTLED, partial(self._pacer.throttled, hint=retry_after, firm=firm))

    def refused(self, ticket: Ticket) -> None:
        """The provider refused it for good (400, 402, …)."""
        self._settle(ticket, SettledAs.REFUSED, self._pacer.refused)

    def never_sent(self, ticket: Ticket) -> None:
        """The provider was not reached."""
        self._settle(ticket, SettledAs.NEVER_SENT, self._pacer.never_sent)

    def release(self, ticket: Ticket) -> None:
        """Give an admitted ticket back unused; nothing was sent and nothing is wrong."""
        self._settle(ticket, SettledAs.NEVER_SENT, partial(self._pacer.never_sent, failed=False))

    def unknown(self, ticket: Ticket) -> None:
        """It was sent and its reply lost."""
        self._settle(ticket, SettledAs.UNKNOWN, self._pacer.unknown)

    def _settle(self, ticket: Ticket, outcome: SettledAs, tell: Callable[[int, float], None]) -> None:
        with self._lock:
            now = self._now()
            ticket.settle(outcome)
            tell(ticket.number, now)
            self._admit_due(now)

    def finished(self, task_id: str) -> None:
        """A task ended: its place in a quota of unfinished tasks is free. Unknown ids are ignored."""
        with self._lock:
            now = self._now()
            self._pacer.finished(task_id, now)
            self._admit_due(now)

    def track(self, task_id: str) -> None:
        """A task submitted earlier, by another run perhaps, is still unfinished and fills a place of a quota."""
        with self._lock:
            self._pacer.track(task_id, self._now())

    # ---- steering

    def hold(self, reason: str) -> None:
        """Admit nobody until `resume(reason)`. `reason` is words for a user: "the disk is full"."""
        with self._lock:
            self._holds[reason] = None
            self._admit_due(self._now())

    def resume(self, reason: str) -> None:
        """Take back a hold; others may stay."""
        with self._lock:
            self._holds.pop(reason, None)
            self._admit_due(self._now())

    def limit(self, limits: Limits) -> None:
        """Known limits, see `Limits`; they replace what was learned."""
        with self._lock:
            self._pacer.limit(limits)
            self._admit_due(self._now())

    def teach(self, record: PaceRecord) -> None:
        """Start from what an earlier run learned; ignored once this gate has seen replies, or when it is too old."""
        with self._lock:
            self._pacer.teach(record, self._now(), time.time() - record.at)

    def learned(self) -> PaceRecord:
        """What was learned so far, to keep for the next run."""
        with self._lock:
            return self._pacer.learned(time.time())

    def statistics(self) -> GateStatistics:
        """A snapshot."""
        with self._lock:
            statistics = self._pacer.statistics(self._now(), len(self._interactive) + len(self._batch))
            if not self._holds:
                return statistics
            return evolve(statistics, state="paused", why=f"on hold: {', '.join(self._holds)}")

    # ---- time

    def _now(self) -> float:
        loop = _running_loop()
        # Without a loop the clock that loops have too, or what is told now would seem to be of the machine's start.
        now = loop.time() + self._line(loop).offset if loop is not None else time.monotonic()
        if now > self._latest:
            self._latest = now
        return self._latest

    def _line(self, loop: asyncio.AbstractEventLoop) -> _Line:
        # Nearly always the same loop; looking it up costs as much as all else in here.
        if self._last_line is not None and self._last_line.is_on(loop):
            return self._last_line
        line = self._lines.get(loop)
        if line is None:
            # A loop on virtual time may be behind one that used this gate before; the pacer's time never goes back.
            line = self._lines[loop] = _Line(weakref.ref(loop), max(self._latest - loop.time(), 0.0))
        self._last_line = line
        return line


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
