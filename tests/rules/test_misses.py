"""What a failed look says of its task, and when failing looks are told of."""

from __future__ import annotations

import pytest

from wanasync.errors import APIConnectionError, APIError, AuthenticationError, RateLimitError, ServerError
from wanasync.rules.misses import (
    DENIALS,
    DENIED_SECONDS,
    QUIET_SECONDS,
    WORTH_TELLING,
    Complaints,
    Denials,
    is_denial,
)


@pytest.mark.parametrize("status", [400, 403, 422, 451])
def test_a_refusal_may_be_meant_for_one_task(status: int) -> None:
    assert is_denial(APIError("no", status))


@pytest.mark.parametrize(
    "error",
    [
        APIError("pay", 402),
        APIError("slow", 408),
        AuthenticationError("who", 401),
        RateLimitError("much", 429),
        ServerError("oh", 500),
        APIConnectionError("gone"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_says_nothing_about_one_task_is_no_refusal_of_it(error: APIConnectionError | APIError) -> None:
    assert not is_denial(error)


def test_a_task_is_refused_once_looks_were_so_often_and_for_so_long() -> None:
    denials = Denials()
    assert [denials.note("a", 100.0 + turn) for turn in range(DENIALS + 1)] == [None] * (DENIALS + 1)
    assert denials.note("a", 100.0 + DENIED_SECONDS) == 100.0
    assert denials.note("b", 100.0 + DENIED_SECONDS) is None


def test_seldom_refusals_need_their_number_too() -> None:
    denials = Denials()
    assert denials.note("a", 0.0) is None
    assert denials.note("a", DENIED_SECONDS) is None
    assert denials.note("a", DENIED_SECONDS + 1) == 0.0


def test_a_look_that_passed_begins_the_count_anew() -> None:
    denials = Denials()
    for turn in range(DENIALS):
        denials.note("a", float(turn))
    denials.forget("a")
    denials.forget("never refused")
    assert denials.note("a", DENIED_SECONDS * 2) is None


def test_failures_are_told_when_they_come_in_a_row_and_then_not_for_a_while() -> None:
    complaints = Complaints()
    assert [complaints.note(in_a_row, 0.0) for in_a_row in range(1, WORTH_TELLING + 1)] == [0] * (WORTH_TELLING - 1) + [
        WORTH_TELLING
    ]
    assert complaints.note(WORTH_TELLING + 1, QUIET_SECONDS - 1) == 0
    assert complaints.note(WORTH_TELLING + 2, QUIET_SECONDS) == 2
