"""How many looks a task takes, and how late its end is noticed: `python -m benchmarks.follow`.

Simulated tasks with lognormal durations, submitted one a second, under three ways of polling. The last ones run the
poller itself, on virtual time. All numbers come out the same on every run.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

import attrs
from attrs import define, field, frozen

from benchmarks.results import Figure, Report, Target, at_most, figure
from wanasync.config import Config
from wanasync.engine.poller import Poller
from wanasync.errors import WanError
from wanasync.models import TaskSnapshot, TaskStatus
from wanasync.rules.polling import PollingPolicy, Price
from wanasync.rules.progress import NO_EVIDENCE, Evidence
from wanasync.testing import now, run

SEEDS = range(3)


@frozen
class World:
    """The tasks of a simulation; times are seconds.

    `curve` bends the progress: 1 is linear, None shows none; `later_curve` is that of the second half of the tasks.
    It is off by `noise` points at each look, shown in steps of `steps`, and stands still at `stuck_at`. Of `liars`
    it shows half, so that they end when they seem to be halfway.
    """

    sigma: float = 0.2
    median: float = 120.0
    estimate: float = 120.0
    tasks: int = 1000
    curve: float | None = None
    later_curve: float | None = None
    noise: float = 4.0
    steps: int = 1
    stuck_at: int = 99
    liars: float = 0.0
    early_failures: float = 0.0

    def durations(self, rng: Random) -> list[float]:
        return [self._duration(rng) for _ in range(self.tasks)]

    def _duration(self, rng: Random) -> float:
        if rng.random() < self.early_failures:
            return rng.uniform(2, 10)
        return self.median * math.exp(self.sigma * rng.gauss(0, 1))

    def progress(self, number: int, share: float, rng: Random) -> int | None:
        """What the task of that number shows with that share of its duration behind it."""
        curve = self.later_curve if self.later_curve and number >= self.tasks / 2 else self.curve
        if curve is None:
            return None
        shown = 100 * share**curve + rng.gauss(0, self.noise)
        if self.liars and number * self.liars % 1 < self.liars:
            shown /= 2
        return int(min(max(shown // self.steps * self.steps, 0), self.stuck_at))


@frozen
class Result:
    """Looks a task, and the seconds from a task's end to the look that found it: the mean, and what 5 % exceed.

    `settled_polls` are those a task of the second half, when what can be learned has been.
    """

    polls: float
    lag: float
    lag_95: float = 0.0
    settled_polls: float = 0.0


@frozen
class Look:
    """The `number`th look at a task, which found it unfinished at `age`; `evidence` as the schedule left it."""

    age: float
    number: int
    progress: int | None
    evidence: Evidence


class Schedule:
    """When a task is looked at: first at `first()` seconds of age, then as `wait` says."""

    def first(self) -> float:
        raise NotImplementedError

    def wait(self, look: Look, /) -> float:
        raise NotImplementedError

    def saw(self, evidence: Evidence, progress: int | None, age: float) -> Evidence:
        return evidence

    def finished(self, after: float, by: float, evidence: Evidence, *, completed: bool) -> None:
        pass


@frozen
class Fixed(Schedule):
    interval: float

    def first(self) -> float:
        return self.interval

    def wait(self, _: Look, /) -> float:
        return self.interval


@frozen
class Exponential(Schedule):
    """From 2 s, half as long again each time, to `cap`."""

    cap: float = 30.0

    def first(self) -> float:
        return 2.0

    def wait(self, look: Look, /) -> float:
        return min(2.0 * 1.5**look.number, self.cap)


@frozen
class Learned(Schedule):
    price: float
    estimate: float = 120.0
    policy: PollingPolicy = field(init=False)
    rng: Random = field(factory=lambda: Random(7))

    @policy.default
    def _policy(self) -> PollingPolicy:
        return PollingPolicy(price=Price(self.price))

    def first(self) -> float:
        return self.policy.first_wait(self.estimate)

    def wait(self, look: Look, /) -> float:
        return self.policy.next_wait(look.age, self.estimate, look.evidence, self.rng)

    def saw(self, evidence: Evidence, progress: int | None, age: float) -> Evidence:
        return self.policy.saw(evidence, progress, age)

    def finished(self, after: float, by: float, evidence: Evidence, *, completed: bool) -> None:
        self.policy.finished(after, by, self.estimate, evidence, told=False, completed=completed)


def simulate(schedule: Schedule, world: World, seed: int = 0) -> Result:
    """Play all tasks; task `i` is submitted at second `i`, and looks cost no time."""
    rng = Random(seed)
    durations = world.durations(rng)
    looks: list[tuple[float, int, int, float, Evidence]] = []
    submitted = polls = 0
    lags: list[float] = []
    while submitted < world.tasks or looks:
        first_at = submitted + schedule.first() if submitted < world.tasks else math.inf
        if looks and looks[0][0] < first_at:
            at, task, count, before, evidence = heapq.heappop(looks)
        else:
            at, task, count, before, evidence = first_at, submitted, 0, 0.0, NO_EVIDENCE
            submitted += 1
        polls += 1
        age, duration = at - task, durations[task]
        if age >= duration:
            lags.append(age - duration)
            schedule.finished(before, age, evidence, completed=duration > 10)
            continue
        progress = world.progress(task, age / duration, rng)
        evidence = schedule.saw(evidence, progress, age)
        wait = schedule.wait(Look(age, count + 1, progress, evidence))
        heapq.heappush(looks, (at + wait, task, count + 1, age, evidence))
    return Result(polls / world.tasks, statistics.mean(lags), _exceeded_by(0.05, lags))


def _exceeded_by(share: float, values: list[float]) -> float:
    return sorted(values)[int(len(values) * (1 - share))]


def average(make: Callable[[], Schedule], world: World) -> Result:
    results = [simulate(make(), world, seed) for seed in SEEDS]
    return Result(*(statistics.mean(values) for values in zip(*map(attrs.astuple, results), strict=True)))


def at_polls(polls: float, make: Callable[[float], Schedule], world: World, low: float, high: float) -> Result:
    """The result with the setting, between `low` and `high`, that takes so many looks a task."""
    result = Result(math.nan, math.nan)
    for _ in range(9):
        middle = math.sqrt(low * high)
        result = average(partial(make, middle), world)
        low, high = (middle, high) if result.polls > polls else (low, middle)
    return result


@define
class Host:
    """A provider in memory that shows each task of a world as it stands; `looks` are counted for each."""

    world: World
    rng: Random
    births: list[float] = field(factory=list)
    ends: list[float] = field(factory=list)
    looks: list[int] = field(factory=list)

    def begin(self, duration: float) -> str:
        self.births.append(now())
        self.ends.append(now() + duration)
        self.looks.append(0)
        return f"task-unified-{len(self.ends) - 1}"

    @staticmethod
    def number(task_id: str) -> int:
        return int(task_id.rpartition("-")[2])

    def show(self, task_id: str) -> TaskSnapshot:
        number = self.number(task_id)
        share = (now() - self.births[number]) / (self.ends[number] - self.births[number])
        if share >= 1:
            return TaskSnapshot(task_id, TaskStatus.COMPLETED, 100, ("https://example.com/video.mp4",))
        return TaskSnapshot(task_id, TaskStatus.PROCESSING, self.world.progress(number, share, self.rng))

    async def ask(self, task_id: str) -> TaskSnapshot:
        self.looks[self.number(task_id)] += 1
        return self.show(task_id)

    async def ask_many(self, task_ids: Sequence[str]) -> list[TaskSnapshot]:
        return [self.show(task_id) for task_id in task_ids]


@frozen
class Callbacks:
    """Come `delay` seconds after the end, all but a share of `lost`."""

    delay: float = 0.3
    lost: float = 0.0


async def follow(world: World, *, batch: bool = False, callbacks: Callbacks | None = None, seed: int = 0) -> Result:
    """The poller itself over the same world. Counts requests, not ids."""
    host = Host(world, Random(seed))
    durations = world.durations(host.rng)
    lags: list[float] = []
    all_noticed = asyncio.Event()

    def heard(news: TaskSnapshot | WanError) -> None:
        assert isinstance(news, TaskSnapshot), news
        if news.is_final:
            lags.append(now() - host.ends[host.number(news.id)])
            if len(lags) == world.tasks:
                all_noticed.set()

    config = Config(polls_per_second=1000.0)
    many, told = host.ask_many if batch else None, callbacks is not None
    poller = Poller(host.ask, many, config, clock=now, rng=Random(seed), callbacks=told)

    def call_back(task_id: str) -> None:
        poller.deliver(host.show(task_id))

    for duration in durations:
        task_id = host.begin(duration)
        poller.follow(task_id, heard, submitted_at=now(), estimated_time=world.estimate)
        if callbacks is not None and host.rng.random() >= callbacks.lost:
            asyncio.get_running_loop().call_later(duration + callbacks.delay, call_back, task_id)
        await asyncio.sleep(1)
    await all_noticed.wait()
    polls = poller.statistics().polls
    await poller.close()
    settled = statistics.mean(host.looks[world.tasks // 2 :])
    return Result(polls / world.tasks, statistics.mean(lags), _exceeded_by(0.05, lags), settled)


def _figures(case: str, subject: str, result: Result, *targets: Target | None) -> list[Figure]:
    polls, lag = (*targets, None, None)[:2]
    return [
        figure(case, subject, "polls a task", [result.polls], polls),
        figure(case, subject, "lag s", [result.lag], lag),
    ]


EQUAL_POLLS = ((0.2, 9.4, at_most(2.6)), (0.2, 4.0, at_most(7)), (0.35, 9.5, None), (0.35, 4.0, None), (0.6, 9.9, None))


def _at_equal_polls(tasks: int) -> list[Figure]:
    figures: list[Figure] = []
    for sigma, polls, lag in EQUAL_POLLS:
        world, case = World(sigma, tasks=tasks), f"σ {sigma}, {polls:g} polls a task"
        figures += _figures(case, "learned", at_polls(polls, Learned, world, 0.02, 40), None, lag)
        figures += _figures(case, "fixed interval", at_polls(polls, Fixed, world, 1, 200))
    return figures + _figures("σ 0.2, 2 → 30 s", "exponential", average(Exponential, World(tasks=tasks)))


_LINEAR = World(0.35, curve=1.0)
_PROGRESS: tuple[tuple[str, World, Target | None], ...] = (
    ("no progress", World(0.35), None),
    ("linear progress", _LINEAR, at_most(3)),
    ("progress that starts slowly", attrs.evolve(_LINEAR, curve=2.0), None),
    ("progress that ends slowly", attrs.evolve(_LINEAR, curve=0.5), None),
    ("linear, then slow at first", attrs.evolve(_LINEAR, later_curve=2.0), None),
    ("progress in steps of 25", attrs.evolve(_LINEAR, steps=25), None),
    ("progress stuck at 60", attrs.evolve(_LINEAR, stuck_at=60), None),
    ("progress that lies for 5 %", attrs.evolve(_LINEAR, liars=0.05), None),
    ("progress that lies for 30 %", attrs.evolve(_LINEAR, liars=0.3), None),
    ("progress that is noise", attrs.evolve(_LINEAR, noise=200), None),
)


def _of_other_worlds(tasks: int) -> list[Figure]:
    figures: list[Figure] = []
    for name, world, target in _PROGRESS:
        result = at_polls(4, Learned, attrs.evolve(world, tasks=tasks), 0.5, 10)
        figures += _figures(f"σ 0.35, {name}, 4 polls a task", "learned", result, None, target)
    for median in (30, 60, 240, 480):
        world = World(0.35, median, tasks=tasks)
        figures += _figures(
            f"σ 0.35, median {median} s, estimate 120 s", "learned", average(partial(Learned, 0.57), world)
        )
    failing = World(0.35, early_failures=0.03, tasks=tasks)
    return figures + _figures("σ 0.35, 3 % fail at once", "learned", average(partial(Learned, 1.0), failing))


def _of_the_poller(tasks: int) -> list[Figure]:
    figures: list[Figure] = []
    for sigma in (0.2, 0.35, 0.6):
        figures += _figures(f"σ {sigma}", "wanasync", run(follow(World(sigma, tasks=tasks))))
    world = World(tasks=tasks)
    figures += _figures("σ 0.2, batch query (requests)", "wanasync", run(follow(world, batch=True)))
    for sigma in (0.2, 0.6):
        told = run(follow(World(sigma, tasks=tasks), callbacks=Callbacks()))
        case = f"σ {sigma}, callbacks after 0.3 s"
        figures += _figures(case, "wanasync", told, None, at_most(0.4))
        figures += [figure(case, "wanasync", "polls a task, second half", [told.settled_polls], at_most(1))]
    losing = run(follow(world, callbacks=Callbacks(lost=0.05)))
    figures += _figures("σ 0.2, callbacks, 5 % lost", "wanasync", losing)
    return figures + _figures("σ 0.35, linear progress", "wanasync", run(follow(World(0.35, curve=1.0, tasks=tasks))))


def measure(*, tasks: int = 1000, quick: bool = False) -> Report:
    if quick:
        tasks = 30
    figures = [*_at_equal_polls(tasks), *_of_other_worlds(tasks), *_of_the_poller(tasks)]
    return Report("follow", f"Following {tasks} tasks: polls, and seconds from done to known", figures, quick=quick)


def main() -> None:
    print(measure())


if __name__ == "__main__":
    main()
