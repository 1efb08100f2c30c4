"""The strategies that the pacer is compared with do what the programs do that they stand for."""

from __future__ import annotations

import pytest

from benchmarks.strategies import STRATEGIES, Gather, Limiter, Semaphore, measure
from tests.helpers import pacing_simulation as sim

WINDOW = sim.Scenario(lambda _: sim.SlidingWindow(20, 60.0), tasks=100)


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=str)
def test_each_gets_all_its_items_through(strategy: type[Gather]) -> None:
    measured = measure(strategy, WINDOW, 0)
    assert len(measured.accepted_at) == 100
    assert 0 < measured.makespan <= 1


def test_gather_is_refused_over_and_over() -> None:
    assert measure(Gather, WINDOW, 0).refusals > 100


def test_a_semaphore_never_has_more_tasks_than_its_size() -> None:
    quota = sim.Scenario(lambda _: sim.Concurrent(20), tasks=100)
    assert measure(Semaphore, quota, 0).refusals == 0


def test_a_limiter_that_was_told_the_truth_is_hardly_refused() -> None:
    told = sim.Scenario(lambda _: sim.Bucket(1.0, 60), tasks=200)
    assert measure(Limiter, told, 0).refusals <= 5
