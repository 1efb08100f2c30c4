from __future__ import annotations

import math
import timeit
from functools import partial
from random import Random

import pytest
from attrs import evolve

from benchmarks.follow import Exponential, Fixed, Learned, World, simulate
from wanasync.rules.polling import MAX_WAIT, MIN_WAIT, STALE_WAIT, PollingPolicy, Price
from wanasync.rules.progress import NO_EVIDENCE

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


def test_while_nothing_tells_how_long_tasks_take_waits_grow_with_the_age() -> None:
    policy, rng = PollingPolicy(), Random(1)
    guess = policy.estimate(None)
    waits = [policy.next_wait(age, guess, NO_EVIDENCE, rng) for age in (1.0, 8.0, 40.0)]
    assert waits == [5.0, 5.0, 10.0]
    assert policy.estimate(30.0) == 30.0
    assert policy.estimate(None) == 30.0
    assert policy.next_wait(1.0, 30.0, NO_EVIDENCE, rng) > 5.0


@pytest.mark.parametrize("nonsense", [None, 0.0, -1.0, math.nan, 120_000.0, 86_400.0, 1e9])
def test_an_estimate_that_makes_no_sense_puts_no_first_look_off(nonsense: float | None) -> None:
    policy = PollingPolicy()
    assert policy.first_wait(policy.estimate(nonsense)) <= 10.0
    told = policy.estimate(200.0)
    assert policy.first_wait(told) > 60.0
    assert policy.first_wait(policy.estimate(nonsense)) == policy.first_wait(told)


def test_once_a_task_has_ended_no_estimate_is_needed_for_the_first_look() -> None:
    policy = PollingPolicy()
    guess = policy.estimate(0.0)
    policy.finished(100.0, 110.0, guess, NO_EVIDENCE, told=False)
    assert policy.first_wait(policy.estimate(0.0)) > 30.0


def test_a_task_that_ended_ends_the_guessing() -> None:
    policy, rng = PollingPolicy(), Random(1)
    guess = policy.estimate(None)
    policy.finished(100.0, 110.0, guess, NO_EVIDENCE, told=False)
    assert policy.estimate(None) == guess
    assert policy.next_wait(1.0, guess, NO_EVIDENCE, rng) > 20.0


def test_waits_keep_within_their_bounds() -> None:
    policy, rng = PollingPolicy(), Random(1)
    waits = [policy.next_wait(age, 120.0, NO_EVIDENCE, rng) for age in range(1, 1200)]
    assert all(MIN_WAIT <= wait <= MAX_WAIT for wait in waits)
    assert PollingPolicy(price=Price(0.001)).next_wait(120, 120.0, NO_EVIDENCE, rng) == MIN_WAIT


def test_stale_tasks_are_looked_at_every_ten_minutes() -> None:
    policy, rng = PollingPolicy(), Random(1)
    assert policy.next_wait(3600, 120.0, NO_EVIDENCE, rng) == pytest.approx(STALE_WAIT, rel=0.05)
    assert policy.next_wait(1100, 120.0, NO_EVIDENCE, rng) <= MAX_WAIT


def test_a_task_that_takes_long_is_not_stale_early() -> None:
    assert PollingPolicy().next_wait(3600, 1200.0, NO_EVIDENCE, Random(1)) <= MAX_WAIT


def test_looks_at_tasks_submitted_together_come_apart() -> None:
    policy, rng = PollingPolicy(), Random(1)
    waits = {policy.next_wait(100, 120.0, NO_EVIDENCE, rng) for _ in range(50)}
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
        policy.finished(235, 240, 120.0, NO_EVIDENCE, told=False)
    assert policy.first_wait(120.0) > 1.5 * before
    assert policy.expected_seconds() == pytest.approx(240, rel=0.15)


def test_nothing_is_expected_before_something_was_learned() -> None:
    assert PollingPolicy().expected_seconds() is None


@pytest.mark.parametrize("nonsense", [None, 0.0, -5.0, math.nan, math.inf, 60_000.0, 1e9])
def test_an_estimate_that_makes_no_sense_is_replaced_by_the_last_good_one(nonsense: float | None) -> None:
    policy = PollingPolicy()
    assert policy.estimate(nonsense) == 120
    assert policy.estimate(45.0) == 45
    assert policy.estimate(nonsense) == 45


def test_what_one_estimate_taught_holds_for_others() -> None:
    policy = PollingPolicy()
    for _ in range(50):
        policy.finished(95, 105, 50.0, NO_EVIDENCE, told=False)
    short, long = policy.first_wait(50.0), policy.first_wait(100.0)
    assert 1.7 < long / short < 2.3


def test_callbacks_make_looks_ten_times_as_dear_at_first() -> None:
    blind, with_callbacks = PollingPolicy(), PollingPolicy(callbacks=True)
    assert with_callbacks.first_wait(120.0) > blind.first_wait(120.0) * 1.3


def test_with_proved_callbacks_a_look_comes_when_nearly_all_tasks_have_ended() -> None:
    rng, policy = Random(1), PollingPolicy(callbacks=True)
    for _ in range(300):
        policy.finished(0, 120 * math.exp(0.5 * rng.gauss(0, 1)), 120.0, NO_EVIDENCE, told=True)
    assert policy.first_wait(120.0) == pytest.approx(120 * math.exp(3.09 * 0.5), rel=0.15)


def test_callbacks_that_stop_coming_are_no_longer_relied_on() -> None:
    def settled(*told: bool) -> float:
        policy, rng = PollingPolicy(callbacks=True), Random(1)
        for each in (True,) * 200 + told:
            duration = 120 * math.exp(0.35 * rng.gauss(0, 1))
            policy.finished(duration - 1, duration, 120.0, NO_EVIDENCE, told=each)
        return policy.first_wait(120.0)

    assert settled(False) < 0.7 * settled(True)
    assert settled(False, False, False) < settled(False)
    assert settled(False, *(True,) * 100) == pytest.approx(settled(True), rel=0.15)


def test_an_end_told_by_a_callback_teaches_when_it_was() -> None:
    policy = PollingPolicy(callbacks=True)
    for _ in range(100):
        policy.finished(0, 300, 120.0, NO_EVIDENCE, told=True)
    assert policy.expected_seconds() == pytest.approx(300, rel=0.1)


def test_a_decision_costs_microseconds() -> None:
    """Generous, for slow machines; 11-13 µs were measured."""
    policy, rng = PollingPolicy(), Random(1)
    best = min(timeit.repeat(lambda: policy.next_wait(100, 120.0, NO_EVIDENCE, rng), number=200, repeat=5)) / 200
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


LINEAR = World(sigma=0.35, curve=1.0)


def test_with_linear_progress_four_looks_notice_within_three_seconds() -> None:
    seeing = simulate(Learned(1.6), LINEAR)
    assert seeing.polls <= 4.0
    assert seeing.lag <= 3.0
    blind = simulate(Learned(3.2), World(sigma=0.35))
    assert blind.polls >= 3.9
    assert blind.lag > 2.5 * seeing.lag


@pytest.mark.parametrize(
    ("world", "polls", "lag"),
    [
        (evolve(LINEAR, curve=2.0), 4.3, 4.2),
        (evolve(LINEAR, curve=0.5), 4.3, 4.6),
        (evolve(LINEAR, later_curve=2.0), 4.3, 5.5),
        (evolve(LINEAR, curve=2.0, later_curve=1.0), 5.7, 4.5),
        (evolve(LINEAR, steps=25), 4.5, 5.7),
        (evolve(LINEAR, stuck_at=60), 4.3, 6.5),
        (evolve(LINEAR, liars=0.05), 4.2, 5.2),
        (evolve(LINEAR, liars=0.3), 5.3, 6.2),
        (evolve(LINEAR, early_failures=0.03), 4.2, 5.3),
    ],
    ids=["slow", "fast", "gets slow", "gets linear", "steps", "stuck", "few lie", "many lie", "some fail"],
)
def test_progress_of_any_kind_is_better_than_none(world: World, polls: float, lag: float) -> None:
    """Without progress four looks a task notice its end 9.9 s late, and five 7.8 s."""
    seeing = simulate(Learned(2.2), world)
    assert seeing.polls <= polls
    assert seeing.lag <= lag


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
