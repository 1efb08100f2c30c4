"""How well the gate uses limits it doesn't know: `python -m benchmarks.pace [--tasks 2000] [--seeds 10]`.

In virtual time against simulated limiters, so the figures are the same on every machine. Utilisation and makespan
are compared with a client that knows the limiter's state; each figure is the median over seeds. Beside it, under the
hint that hosts give most ("retry after 60 seconds", whatever the truth), what people do otherwise.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence

from attrs import evolve

from benchmarks import strategies
from benchmarks.results import Figure, Report, Target, at_least, at_most, figure
from tests.helpers import pacing_simulation as sim

SCENARIOS: dict[str, sim.Scenario] = {
    "fixed window 60 / 60 s": sim.Scenario(lambda rng: sim.FixedWindow(60, 60.0, rng.uniform(0, 60))),
    "sliding window 60 / 60 s": sim.Scenario(lambda _: sim.SlidingWindow(60)),
    "bucket 1 / s, burst 10": sim.Scenario(lambda _: sim.Bucket(1.0, 10)),
    "20 tasks, ends noticed after 0-5 s": sim.Scenario(lambda _: sim.Concurrent(20)),
    "20 tasks, ends noticed after 0-2 s": sim.Scenario(lambda _: sim.Concurrent(20), lag=2.0),
    "60 / min and 100 tasks": sim.Scenario(lambda _: sim.Together(sim.SlidingWindow(60), sim.Concurrent(100))),
    "sliding 60, 30, 120 / min": sim.Scenario(
        lambda _: sim.Changing(sim.SlidingWindow(60), [(600.0, 30), (1500.0, 120)])
    ),
    "fixed 60, 30, 120 / min": sim.Scenario(
        lambda rng: sim.Changing(sim.FixedWindow(60, 60.0, rng.uniform(0, 60)), [(600.0, 30), (1500.0, 120)])
    ),
    "sliding, refusals count too": sim.Scenario(lambda _: sim.SlidingWindow(60, counts_refused=True)),
    "sliding, shared with 20 / min": sim.Scenario(
        lambda rng: sim.Shared(sim.SlidingWindow(60), 3.0, rng.uniform(0, 3)), fair=lambda _: sim.SlidingWindow(40)
    ),
    "fixed, shared with 20 / min": sim.Scenario(
        lambda rng: sim.Shared(sim.FixedWindow(60, 60.0, rng.uniform(0, 60)), 3.0, rng.uniform(0, 3)),
        fair=lambda rng: sim.FixedWindow(40, 60.0, rng.uniform(0, 60)),
    ),
    "sliding window 10 / s": sim.Scenario(lambda _: sim.SlidingWindow(10, 1.0)),
    "fixed window 10 / s": sim.Scenario(lambda rng: sim.FixedWindow(10, 1.0, rng.uniform(0, 1))),
    "bucket 10 / s, burst 20": sim.Scenario(lambda _: sim.Bucket(10.0, 20)),
    "sliding window 5 / 10 s": sim.Scenario(lambda _: sim.SlidingWindow(5, 10.0)),
    "fixed window 5 / 10 s": sim.Scenario(lambda rng: sim.FixedWindow(5, 10.0, rng.uniform(0, 10))),
    "sliding window 1000 / h": sim.Scenario(lambda _: sim.SlidingWindow(1000, 3600.0)),
    "fixed window 1000 / h": sim.Scenario(lambda rng: sim.FixedWindow(1000, 3600.0, rng.uniform(0, 3600))),
}


# Utilisation and refusals that are aimed at, whatever the hint.
TARGETS: dict[str, tuple[Target, Target | None]] = {
    "fixed window 60 / 60 s": (at_least(0.98), at_most(20)),
    "sliding window 60 / 60 s": (at_least(0.985), at_most(20)),
    "bucket 1 / s, burst 10": (at_least(0.98), at_most(12)),
    "20 tasks, ends noticed after 0-5 s": (at_least(0.98), at_most(15)),
    "20 tasks, ends noticed after 0-2 s": (at_least(0.98), at_most(15)),
    "60 / min and 100 tasks": (at_least(0.95), at_most(40)),
    "sliding 60, 30, 120 / min": (at_least(0.92), at_most(40)),
    "fixed 60, 30, 120 / min": (at_least(0.92), at_most(40)),
    "sliding, refusals count too": (at_least(0.97), at_most(20)),
    "sliding, shared with 20 / min": (at_least(0.95), at_most(40)),
    "fixed, shared with 20 / min": (at_least(0.95), at_most(40)),
    "sliding window 10 / s": (at_least(0.9), None),
    "fixed window 10 / s": (at_least(0.9), None),
    "bucket 10 / s, burst 20": (at_least(0.9), None),
    "sliding window 5 / 10 s": (at_least(0.9), None),
    "fixed window 5 / 10 s": (at_least(0.9), None),
    "sliding window 1000 / h": (at_least(0.9), None),
    "fixed window 1000 / h": (at_least(0.9), None),
}
# More than our share is as wrong as less.
MOST = {"sliding, shared with 20 / min": at_most(1.05), "fixed, shared with 20 / min": at_most(1.05)}
SHORT_LISTS = (60, 200)
SHORT = (
    "fixed window 60 / 60 s",
    "sliding window 60 / 60 s",
    "bucket 1 / s, burst 10",
    "20 tasks, ends noticed after 0-2 s",
    "60 / min and 100 tasks",
)
SHORT_TARGETS = (at_least(0.97), at_most(10))
SHORT_MAKESPAN = at_least(0.95)
COMPARED = (
    "fixed window 60 / 60 s",
    "sliding window 60 / 60 s",
    "bucket 1 / s, burst 10",
    "20 tasks, ends noticed after 0-5 s",
)
COMPARED_SEEDS = 3
COMPARED_HINT = "static"


def _figures(
    case: str,
    subject: str,
    runs: Sequence[sim.Measured],
    targets: tuple[Target, Target | None] | None,
    makespan: Target | None = None,
) -> Iterator[Figure]:
    used, refused = targets or (None, None)
    shares = [run.utilisation for run in runs if run.utilisation is not None]
    if shares:
        yield figure(case, subject, "utilisation", shares, used)
    yield figure(case, subject, "refusals", [float(run.refusals) for run in runs], refused)
    yield figure(case, subject, "ideal makespan ÷ ours", [run.makespan for run in runs], makespan)


def measure(
    *, tasks: int = 2000, seeds: int = 10, hints: Sequence[str] = tuple(sim.HINTS), quick: bool = False
) -> Report:
    if quick:
        tasks, seeds, hints = 120, 1, (COMPARED_HINT,)
    figures: list[Figure] = []
    for name, scenario in SCENARIOS.items():
        for hint in hints:
            hinted = evolve(scenario, hint=hint, tasks=tasks)
            runs = [sim.measure(hinted, seed) for seed in range(seeds)]
            case = f"{name}, {hint} hint"
            figures += _figures(case, "wanasync", runs, TARGETS[name])
            if name in MOST:
                shares = [run.utilisation for run in runs if run.utilisation is not None]
                figures.append(figure(case, "wanasync", "share that we take", shares, MOST[name]))
        if name in COMPARED:
            figures += _compared(name, evolve(scenario, hint=COMPARED_HINT, tasks=tasks), min(seeds, COMPARED_SEEDS))
    figures += _short_lists(seeds, hints)
    return Report("pace", f"Pace: {tasks} tasks against limits that nobody told", figures, quick=quick)


def _short_lists(seeds: int, hints: Sequence[str]) -> Iterator[Figure]:
    """Learning a limit costs what it costs, so of a short list it takes the greater part."""
    for tasks, name, hint in itertools.product(SHORT_LISTS, SHORT, hints):
        scenario = evolve(SCENARIOS[name], hint=hint, tasks=tasks)
        runs = [sim.measure(scenario, seed) for seed in range(seeds)]
        yield from _figures(f"{tasks} tasks: {name}, {hint} hint", "wanasync", runs, SHORT_TARGETS, SHORT_MAKESPAN)


def _compared(name: str, scenario: sim.Scenario, seeds: int) -> Iterator[Figure]:
    for subject, strategy in strategies.STRATEGIES.items():
        runs = [strategies.measure(strategy, scenario, seed) for seed in range(seeds)]
        yield from _figures(f"{name}, {COMPARED_HINT} hint", subject, runs, None)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pace", description=__doc__)
    parser.add_argument("--tasks", type=int, default=2000, help="submissions in the list")
    parser.add_argument("--seeds", type=int, default=10, help="runs a row")
    parser.add_argument("--hints", nargs="+", choices=sorted(sim.HINTS), default=list(sim.HINTS))
    given = parser.parse_args()
    print(measure(tasks=given.tasks, seeds=given.seeds, hints=given.hints))


if __name__ == "__main__":
    main()
