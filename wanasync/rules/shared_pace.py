"""One pace for all processes that send with the same key: the pacer, and who of them may go next.

All keep one `SharedPace`, wherever it lies, and change it one at a time: what is shared is the evidence itself, so that
a refusal that anybody sees pauses everybody, and the limits are found once. A process tells in a `Report` what became
of its submissions and how many wait there; the `Answer` holds places for them, and when to ask again.

Nothing depends on one process. Each may vanish, freeze or be cut off at any moment:

- Who has not been heard of for SILENT_AFTER holds no submission on the wire any more; its reply is taken for lost.
- Who is first in line and doesn't come when its place is free is passed over until it is heard of again.
- A report may arrive twice. What it says of submissions and tasks that are settled already changes nothing, and places
  whose grant the process never heard of go back.

The line is one of processes, not of waiters: the first is told to the moment when to ask, the second a little later in
its stead, the others are called when it is their turn. So a place costs the same few questions however many wait.
"""

from __future__ import annotations

import enum
import functools
import json
import math
import random
from collections.abc import Collection, Iterator

from attrs import define, field, frozen

from wanasync.models import GateStatistics, Limits
from wanasync.rules.pace_record import PaceRecord
from wanasync.rules.pace_state import Codec, codec
from wanasync.rules.pacing import MOST_EARLY, Pacer, Permit

__all__ = ["HEARTBEAT", "SILENT_AFTER", "VERSION", "Answer", "Report", "Settled", "SharedPace", "TaskNews", "What"]

VERSION = 1
"""Of the state that `SharedPace.to_json` writes; one more whenever the shape of any of its parts changes."""
HEARTBEAT = 3.0
"""Seconds after which a process that holds submissions on the wire reports in any case."""
SILENT_AFTER = 12.0
ASK_EVERY = 4.0
"""Seconds until a process that waits asks again uncalled; a quarter more or less, so that they spread."""
PASSED_OVER_AFTER = 0.5
"""Seconds that a free place waits for the first in line."""
BATCH_SHARE = 4
"""Of so many places one is a batch's when both kinds wait."""
HEAD_ROOM = 20
"""One place in so many is kept free for interactive calls …"""
HEAD_ROOM_FOR = 120.0
"""… for so many seconds after the last of them: who has none pays nothing for it."""
MOST_ON_WIRE = 512


class What(enum.Enum):
    """What became of a submission."""

    ACCEPTED = enum.auto()
    THROTTLED = enum.auto()
    REFUSED = enum.auto()
    UNKNOWN = enum.auto()
    NEVER_SENT = enum.auto()
    RELEASED = enum.auto()


@frozen
class Settled:
    """What became of the submission `number`. `task` is a 64-bit hash of the id of the task that was made."""

    number: int
    what: What
    task: int | None = None
    hint: float | None = None
    firm: bool = False


@frozen
class Report:
    """What one process has to tell: what was settled since its last report, in order, and who waits there now.

    `holds` are the numbers of submissions not settled yet, `tracked` and `finished` hashes of tasks. Who `leaves` is
    forgotten: it waits and holds nothing any more.
    """

    member: int
    holds: frozenset[int] = frozenset()
    settled: tuple[Settled, ...] = ()
    tracked: tuple[int, ...] = ()
    finished: tuple[int, ...] = ()
    interactive: int = 0
    batch: int = 0
    limits: Limits | None = None
    record: PaceRecord | None = None
    record_age: float = 0.0
    leaves: bool = False

    @property
    def begun(self) -> list[int]:
        """Tasks that are said to be unfinished."""
        return [*self.tracked, *(one.task for one in self.settled if one.task is not None)]


@frozen
class TaskNews:
    """What a report changed in the list of unfinished tasks, which is kept beside the state: one for all too, but long.

    `begun` were not in it before, `ended` were; `expired` were so old that they were struck off.
    """

    begun: Collection[int] = ()
    ended: Collection[int] = ()
    expired: Collection[int] = ()


@frozen
class Answer:
    """Places for those who wait, by kind; when to report again (seconds, infinite for never); whom to call.

    `struck` are hashes of tasks that have ended before they were known to begin.
    """

    interactive: tuple[int, ...]
    batch: tuple[int, ...]
    ask_in: float
    calls: tuple[int, ...]
    struck: tuple[int, ...]
    statistics: GateStatistics
    learned: PaceRecord


@define
class Member:
    """A process. `asks_at` is when it is expected to report; `turn` its place in line, the least is the first."""

    seen: float
    turn: int
    asks_at: float = math.inf
    interactive: int = 0
    batch: int = 0
    tickets: list[int] = field(factory=list)

    def waits(self, *, interactive: bool) -> int:
        return self.interactive if interactive else self.batch


@define(eq=False, init=False)
class SharedPace:
    """The state. `sync` is the only thing that happens to it; times are the server's, in seconds.

    Submissions are numbered from a random one on, so that a state that is begun anew takes nothing that is said of the
    former one's for its own.
    """

    _pacer: Pacer
    _rng: random.Random = field(metadata={"state": False})
    _members: dict[int, Member] = field(factory=dict)
    _last_turn: int = 0
    _latest: float = 0.0
    _ahead: float = 0.0
    _interactive_in_a_row: int = 0
    _interactive_at: float = -math.inf
    _ended_early: dict[int, None] = field(factory=dict)

    def __init__(self, *, rng: random.Random) -> None:
        self.__attrs_init__(Pacer(rng=rng, most_on_wire=MOST_ON_WIRE, numbers_after=rng.getrandbits(48)), rng)

    @staticmethod
    def from_json(text: str, *, rng: random.Random) -> SharedPace:
        """What `to_json` has made. Raises `ValueError` for anything else. `rng` spreads what comes from now on."""
        try:
            pace: SharedPace = _codec().load(json.loads(text))
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"no state of a pace: {error}") from error
        pace._rng = rng
        pace._pacer.resume(rng=rng, most_on_wire=MOST_ON_WIRE)
        return pace

    def to_json(self) -> str:
        return json.dumps(_codec().dump(self), separators=(",", ":"))

    def start_from(self, record: PaceRecord, server_now: float, age: float) -> None:
        """Believe what was learned `age` seconds ago."""
        self._pacer.teach(record, self._time(server_now), age)

    # ---- the one thing that happens

    def sync(self, server_now: float, report: Report, tasks: TaskNews) -> Answer:
        """Take the report of a process, and give it what there is for it."""
        now = self._time(server_now)
        me = self._hear(report, now)
        self._learn(report, now)
        struck = self._settle(me, report, tasks, now)
        self._forget_silent(now)
        granted = self._grant(me, now)
        if report.leaves:
            del self._members[report.member]
        calls = self._call(me, now)
        return Answer(
            interactive=tuple(number for number, interactive in granted if interactive),
            batch=tuple(number for number, interactive in granted if not interactive),
            ask_in=max(me.asks_at - now, 0.0),
            calls=calls,
            struck=struck,
            statistics=self._pacer.statistics(now, sum(one.interactive + one.batch for one in self._members.values())),
            learned=self._pacer.learned(server_now),
        )

    def _time(self, server_now: float) -> float:
        """The pace's own time: the server's, but one that never goes back, however its clock is set."""
        if server_now + self._ahead < self._latest:
            self._ahead = self._latest - server_now
        # A tenth of a millisecond is exact enough, and thousands of times are written down.
        self._latest = max(round(server_now + self._ahead, 4), self._latest)
        return self._latest

    def _hear(self, report: Report, now: float) -> Member:
        me = self._members.get(report.member)
        if me is None:
            me = self._members[report.member] = Member(now, self._next_turn())
        if not me.interactive + me.batch:
            # It has not waited so far, so it comes in behind those who have.
            me.turn = self._next_turn()
        me.seen = now
        me.interactive, me.batch = report.interactive, report.batch
        if me.interactive:
            self._interactive_at = now
        return me

    def _next_turn(self) -> int:
        self._last_turn += 1
        return self._last_turn

    def _learn(self, report: Report, now: float) -> None:
        if report.limits is not None:
            self._pacer.limit(report.limits)
        if report.record is not None:
            self._pacer.teach(report.record, now, report.record_age)

    # ---- what became of things

    def _settle(self, me: Member, report: Report, tasks: TaskNews, now: float) -> tuple[int, ...]:
        begun = set(tasks.begun)
        struck = tuple(task for task in begun if task in self._ended_early)
        for task in begun:
            if task in self._ended_early:
                del self._ended_early[task]
            else:
                self._pacer.track(None, now)
        for settled in report.settled:
            self._settle_one(me, settled, now)
        holds = frozenset() if report.leaves else report.holds
        for number in [number for number in me.tickets if number not in holds]:
            # Granted by an answer that was lost.
            self._settle_one(me, Settled(number, What.RELEASED), now)
        self._end(report.finished, tasks, now)
        return struck

    def _settle_one(self, me: Member, settled: Settled, now: float) -> None:
        if settled.number not in me.tickets:
            return
        me.tickets.remove(settled.number)
        pacer, number = self._pacer, settled.number
        if not pacer.seen(number):
            return
        match settled.what:
            case What.ACCEPTED:
                pacer.accepted(number, now, None)
            case What.THROTTLED:
                pacer.throttled(number, now, settled.hint, firm=settled.firm)
            case What.REFUSED:
                pacer.refused(number, now)
            case What.UNKNOWN:
                pacer.unknown(number, now)
            case What.NEVER_SENT:
                pacer.never_sent(number, now)
            case What.RELEASED:
                pacer.never_sent(number, now, failed=False)

    def _end(self, finished: Collection[int], tasks: TaskNews, now: float) -> None:
        ended = set(tasks.ended)
        for task in finished:
            if task in ended:
                self._pacer.finished(None, now)
            elif any(one.tickets for one in self._members.values()):
                # Perhaps the reply to its submission is still to come, to another process even.
                while len(self._ended_early) >= MOST_EARLY:
                    del self._ended_early[next(iter(self._ended_early))]
                self._ended_early[task] = None
        for _ in tasks.expired:
            self._pacer.finished(None, now)

    def _forget_silent(self, now: float) -> None:
        silent = [name for name, one in self._members.items() if now >= one.seen + SILENT_AFTER]
        for name in silent:
            for number in self._members.pop(name).tickets:
                if self._pacer.seen(number):
                    self._pacer.unknown(number, now)

    # ---- who goes next

    def _grant(self, me: Member, now: float) -> list[tuple[int, bool]]:
        """Places for the process, as long as it is its turn: not more at once than its share of what there is."""
        granted: list[tuple[int, bool]] = []
        share = math.ceil(self._pacer.room(now) / max(sum(1 for _ in self._line(now)), 1))
        while len(granted) < share and (lane := self._lane(now)) is not None:
            first = me if granted and me.waits(interactive=lane) else self._first(lane, now)
            permit = self._permit(lane, now)
            if first is not me or permit.at > now:
                break
            granted.append((self._send(me, lane, permit, now), lane))
        if granted:
            me.turn = self._next_turn()
        return granted

    def _send(self, me: Member, lane: bool, permit: Permit, now: float) -> int:
        number = self._pacer.send(now, permit)
        me.tickets.append(number)
        if lane:
            me.interactive -= 1
            self._interactive_in_a_row += 1
        else:
            me.batch -= 1
            self._interactive_in_a_row = 0
        return number

    def _line(self, now: float) -> Iterator[Member]:
        """Who waits, and comes when called."""
        for one in self._members.values():
            if (one.interactive or one.batch) and (now <= one.asks_at + PASSED_OVER_AFTER or one.seen == now):
                yield one

    def _lane(self, now: float) -> bool | None:
        """Whether the next place is an interactive caller's; None where nobody waits."""
        line = list(self._line(now))
        interactive = any(one.interactive for one in line)
        batch = any(one.batch for one in line)
        if not (interactive or batch):
            return None
        return interactive and not (batch and self._interactive_in_a_row >= BATCH_SHARE - 1)

    def _first(self, lane: bool, now: float) -> Member:
        waiting = (one for one in self._line(now) if one.waits(interactive=lane))
        return min(waiting, key=lambda one: one.turn)

    def _permit(self, lane: bool, now: float) -> Permit:
        keeps = not lane and now < self._interactive_at + HEAD_ROOM_FOR
        return self._pacer.permit(now, spare=self._head_room() if keeps else 0)

    def _head_room(self) -> int:
        learned = self._pacer.learned(0.0)
        places = min(one for one in (learned.requests, learned.concurrent, math.inf) if one is not None)
        return max(int(places) // HEAD_ROOM, 1) if places < math.inf else 0

    def _call(self, me: Member, now: float) -> tuple[int, ...]:
        """Settle when `me` asks again; call the one whose turn comes sooner than it knows."""
        me.asks_at = now + ASK_EVERY * self._rng.uniform(0.75, 1.25) if me.interactive or me.batch else math.inf
        lane = self._lane(now)
        if lane is None:
            return ()
        at = self._permit(lane, now).at
        first = self._first(lane, now)
        if first is me:
            me.asks_at = min(me.asks_at, max(at, now))
            return ()
        if self._is_second(me, first, lane, now):
            me.asks_at = min(me.asks_at, max(at, first.asks_at if first.asks_at <= at else now) + PASSED_OVER_AFTER)
        if first.asks_at <= max(at, now):
            return ()
        first.asks_at = now
        return tuple(called for called, one in self._members.items() if one is first)

    def _is_second(self, me: Member, first: Member, lane: bool, now: float) -> bool:
        ahead = (one for one in self._line(now) if one is not first and one.turn < me.turn)
        return bool(me.waits(interactive=lane)) and not any(one.waits(interactive=lane) for one in ahead)


@functools.cache
def _codec() -> Codec:
    return codec(SharedPace)
