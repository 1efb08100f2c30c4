from __future__ import annotations

import math
import sys
from random import Random

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from wanasync.rules.durations import Lognormal, wait_until_worth
from wanasync.rules.progress import NO_EVIDENCE, Evidence, ProgressMap

DURATIONS = Lognormal(math.log(100), 0.35)


@define
class Host:
    """Draws progress along a curve, with noise; all tasks are looked at as `see` says."""

    curve: float = 1.0
    noise: float = 2.0
    rng: Random = field(factory=lambda: Random(1))

    def shows(self, share: float) -> int:
        return min(max(round(100 * math.pow(share, self.curve) + self.rng.gauss(0, self.noise)), 1), 99)

    def evidence(self, progress: ProgressMap, duration: float, shares: tuple[float, ...]) -> Evidence:
        evidence = NO_EVIDENCE
        for share in shares:
            evidence = progress.saw(evidence, self.shows(share), share * duration)
        return evidence


def teach(progress: ProgressMap, host: Host, tasks: int = 200) -> None:
    for _ in range(tasks):
        duration = 100 * math.exp(0.35 * host.rng.gauss(0, 1))
        shares = tuple(sorted(host.rng.uniform(0.2, 0.99) for _ in range(3)))
        evidence = host.evidence(progress, duration, shares)
        progress.learn(evidence, duration * 0.99, duration * 1.01, DURATIONS, completed=True)


def taught(host: Host, tasks: int = 200) -> ProgressMap:
    progress = ProgressMap()
    teach(progress, host, tasks)
    return progress


@pytest.mark.parametrize("curve", [1.0, 2.0, 0.5])
@pytest.mark.parametrize("duration", [50.0, 200.0])
def test_any_curve_of_progress_is_learned(curve: float, duration: float) -> None:
    host = Host(curve)
    progress = taught(host)
    told = progress.foretold(host.evidence(progress, duration, (0.5, 0.7, 0.8)), DURATIONS)
    assert told is not None
    assert told.survival(0.8 * duration) > 0.85
    assert told.survival(1.25 * duration) < 0.1


def test_several_looks_tell_more_than_one() -> None:
    progress = taught(Host())
    one = progress.saw(NO_EVIDENCE, 70, 70.0)
    two = progress.saw(one, 80, 80.0)
    from_one, from_two = progress.foretold(one, DURATIONS), progress.foretold(two, DURATIONS)
    assert from_one is not None
    assert from_two is not None
    assert from_two.survival(90) > from_one.survival(90)
    assert from_two.survival(115) < from_one.survival(115)


def test_the_same_progress_again_is_nothing_new() -> None:
    progress = taught(Host())
    evidence = progress.saw(NO_EVIDENCE, 70, 70.0)
    assert progress.saw(evidence, 70, 90.0) == evidence


def test_evidence_is_small() -> None:
    """50,000 tasks may be followed."""
    evidence = NO_EVIDENCE
    for progress in range(1, 100):
        evidence = ProgressMap().saw(evidence, progress, progress * 1.1)
    assert sys.getsizeof(evidence) <= 56


@pytest.mark.parametrize("progress", [None, 0, 100, -1, 250])
def test_progress_that_says_nothing_leaves_no_evidence(progress: int | None) -> None:
    assert ProgressMap().saw(NO_EVIDENCE, progress, 50.0) == NO_EVIDENCE


def test_progress_is_not_believed_before_ten_tasks() -> None:
    host = Host(noise=0.1)
    progress = taught(host, tasks=9)
    assert progress.foretold(host.evidence(progress, 100, (0.5, 0.8)), DURATIONS) is None


def test_progress_that_says_nothing_of_the_end_is_not_believed() -> None:
    host = Host(noise=200)
    progress = taught(host, tasks=500)
    assert progress.foretold(host.evidence(progress, 100, (0.5, 0.8)), DURATIONS) is None


def test_progress_is_not_needed_where_durations_are_known_better() -> None:
    host = Host(noise=8)
    progress = taught(host)
    evidence = host.evidence(progress, 100, (0.5, 0.8))
    assert progress.foretold(evidence, DURATIONS) is not None
    assert progress.foretold(evidence, Lognormal(math.log(100), 0.03)) is None


def test_progress_that_stops_making_sense_is_dropped() -> None:
    host = Host()
    progress = taught(host)
    host.noise = 200
    teach(progress, host)
    assert progress.foretold(host.evidence(progress, 100, (0.5, 0.8)), DURATIONS) is None


def test_progress_that_changes_its_meaning_is_learned_anew() -> None:
    host = Host(1.0)
    progress = taught(host)
    host.curve = 2.0
    teach(progress, host, tasks=600)
    told = progress.foretold(host.evidence(progress, 100.0, (0.5, 0.7, 0.8)), DURATIONS)
    assert told is not None
    assert told.survival(80) > 0.85
    assert told.survival(130) < 0.1


def test_errors_that_go_together_are_not_taken_for_precision() -> None:
    """Each task has a curve of its own, so that further looks at it add little."""
    rng, progress = Random(3), ProgressMap()
    hits = judged = 0
    for number in range(600):
        host, duration = Host(math.exp(rng.gauss(0, 0.4)), 1.0), 100 * math.exp(0.35 * rng.gauss(0, 1))
        evidence = host.evidence(progress, duration, (0.3, 0.5, 0.6, 0.7, 0.75, 0.8))
        told = progress.foretold(evidence, DURATIONS)
        if told and number > 200:
            judged += 1
            hits += 0.05 < told.survival(duration) < 0.95
        progress.learn(evidence, duration * 0.99, duration * 1.01, DURATIONS, completed=True)
    assert judged > 300
    assert hits > 0.8 * judged


@pytest.mark.parametrize("completed", [True, False])
def test_tasks_that_end_out_of_turn_shorten_how_long_a_look_is_put_off(completed: bool) -> None:
    host = Host()
    progress = taught(host)
    early = progress.saw(NO_EVIDENCE, 30, 30.0)

    def wait() -> float:
        told = progress.foretold(early, DURATIONS)
        assert told is not None
        return wait_until_worth(told, 30.0, 1.0)

    before = wait()
    blind = wait_until_worth(DURATIONS, 30.0, 1.0)
    assert before > 1.2 * blind
    for number in range(100):
        duration = 100.0
        evidence = host.evidence(progress, duration, (0.3, 0.5))
        if number % 2:
            progress.learn(evidence, duration * 0.99, duration * 1.01, DURATIONS, completed=True)
        else:
            progress.learn(evidence, 50.0, 51.0, DURATIONS, completed=completed)
    if progress.is_trusted(DURATIONS):
        assert wait() < before


@given(
    st.lists(st.tuples(st.integers(0, 100), st.floats(0.01, 1e5), st.floats(0.0, 1e5), st.booleans()), max_size=60),
    st.integers(1, 99),
    st.floats(0.1, 1e4),
)
def test_nothing_that_was_seen_breaks_the_map(
    seen: list[tuple[int, float, float, bool]], shown: int, at: float
) -> None:
    progress = ProgressMap()
    for said, age, more, completed in seen:
        evidence = progress.saw(NO_EVIDENCE, said, age)
        progress.learn(evidence, age, age + more + 0.1, DURATIONS, completed=completed)
    told = progress.foretold(progress.saw(NO_EVIDENCE, shown, at), DURATIONS)
    if told is not None:
        assert 0 <= told.survival(at) <= 1
        assert math.isfinite(wait_until_worth(told, at, 1.0))
