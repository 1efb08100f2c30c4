from __future__ import annotations

import math
import timeit
from functools import partial
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.follow import Exponential, Fixed, Learned, World, simulate
from wanasync.rules.polling import (
    MAX_WAIT,
    MIN_WAIT,
    STALE_WAIT,
    DurationModel,
    Lognormal,
    Mark,
    PollingPolicy,
    Price,
    ProgressMap,
    wait_until_worth,
)

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
    assert AROUND_TWO_MINUTES.beyond(age) == pytest.approx(integral(AROUND_TWO_MINUTES, age, 900), rel=1e-4)


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
    unnoticed = wait - (duration.beyond(age) - duration.beyond(age + wait)) / alive
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


# --- learning progress


def teach(progress: ProgressMap, curve: float, noise: float, tasks: int = 200, seed: int = 1) -> None:
    rng = Random(seed)
    for _ in range(tasks):
        share = rng.uniform(0.3, 0.99)
        shown = min(max(round(100 * share**curve + rng.gauss(0, noise)), 1), 99)
        progress.learn(Mark(shown, share * 100), 100.0)


@pytest.mark.parametrize("curve", [1.0, 2.0, 0.5])
def test_any_curve_of_progress_is_learned(curve: float) -> None:
    progress = ProgressMap()
    teach(progress, curve, noise=2)
    told = progress.predict(Mark(round(100 * 0.7**curve), 70.0))
    assert told is not None
    assert told.median == pytest.approx(100, rel=0.06)
    assert told.sigma < 0.15


def test_progress_is_not_believed_before_twenty_tasks() -> None:
    progress = ProgressMap()
    teach(progress, 1.0, noise=0, tasks=20)
    assert all(progress.predict(Mark(shown, 50.0)) is None for shown in range(1, 100))


def test_progress_that_says_nothing_is_not_believed() -> None:
    rng, progress = Random(1), ProgressMap()
    for _ in range(500):
        progress.learn(Mark(rng.randint(1, 99), rng.uniform(0, 100)), 100.0)
    assert all(progress.predict(Mark(shown, 50.0)) is None for shown in range(1, 100))


def test_progress_that_stops_making_sense_is_dropped() -> None:
    progress, rng = ProgressMap(), Random(2)
    teach(progress, 1.0, noise=1)
    assert progress.predict(Mark(70, 70.0)) is not None
    for _ in range(200):
        progress.learn(Mark(rng.randint(60, 99), rng.uniform(0, 100)), 100.0)
    assert progress.predict(Mark(70, 70.0)) is None


def trained(curve: float = 1.0, **settings: float) -> PollingPolicy:
    policy = PollingPolicy(**settings)  # type: ignore[arg-type]
    teach(policy.progress, curve, noise=2)
    return policy


@given(st.floats(10, 400), st.integers(1, 99))
def test_progress_only_brings_looks_forward(age: float, progress: int) -> None:
    blind = PollingPolicy().next_wait(age, 120.0, None, Random(1))
    assert trained().next_wait(age, 120.0, progress, Random(1)) <= blind * 1.02


def test_progress_near_its_end_brings_the_look_forward() -> None:
    assert trained().next_wait(60, 120.0, 96, Random(1)) < PollingPolicy().next_wait(60, 120.0, None, Random(1)) / 2


def test_with_leave_to_put_off_a_look_waits_for_the_end_that_progress_foretells() -> None:
    early = trained(put_off=30.0).next_wait(100, 120.0, 50, Random(1))
    assert early > 2 * PollingPolicy().next_wait(100, 120.0, None, Random(1))


# --- the price


def test_a_raised_price_comes_down_with_each_look() -> None:
    price = Price(1.0)
    price.raised()
    assert price.value == 1.5
    price.paid()
    assert price.value == pytest.approx(1.485)
    for _ in range(100):
        price.paid()
    assert price.value == 1.0


def test_the_price_has_a_ceiling() -> None:
    price = Price(1.0)
    for _ in range(1000):
        price.raised()
    assert price.value == 100.0


# --- the policy


def test_waits_keep_within_their_bounds() -> None:
    policy, rng = PollingPolicy(), Random(1)
    waits = [policy.next_wait(age, 120.0, None, rng) for age in range(1, 1200)]
    assert all(MIN_WAIT <= wait <= MAX_WAIT for wait in waits)
    assert PollingPolicy(price=Price(0.001)).next_wait(120, 120.0, None, rng) == MIN_WAIT


def test_stale_tasks_are_looked_at_every_ten_minutes() -> None:
    policy, rng = PollingPolicy(), Random(1)
    assert policy.next_wait(3600, 120.0, None, rng) == pytest.approx(STALE_WAIT, rel=0.05)
    assert policy.next_wait(1100, 120.0, None, rng) <= MAX_WAIT


def test_a_task_that_takes_long_is_not_stale_early() -> None:
    assert PollingPolicy().next_wait(3600, 1200.0, None, Random(1)) <= MAX_WAIT


def test_looks_at_tasks_submitted_together_come_apart() -> None:
    policy, rng = PollingPolicy(), Random(1)
    waits = {policy.next_wait(100, 120.0, None, rng) for _ in range(50)}
    assert len(waits) == 50
    assert max(waits) / min(waits) < 1 / 0.89


def test_a_raised_price_moves_the_first_look_too() -> None:
    policy = PollingPolicy()
    before = policy.first_wait(120.0)
    for _ in range(5):
        policy.price.raised()
    assert policy.first_wait(120.0) > before + 5


def test_finished_tasks_move_the_first_look_of_those_that_wait() -> None:
    policy = PollingPolicy()
    before = policy.first_wait(120.0)
    for _ in range(20):
        policy.finished(235, 240, 120.0, None, told=False)
    assert policy.first_wait(120.0) > 1.5 * before
    assert policy.expected_seconds() == pytest.approx(240, rel=0.15)


def test_nothing_is_expected_before_something_was_learned() -> None:
    assert PollingPolicy().expected_seconds() is None


@pytest.mark.parametrize("nonsense", [None, 0.0, -5.0, math.nan, math.inf, 1e9])
def test_an_estimate_that_makes_no_sense_is_replaced_by_the_last_good_one(nonsense: float | None) -> None:
    policy = PollingPolicy()
    assert policy.estimate(nonsense) == 120
    assert policy.estimate(45.0) == 45
    assert policy.estimate(nonsense) == 45


def test_what_one_estimate_taught_holds_for_others() -> None:
    policy = PollingPolicy()
    for _ in range(50):
        policy.finished(95, 105, 50.0, None, told=False)
    short, long = policy.first_wait(50.0), policy.first_wait(100.0)
    assert 1.7 < long / short < 2.3


def test_callbacks_make_looks_ten_times_as_dear_and_more_once_they_have_proved_themselves() -> None:
    blind, with_callbacks = PollingPolicy(), PollingPolicy(callbacks=True)
    assert with_callbacks.first_wait(120.0) > blind.first_wait(120.0) * 1.3
    for _ in range(20):
        blind.finished(119, 121, 120.0, None, told=False)
        with_callbacks.finished(0, 121, 120.0, None, told=True)
    proved = with_callbacks.first_wait(120.0)
    assert proved > 180
    for _ in range(5):
        with_callbacks.finished(100, 121, 120.0, None, told=False)
    assert with_callbacks.first_wait(120.0) < proved


def test_a_decision_costs_microseconds() -> None:
    """Generous, for slow machines; 11-13 µs were measured."""
    policy, rng = PollingPolicy(), Random(1)
    best = min(timeit.repeat(lambda: policy.next_wait(100, 120.0, None, rng), number=200, repeat=5)) / 200
    assert best < 150e-6


# --- simulations: the figures that the design was chosen for


def test_nine_looks_a_task_notice_within_two_and_a_half_seconds() -> None:
    learned = simulate(Learned(0.34), World(sigma=0.2))
    assert learned.polls <= 9.4
    assert learned.lag <= 2.6
    fixed = simulate(Fixed(13.1), World(sigma=0.2))
    assert fixed.polls >= 9.2
    assert fixed.lag > 2.5 * learned.lag
    exponential = simulate(Exponential(), World(sigma=0.2))
    assert exponential.polls >= 9.2
    assert exponential.lag > 5 * learned.lag


def test_four_looks_a_task_notice_within_seven_seconds() -> None:
    learned = simulate(Learned(1.9), World(sigma=0.2))
    assert learned.polls <= 4.0
    assert learned.lag <= 7


@pytest.mark.parametrize(("median", "polls", "lag"), [(30, 6, 4), (60, 8, 4), (240, 20, 6.5), (480, 33, 8.5)])
def test_a_wrong_estimate_is_outgrown(median: float, polls: float, lag: float) -> None:
    result = simulate(Learned(0.57), World(sigma=0.35, median=median))
    assert result.polls < polls
    assert result.lag < lag


@pytest.mark.parametrize("curve", [1.0, 2.0])
def test_progress_lowers_the_lag_whatever_its_curve(curve: float) -> None:
    blind = simulate(Learned(3.2), World(sigma=0.35))
    seeing = simulate(Learned(3.2), World(sigma=0.35, curve=curve))
    assert seeing.lag < 0.9 * blind.lag
    put_off = simulate(Learned(1.2, put_off=30.0), World(sigma=0.35, curve=curve))
    assert put_off.polls < 4.3
    assert put_off.lag < 5


def test_progress_that_is_only_noise_does_little_harm() -> None:
    blind = simulate(Learned(1.0), World(sigma=0.35))
    misled = simulate(Learned(1.0), World(sigma=0.35, curve=1.0, noise=200))
    assert misled.lag < 1.15 * blind.lag
    assert misled.polls < 1.15 * blind.polls


def test_early_failures_cost_little() -> None:
    assert simulate(Learned(1.0), World(sigma=0.35, early_failures=0.03)).lag < 9


def test_a_simulation_repeats_exactly() -> None:
    again = partial(simulate, world=World(tasks=50), seed=3)
    assert again(Learned(1.0)) == again(Learned(1.0))
