"""How well the gate uses limits it doesn't know: `python -m benchmarks.pace [--tasks 2000] [--seeds 10]`.

In virtual time against simulated limiters, so the figures are the same on every machine. Utilisation and makespan
are compared with a client that knows the limiter's state; each figure is the median over seeds, the worst in brackets.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

from attrs import evolve, frozen

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
        lambda rng: sim.Shared(sim.SlidingWindow(60), 3.0, rng.uniform(0, 3))
    ),
}


@frozen
class Row:
    scenario: str
    hint: str
    runs: Sequence[sim.Measured]

    def __str__(self) -> str:
        refused = [run.refusals for run in self.runs]
        return (
            f"{self.scenario:36} {self.hint:10}"
            f" {_shares([run.utilisation for run in self.runs])} {_shares([run.makespan for run in self.runs])}"
            f" {statistics.median(refused):6g} [{max(refused)}]"
        )


def _shares(shares: Sequence[float | None]) -> str:
    known = [share for share in shares if share is not None]
    return f"{statistics.median(known):7.1%} [{min(known):6.1%}]" if known else f"{'-':>16}"


def _runs(scenario: sim.Scenario, hint: str, tasks: int, seeds: int) -> list[sim.Measured]:
    return [sim.measure(evolve(scenario, hint=hint, tasks=tasks), seed) for seed in range(seeds)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pace", description=__doc__)
    parser.add_argument("--tasks", type=int, default=2000, help="submissions in the list")
    parser.add_argument("--seeds", type=int, default=10, help="runs a row")
    parser.add_argument("--hints", nargs="+", choices=sorted(sim.HINTS), default=list(sim.HINTS))
    given = parser.parse_args()
    print(f"{given.tasks} tasks, {given.seeds} seeds")
    print(f"{'limiter':36} {'hint':10} {'utilisation':>16} {'makespan':>16} {'refusals':>12}")
    for name, scenario in SCENARIOS.items():
        for hint in given.hints:
            print(Row(name, hint, _runs(scenario, hint, given.tasks, given.seeds)), flush=True)


if __name__ == "__main__":
    main()
