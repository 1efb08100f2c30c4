from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wanasync import VideoRequest
from wanasync.rules.budget import Budget, Verdict, kind_of

CHEAP = VideoRequest("a cat", quality="480p")
DEAR = VideoRequest("a cat", quality="1080p", duration=10)


def test_requests_that_take_the_defaults_are_of_the_kind_that_names_them() -> None:
    assert kind_of(VideoRequest("a cat")) == kind_of(VideoRequest("a dog", quality="720p", duration=5))
    assert kind_of(CHEAP) != kind_of(DEAR)


def test_without_a_cap_everything_is_sent() -> None:
    budget = Budget()
    budget.hold(CHEAP)
    budget.reserve(CHEAP, 1e9)
    assert budget.verdict(CHEAP) is Verdict.SEND


def test_the_first_of_a_kind_is_sent_alone() -> None:
    budget = Budget(100)
    assert budget.verdict(CHEAP) is Verdict.SEND
    budget.hold(CHEAP)
    assert budget.verdict(CHEAP) is Verdict.WAIT
    assert budget.verdict(DEAR) is Verdict.WAIT
    budget.reserve(CHEAP, 5)
    assert budget.verdict(CHEAP) is Verdict.SEND
    assert budget.verdict(DEAR) is Verdict.SEND


def test_the_cap_is_reached_exactly_and_not_passed() -> None:
    budget = Budget(10)
    for _ in range(2):
        assert budget.verdict(CHEAP) is Verdict.SEND
        budget.hold(CHEAP)
        budget.reserve(CHEAP, 5)
    assert budget.verdict(CHEAP) is Verdict.STOP


def test_once_blind_a_budget_stays_blind() -> None:
    budget = Budget(100)
    budget.learn(CHEAP, 5)
    budget.hold(DEAR)
    budget.hold(CHEAP)
    budget.reserve(DEAR, None)
    budget.reserve(CHEAP, None)
    assert budget.blind
    assert budget.verdict(CHEAP) is Verdict.STOP


def test_submissions_in_flight_count_at_their_price() -> None:
    budget = Budget(10)
    budget.learn(CHEAP, 5)
    budget.hold(CHEAP)
    budget.hold(CHEAP)
    assert budget.verdict(CHEAP) is Verdict.STOP
    budget.release(CHEAP)
    assert budget.verdict(CHEAP) is Verdict.SEND


def test_what_a_failed_task_had_reserved_may_be_spent_again() -> None:
    budget = Budget(5)
    budget.hold(CHEAP)
    budget.reserve(CHEAP, 5)
    assert budget.verdict(CHEAP) is Verdict.STOP
    budget.settle(5, 0)
    assert budget.verdict(CHEAP) is Verdict.SEND


def test_a_provider_that_tells_no_price_ends_a_budgeted_batch() -> None:
    budget = Budget(100)
    budget.hold(CHEAP)
    budget.reserve(CHEAP, None)
    assert budget.verdict(CHEAP) is Verdict.STOP


def test_prices_are_taken_over_by_a_later_run() -> None:
    first, later = Budget(10), Budget(10)
    for request, price in ((CHEAP, 3), (DEAR, 17)):
        first.hold(request)
        first.reserve(request, price)
    later.recall_prices(first.prices_json())
    assert later.price(CHEAP) == 3
    assert later.verdict(DEAR) is Verdict.STOP


@given(st.text() | st.sampled_from(["", "[]", "{}", "[1]", '[["m", "q", 5, "x"]]', "[[1, [], {}, 2]]"]))
def test_prices_that_cannot_be_read_are_learned_anew(text: str) -> None:
    budget = Budget(10)
    budget.recall_prices(text)
    assert budget.price(CHEAP) is None


PRICES = {kind_of(CHEAP): 3.0, kind_of(DEAR): 17.0}


@given(
    cap=st.floats(20, 200),
    steps=st.lists(st.tuples(st.sampled_from([CHEAP, DEAR]), st.sampled_from(["accept", "lose", "refuse"]))),
    window=st.integers(1, 5),
)
def test_what_is_spent_and_may_be_spent_stays_under_the_cap(
    cap: float, steps: list[tuple[VideoRequest, str]], window: int
) -> None:
    budget = Budget(cap)
    for request in (CHEAP, DEAR):
        budget.learn(request, PRICES[kind_of(request)])
    flying: list[tuple[VideoRequest, str]] = []
    paid = 0.0

    def land() -> None:
        nonlocal paid
        request, fate = flying.pop(0)
        if fate == "refuse":
            budget.release(request)
            return
        paid += PRICES[kind_of(request)]
        if fate == "accept":
            budget.reserve(request, PRICES[kind_of(request)])

    for request, fate in steps:
        verdict = budget.verdict(request)
        if verdict is Verdict.SEND:
            budget.hold(request)
            flying.append((request, fate))
        elif verdict is Verdict.STOP:
            break
        if len(flying) >= window:
            land()
    while flying:
        land()
    assert paid <= cap
