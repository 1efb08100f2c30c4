from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanasync.rules.durations import DurationModel, Lognormal, Mixture, wait_until_worth

AROUND_TWO_MINUTES = Lognormal(math.log(120), 0.2)

sigmas = st.floats(0.03, 1.5)
medians = st.floats(1.0, 10_000.0)
prices = st.floats(0.05, 200.0)


def integral(duration: Lognormal, low: float, high: float, steps: int = 20_000) -> float:
    """Of the survival, by the midpoint rule."""
    width = (high - low) / steps
    return sum(duration.survival(low + (step + 0.5) * width) for step in range(steps)) * width


# --- lognormal


def test_half_of_the_durations_are_longer_than_the_median() -> None:
    assert AROUND_TWO_MINUTES.survival(120) == pytest.approx(0.5)
    assert AROUND_TWO_MINUTES.survival(0) == 1
    assert AROUND_TWO_MINUTES.survival(AROUND_TWO_MINUTES.p99) == pytest.approx(0.01)


@pytest.mark.parametrize("age", [0.0, 60.0, 120.0, 200.0])
def test_the_survival_beyond_an_age_is_its_integral(age: float) -> None:
    assert AROUND_TWO_MINUTES.tail(age)[1] == pytest.approx(integral(AROUND_TWO_MINUTES, age, 900), rel=1e-4)


def test_scaling_multiplies_durations() -> None:
    assert Lognormal(0.5, 0.3).scaled(60).survival(90) == pytest.approx(Lognormal(0.5, 0.3).survival(1.5))


@given(medians, sigmas, st.floats(0.0, 0.999), st.floats(0.001, 20_000.0))
def test_a_duration_known_to_an_interval_is_expected_within_it(
    median: float, sigma: float, share: float, by: float
) -> None:
    duration = Lognormal(math.log(median), sigma)
    after = by * share
    mean, variance = duration.log_within(after, by)
    assert mean <= math.log(by) + 1e-6
    if after > 0:
        assert mean >= math.log(after) - 1e-6
    assert 0 <= variance <= sigma**2 + 1e-9


def test_expectation_within_an_interval_matches_sampling() -> None:
    rng = Random(1)
    logs = [rng.gauss(0, 0.5) for _ in range(200_000)]
    inside = [value for value in logs if math.log(0.8) < value < math.log(1.1)]
    mean, variance = Lognormal(0, 0.5).log_within(0.8, 1.1)
    assert mean == pytest.approx(sum(inside) / len(inside), abs=0.002)
    assert variance == pytest.approx(sum((value - mean) ** 2 for value in inside) / len(inside), rel=0.02)


# --- the rule


@given(medians, sigmas, prices, st.floats(0.0, 3.0))
def test_the_expected_unnoticed_time_at_the_next_look_is_its_price(
    median: float, sigma: float, price: float, share: float
) -> None:
    duration = Lognormal(math.log(median), sigma)
    age = median * share
    alive = duration.survival(age)
    if alive < 1e-3:
        return
    wait = wait_until_worth(duration, age, price)
    unnoticed = wait - (duration.tail(age)[1] - duration.tail(age + wait)[1]) / alive
    # Newton stops within a hundredth of the wait.
    slack = 0.01 * wait + 1e-6 * (median + wait) / alive
    assert price - 1e-6 * (median + wait) / alive <= unnoticed <= price + slack


def test_the_unnoticed_time_agrees_with_a_numeric_integral() -> None:
    wait = wait_until_worth(AROUND_TWO_MINUTES, 100.0, 2.0)
    alive = AROUND_TWO_MINUTES.survival(100)
    assert wait - integral(AROUND_TWO_MINUTES, 100, 100 + wait) / alive == pytest.approx(2.0, rel=0.02)


def test_under_a_constant_hazard_it_is_the_square_root_rule() -> None:
    """A wide lognormal far out has a hazard that hardly changes within a short wait: sqrt(2c / h)."""
    duration, age, price = Lognormal(math.log(100), 1.0), 300.0, 0.05
    hazard = (duration.survival(age) - duration.survival(age + 0.01)) / duration.survival(age) / 0.01
    assert wait_until_worth(duration, age, price) == pytest.approx(math.sqrt(2 * price / hazard), rel=0.05)


def test_the_first_look_falls_at_a_low_quantile() -> None:
    first = wait_until_worth(AROUND_TWO_MINUTES, 0.0, 1.0)
    assert 0.02 < 1 - AROUND_TWO_MINUTES.survival(first) < 0.25


@given(medians, sigmas, prices, prices)
def test_a_dearer_look_comes_later(median: float, sigma: float, one: float, other: float) -> None:
    duration = Lognormal(math.log(median), sigma)
    low, high = sorted((one, other))
    assert wait_until_worth(duration, 0, low) <= wait_until_worth(duration, 0, high) * 1.02


@given(medians, sigmas, prices, st.floats(0, 1e7))
def test_there_is_a_wait_for_every_age(median: float, sigma: float, price: float, age: float) -> None:
    wait = wait_until_worth(Lognormal(math.log(median), sigma), age, price)
    assert math.isfinite(wait)
    assert wait >= 0


def test_far_out_in_the_tail_the_wait_grows_with_the_age() -> None:
    assert wait_until_worth(AROUND_TWO_MINUTES, 1000, 1.0) == pytest.approx(80)


# --- mixtures


@given(medians, sigmas, prices, st.floats(0.001, 0.5), st.floats(0.0, 5.0))
def test_doubt_bounds_how_late_a_look_can_be(
    median: float, sigma: float, price: float, doubt: float, share: float
) -> None:
    """However late and sure the likely end: the other belief alone, at `price` ÷ its share, is the latest."""
    otherwise = Lognormal(math.log(median), sigma)
    late = Mixture(Lognormal(math.log(median * 50), 0.05), otherwise, doubt)
    # Given that it isn't done by then, the share of the likely has grown.
    age = median * share
    doubt_then = doubt * otherwise.survival(age) / late.survival(age)
    if otherwise.survival(age) < 1e-3 or doubt_then < 1e-6:
        return
    bound = wait_until_worth(otherwise, age, price / doubt_then)
    assert wait_until_worth(late, age, price) <= bound * 1.03 + 1e-6


def test_a_mixture_lies_between_its_parts() -> None:
    early, late = Lognormal(math.log(60), 0.1), Lognormal(math.log(180), 0.1)
    mixed = Mixture(early, late, 0.25)
    assert mixed.survival(0) == 1
    assert mixed.survival(100) == pytest.approx(0.25, abs=0.001)
    assert mixed.tail(0)[1] == pytest.approx(0.75 * early.tail(0)[1] + 0.25 * late.tail(0)[1])


# --- learning durations


def test_the_estimate_counts_as_four_observations() -> None:
    model = DurationModel()
    for _ in range(4):
        model.observe(1.999, 2.001)
    assert model.belief().median == pytest.approx(math.sqrt(2), rel=0.01)


def test_a_lognormal_is_learned_from_intervals() -> None:
    rng, model = Random(3), DurationModel()
    for _ in range(500):
        ratio = 1.5 * math.exp(0.25 * rng.gauss(0, 1))
        model.observe(ratio - 0.05, ratio + 0.05)
    assert model.belief().median == pytest.approx(1.5, rel=0.03)
    assert model.belief().sigma == pytest.approx(0.25, rel=0.1)
    assert model.learned == 500


def test_what_is_only_known_to_have_ended_teaches_next_to_nothing() -> None:
    """As after a restart: submitted yesterday, found finished today."""
    model = DurationModel()
    before = model.belief()
    for _ in range(50):
        model.observe(0, 1000)
    assert model.belief().median == pytest.approx(before.median, rel=0.01)
    assert model.belief().sigma == pytest.approx(before.sigma, rel=0.01)


def test_early_failures_do_not_pull_the_median_to_them() -> None:
    model = DurationModel()
    for number in range(300):
        model.observe(0, 0.6) if number % 30 == 0 else model.observe(0.98, 1.02)
    assert model.belief().median == pytest.approx(1.0, rel=0.05)


def test_a_provider_that_gets_slower_is_followed() -> None:
    model = DurationModel(memory=100)
    for ratio in [1.0] * 1000 + [2.0] * 400:
        model.observe(ratio * 0.99, ratio * 1.01)
    assert model.belief().median == pytest.approx(2.0, rel=0.05)


@given(st.lists(st.tuples(st.floats(-10, 1e6), st.floats(-10, 1e6)), max_size=30))
def test_no_observation_breaks_the_belief(observations: list[tuple[float, float]]) -> None:
    model = DurationModel()
    for after, by in observations:
        model.observe(after, by)
    belief = model.belief()
    assert math.isfinite(belief.mu)
    assert model.min_sigma <= belief.sigma < 20
