"""Many processes on one shared pace in virtual time, against the limiters of `pacing_simulation`.

Each process asks over a network, one question at a time; the state changes in the middle of a question, and one at a
time. A process may be killed, or frozen for a while, at any moment.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterable, Sequence

from attrs import define, field, frozen

from tests.helpers.pacing_simulation import HINTS, Limiter, Scenario, ideal
from wanasync.rules.shared_pace import HEARTBEAT, Answer, Report, Settled, SharedPace, TaskNews, What

__all__ = ["Cluster", "Fate", "Shared", "measure_shared"]

QUESTION = (0.0005, 0.002)
"""Seconds for one way to the database."""
TRANSACTION = 0.001


@frozen
class Fate:
    """What befalls a process: at `at` it freezes for `seconds`; for ever is a kill."""

    process: int
    at: float
    seconds: float = math.inf


@frozen
class Cluster:
    """`waiters` is how many of a process's items wait at once; `text` keeps the state as text between questions.

    `interactive` calls a second come to the first process, on top of its items.
    """

    scenario: Scenario
    processes: int
    waiters: int = 50
    text: bool = False
    fates: Sequence[Fate] = ()
    interactive: float = 0.0
    question: tuple[float, float] = QUESTION
    transaction: float = TRANSACTION


@frozen
class Shared:
    """How it went: as `pacing_simulation.Measured`, and what it took."""

    utilisation: float
    refusals: int
    seconds: float
    questions: int
    by_process: tuple[int, ...]
    accepted_at: tuple[float, ...] = field(repr=False)
    interactive_waits: tuple[float, ...] = field(repr=False)
    state: SharedPace = field(repr=False)

    @property
    def refused_share(self) -> float:
        return self.refusals / (self.refusals + len(self.accepted_at))


@define(eq=False)
class _Process:
    number: int
    run: _Run
    interactive: list[float] = field(factory=list)
    holds: set[int] = field(factory=set)
    settled: list[Settled] = field(factory=list)
    finished: list[int] = field(factory=list)
    asking: bool = False
    again: bool = False
    ask_at: float = math.inf
    posting: int = 0
    frozen_until: float = -math.inf

    def when(self, at: float, action: Callable[[], None]) -> None:
        """At that time, or once thawed."""

        def act() -> None:
            if self.run.now < self.frozen_until:
                if self.frozen_until < math.inf:
                    self.run.at(self.frozen_until, act)
                return
            action()

        self.run.at(at, act)

    def waiting(self) -> int:
        return max(min(self.run.cluster.waiters, self.run.left - self.run.promised) - self.posting, 0)

    def ask(self) -> None:
        if self.asking:
            self.again = True
            return
        self.asking, self.again = True, False
        report = Report(
            member=self.number,
            holds=frozenset(self.holds - {one.number for one in self.settled}),
            settled=tuple(self.settled),
            finished=tuple(self.finished),
            interactive=len(self.interactive),
            batch=self.waiting(),
        )
        self.settled, self.finished = [], []
        self.run.at(self.run.now + self.run.way(), lambda: self.run.queue(self, report))

    def answered(self, answer: Answer) -> None:
        self.asking = False
        for number in answer.interactive:
            self.run.interactive_waits.append(self.run.now - self.interactive.pop(0))
            self.run.send(self, number, interactive=True)
        for number in answer.batch:
            self.run.send(self, number, interactive=False)
        self.arm(self.run.now + answer.ask_in)
        if self.again or (answer.batch and self.waiting()):
            self.ask()

    def arm(self, at: float) -> None:
        at = min(at, self.run.now + HEARTBEAT) if self.holds else at
        self.ask_at = at
        if at < math.inf:
            self.when(at, lambda: self.ask() if self.ask_at == at else None)


@define
class _Run:
    cluster: Cluster
    rng: random.Random
    durations: Sequence[float]
    state: SharedPace
    limiter: Limiter
    now: float = 0.0
    left: int = 0
    promised: int = 0
    busy_until: float = 0.0
    questions: int = 0
    refusals: int = 0
    ends: list[float] = field(factory=list)
    accepted_at: list[float] = field(factory=list)
    interactive_waits: list[float] = field(factory=list)
    by_process: dict[int, int] = field(factory=dict)
    tasks: set[int] = field(factory=set)
    processes: list[_Process] = field(factory=list)
    events: list[tuple[float, int, Callable[[], None]]] = field(factory=list)
    order: Iterable[int] = field(factory=itertools.count)

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self.events, (when, next(iter(self.order)), action))

    def way(self) -> float:
        return self.rng.uniform(*self.cluster.question)

    def play(self) -> None:
        self.left = len(self.durations)
        self.processes = [_Process(number, self) for number in range(self.cluster.processes)]
        for process in self.processes:
            self.at(self.rng.uniform(0, 0.1), process.ask)
        for fate in self.cluster.fates:
            self.at(fate.at, functools.partial(self.strike, fate))
        if self.cluster.interactive:
            self.call()
        while len(self.accepted_at) < len(self.durations):
            self.now, _, action = heapq.heappop(self.events)
            action()

    def strike(self, fate: Fate) -> None:
        process = self.processes[fate.process]
        process.frozen_until = self.now + fate.seconds
        if fate.seconds == math.inf:
            self.promised -= process.posting

    def call(self) -> None:
        first = self.processes[0]
        first.interactive.append(self.now)
        first.ask()
        self.at(self.now + self.rng.expovariate(self.cluster.interactive), self.call)

    def queue(self, process: _Process, report: Report) -> None:
        """Questions are answered one at a time."""
        self.busy_until = max(self.busy_until, self.now) + self.cluster.transaction
        self.at(self.busy_until, lambda: self.serve(process, report))

    def serve(self, process: _Process, report: Report) -> None:
        self.questions += 1
        begun = [task for task in report.begun if task not in self.tasks]
        self.tasks.update(begun)
        ended = [task for task in report.finished if task in self.tasks]
        self.tasks.difference_update(ended)
        if self.cluster.text:
            self.state = SharedPace.from_json(self.state.to_json(), rng=self.state._rng)
        answer = self.state.sync(self.now, report, TaskNews(begun, ended))
        self.tasks.difference_update(answer.struck)
        process.when(self.now + self.way(), lambda: process.answered(answer))
        for called in answer.calls:
            other = self.processes[called]
            other.when(self.now + self.way(), other.ask)

    def send(self, process: _Process, number: int, *, interactive: bool) -> None:
        process.holds.add(number)
        if not interactive:
            process.posting += 1
            self.promised += 1
        trip = self.rng.uniform(*self.cluster.scenario.trip)
        self.at(self.now + trip, lambda: self.arrive(process, number, interactive))

    def arrive(self, process: _Process, number: int, interactive: bool) -> None:
        back = self.now + self.rng.uniform(*self.cluster.scenario.trip)
        self.ends = [end for end in self.ends if end > self.now]
        free = self.limiter.free_at(self.now, self.ends)
        if free > self.now:
            self.limiter.refuse(self.now)
            self.refusals += 1
            hint, firm = HINTS[self.cluster.scenario.hint](free - self.now)
            settled = Settled(number, What.THROTTLED, None, hint, firm)
            process.when(back, lambda: self.refused(process, settled, interactive))
            return
        self.limiter.accept(self.now)
        task = self.rng.getrandbits(62)
        end = self.now + self.durations[len(self.accepted_at) % len(self.durations)]
        self.ends.append(end)
        if not interactive:
            self.left -= 1
            # Those of a dead process are no promise any more.
            self.promised -= process.frozen_until < math.inf
        self.accepted_at.append(self.now)
        self.by_process[process.number] = self.by_process.get(process.number, 0) + 1
        process.when(back, lambda: self.taken(process, Settled(number, What.ACCEPTED, task), interactive))
        noticed = max(end, back) + self.rng.uniform(0, self.cluster.scenario.lag)
        process.when(noticed, lambda: self.ended(process, task))

    def taken(self, process: _Process, settled: Settled, interactive: bool) -> None:
        process.posting -= not interactive
        self.settle(process, settled)

    def refused(self, process: _Process, settled: Settled, interactive: bool) -> None:
        if interactive:
            process.interactive.insert(0, self.now)
        else:
            process.posting -= 1
            self.promised -= 1
        self.settle(process, settled)

    def settle(self, process: _Process, settled: Settled) -> None:
        process.holds.discard(settled.number)
        process.settled.append(settled)
        process.ask()

    def ended(self, process: _Process, task: int) -> None:
        process.finished.append(task)
        process.ask()


def measure_shared(cluster: Cluster, seed: int) -> Shared:
    """Run it to the last acceptance."""
    rng = random.Random(seed)
    scenario = cluster.scenario
    durations = [rng.uniform(scenario.shortest, scenario.longest) for _ in range(scenario.tasks)]
    ideal_last, _ = ideal((scenario.fair or scenario.limiter)(random.Random(seed)), durations)
    state = SharedPace(rng=random.Random(seed + 1))
    run = _Run(cluster, rng, durations, state, scenario.limiter(random.Random(seed)))
    run.play()
    last = run.accepted_at[-1]
    return Shared(
        utilisation=ideal_last / last,
        refusals=run.refusals,
        seconds=last,
        questions=run.questions,
        by_process=tuple(run.by_process.get(number, 0) for number in range(cluster.processes)),
        accepted_at=tuple(run.accepted_at),
        interactive_waits=tuple(run.interactive_waits),
        state=run.state,
    )
