from __future__ import annotations

import pytest

from wanasync.rules.failures import PROVIDERS_FAULT, may_try_again, wait_before


@pytest.mark.parametrize("code", sorted(PROVIDERS_FAULT))
def test_the_providers_faults_are_tried_again_as_often_as_asked_for(code: str) -> None:
    assert [may_try_again(code, attempt, 2) for attempt in (1, 2, 3)] == [True, True, False]
    assert not may_try_again(code, 1, 0)


@pytest.mark.parametrize(
    "code", [None, "", "content_policy_violation", "invalid_parameters", "image_processing_error", "of_next_year"]
)
def test_what_speaks_of_the_request_or_of_nothing_is_not(code: str | None) -> None:
    assert not may_try_again(code, 1, 10)


def test_waits_grow_to_a_bound() -> None:
    waits = [wait_before(attempt) for attempt in range(1, 5000)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (30.0, 600.0)
