from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from wanasync.rules.samples import DETAIL, MOST, superfluous


def test_fresh_samples_are_all_kept() -> None:
    samples = [(float(at), 0.0) for at in range(0, 380, 2)]
    assert superfluous(samples, 380.0) == []


def test_a_week_of_samples_is_thinned_to_what_a_plot_shows() -> None:
    week = 7 * 86_400
    kept: list[tuple[float, float]] = []
    for at in range(0, week, 60):
        kept.append((float(at), 0.0))
        if at % 6000 == 0:
            dropped = set(superfluous(kept, float(at)))
            kept = [sample for sample in kept if sample[0] not in dropped]
    assert len(kept) < 2000
    assert kept[-1][0] == week - 60


def test_the_last_of_each_run_has_its_sums_and_stays() -> None:
    samples = [(1.0, 1.0), (1.1, 1.0), (1.2, 2.0), (1.3, 2.0), (1.4, 3.0)]
    assert superfluous(samples, 1e6) == [1.2]


def test_runs_that_go_on_at_once_are_thinned_alike() -> None:
    samples = [(float(at), float(at % 3)) for at in range(3000)]
    dropped = set(superfluous(samples, 6000.0))
    kept = [run for at, run in samples if at not in dropped]
    assert len(kept) < 600
    assert min(kept.count(run) for run in (0.0, 1.0, 2.0)) > 100


@given(st.lists(st.floats(0, 1e9), unique=True, max_size=60), st.floats(0, 2e9))
def test_what_stays_is_as_far_apart_as_its_age_asks(times: list[float], now: float) -> None:
    samples = [(at, 0.0) for at in sorted(times)]
    dropped = set(superfluous(samples, now))
    kept = [at for at, _ in samples if at not in dropped]
    assert len(kept) <= MOST
    for before, after in itertools.pairwise(kept[:-1]):
        assert after - before >= (now - after) / DETAIL
    assert not samples or kept[-1] == samples[-1][0]


def test_there_is_an_end_to_them_whatever_the_clocks_say() -> None:
    samples = [(1e9 + at, 0.0) for at in range(MOST + 10)]
    assert superfluous(samples, 0.0) == [at for at, _ in samples[:10]]
