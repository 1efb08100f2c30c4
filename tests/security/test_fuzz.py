"""Nothing but errors of our own tree comes of hostile input; `python -m benchmarks.fuzz` tries far more of it."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.security import fuzz_callbacks, fuzz_journals, fuzz_lists, fuzz_replies

# Few by hypothesis, which makes small what fails, and more by plain dice, which are a hundred times as fast.
dice = st.randoms(use_true_random=False)


@settings(max_examples=40)
@given(dice)
def test_any_reply_is_understood_or_refused(rng: Random) -> None:
    fuzz_replies.check(fuzz_replies.example(rng))


@settings(max_examples=40)
@given(dice)
def test_any_list_is_read_or_refused(rng: Random) -> None:
    fuzz_lists.check(fuzz_lists.example(rng))


@settings(max_examples=20)
@given(dice)
def test_any_journal_is_worked_with_or_refused(rng: Random) -> None:
    fuzz_journals.check(fuzz_journals.example(rng))


@settings(max_examples=40)
@given(dice)
def test_any_delivery_is_handed_on_or_refused(rng: Random) -> None:
    fuzz_callbacks.check(fuzz_callbacks.example(rng))


@pytest.mark.parametrize(
    ("target", "examples"), [(fuzz_replies, 1000), (fuzz_lists, 500), (fuzz_journals, 100), (fuzz_callbacks, 500)]
)
def test_so_does_what_plain_dice_make(target: Any, examples: int) -> None:
    for number in range(examples):
        target.check(target.example(Random(number)))
