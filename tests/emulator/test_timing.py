from __future__ import annotations

from random import Random
from statistics import median

import pytest

from wanasync.emulator import LogNormal, Uniform, coarse, linear, slow_start
from wanasync.emulator.timing import estimate, timing


def drawn(durations: Uniform | LogNormal) -> list[float]:
    rng = Random(1)
    return [durations(rng) for _ in range(2000)]


def test_a_number_a_pair_and_a_callable_are_durations() -> None:
    assert timing(30) == Uniform(30, 30)
    assert timing((1, 2)) == Uniform(1, 2)
    given = LogNormal()
    assert timing(given) is given


def test_durations_lie_where_they_were_asked_for() -> None:
    assert min(drawn(Uniform(60, 180))) >= 60
    assert max(drawn(Uniform(60, 180))) <= 180
    assert median(drawn(LogNormal(120, 0.35))) == pytest.approx(120, rel=0.05)


def test_the_estimate_is_the_median() -> None:
    assert estimate(Uniform(60, 180)) == 120
    assert estimate(LogNormal(77)) == 77
    assert estimate(Uniform(0, 0)) == 1
    assert estimate(Random.random) == 120


@pytest.mark.parametrize("curve", [linear, slow_start, coarse])
def test_progress_curves_go_from_nothing_to_all(curve: type[float]) -> None:
    shares = [curve(step / 100) for step in range(101)]
    assert (shares[0], shares[-1]) == (0, 1)
    assert shares == sorted(shares)
