"""The account of a batch that several processes work on: never over the cap, never stuck below it."""

from __future__ import annotations

import math
import random

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wanasync import VideoRequest
from wanasync.rules.ledger import BUDGET, LIMIT, HeldBackError, Ledger, Terms
from wanasync.rules.lifecycle import ItemState
from wanasync.rules.records import ItemRecord
from wanasync.rules.wire import request_to_json

S = ItemState
CHEAP = request_to_json(VideoRequest("a cat", quality="480p"))
DEAR = request_to_json(VideoRequest("a cat", quality="1080p"))
PRICES = {CHEAP: 2.0, DEAR: 7.0}


def item(seq: int = 1, request: str = CHEAP, state: ItemState = S.PLANNED) -> ItemRecord:
    return ItemRecord("j", f"{seq:016x}", seq, seq, None, request, f"{seq}.mp4", state)


def step(ledger: Ledger, before: ItemRecord, state: ItemState, **changes: object) -> ItemRecord:
    after = attrs.evolve(before, state=state, **changes)  # type: ignore[arg-type]
    ledger.move(before, after)
    return after


def posted(ledger: Ledger, seq: int, request: str = CHEAP) -> ItemRecord:
    return step(ledger, item(seq, request), S.SUBMITTING)


def accepted(ledger: Ledger, seq: int, request: str = CHEAP) -> ItemRecord:
    return step(ledger, posted(ledger, seq, request), S.ACCEPTED, credits_reserved=PRICES[request])


def refusal(ledger: Ledger, seq: int = 99, request: str = CHEAP) -> HeldBackError:
    with pytest.raises(HeldBackError) as caught:
        posted(ledger, seq, request)
    return caught.value


def with_terms(budget: float | None = None, limit: int | None = None) -> Ledger:
    ledger = Ledger()
    ledger.allow(budget, limit)
    return ledger


def test_the_first_of_a_kind_goes_alone_and_its_reply_lets_the_others_go() -> None:
    ledger = with_terms(10)
    first = posted(ledger, 1)
    assert refusal(ledger).stopped is None
    step(ledger, first, S.ACCEPTED, credits_reserved=2.0)
    for seq in range(2, 6):
        posted(ledger, seq)
    assert refusal(ledger).stopped is None
    assert ledger.terms.stopped is None


def test_what_is_over_the_cap_for_good_stops_the_batch_for_everybody() -> None:
    ledger = with_terms(5)
    accepted(ledger, 1)
    accepted(ledger, 2)
    error = refusal(ledger)
    assert error.stopped == BUDGET == ledger.terms.stopped
    assert error.reason is not None
    assert (error.reason.budget, error.reason.reserved, error.reason.needed) == (5, 4, 2)
    ledger.allow(6, None)
    accepted(ledger, 3)
    assert (ledger.spent, ledger.sent) == (6, 3)


def test_one_that_is_turned_away_makes_room_and_a_lost_one_keeps_its_own() -> None:
    ledger = with_terms(4)
    accepted(ledger, 1)
    second = posted(ledger, 2)
    assert refusal(ledger).stopped is None
    step(ledger, second, S.PLANNED)
    lost = step(ledger, posted(ledger, 3), S.UNKNOWN)
    assert refusal(ledger).stopped == BUDGET
    # Its maker was taken for dead, and answers late.
    step(ledger, lost, S.REJECTED)
    ledger.allow(None, None)
    accepted(ledger, 4)
    assert (ledger.spent, ledger.sent) == (4, 2)


def test_a_lost_reply_of_unknown_price_stops_the_batch_until_it_is_found() -> None:
    ledger = with_terms(10)
    lost = step(ledger, posted(ledger, 1), S.UNKNOWN)
    assert refusal(ledger).stopped == BUDGET
    step(ledger, step(ledger, lost, S.RESUBMITTING), S.ACCEPTED, credits_reserved=2.0)
    ledger.allow(None, None)
    accepted(ledger, 2)
    assert ledger.spent == 4


def test_a_failed_task_and_one_that_cost_less_give_back() -> None:
    ledger = with_terms(100)
    one, two = accepted(ledger, 1), accepted(ledger, 2, DEAR)
    step(ledger, one, S.FAILED)
    step(ledger, two, S.READY, credits_used=6.5)
    assert ledger.spent == 6.5
    again = step(ledger, item(1, state=S.FAILED), S.PLANNED)
    assert step(ledger, again, S.SUBMITTING).state is S.SUBMITTING
    assert ledger.sent == 3


def test_a_host_that_tells_no_cost_ends_a_budget_at_once() -> None:
    ledger = with_terms(100)
    step(ledger, posted(ledger, 1), S.ACCEPTED)
    assert refusal(ledger).stopped == BUDGET
    ledger.allow(math.inf, None)
    assert posted(ledger, 2).state is S.SUBMITTING


def test_the_limit_counts_from_when_it_was_given_and_only_what_may_be_paid() -> None:
    ledger = with_terms(limit=2)
    accepted(ledger, 1)
    second = posted(ledger, 2)
    assert refusal(ledger).stopped is None
    step(ledger, second, S.REJECTED)
    accepted(ledger, 3)
    assert refusal(ledger).stopped == LIMIT
    ledger.allow(None, 1)
    accepted(ledger, 4)
    assert refusal(ledger).stopped == LIMIT
    ledger.allow(None, None)
    accepted(ledger, 5)
    assert ledger.terms == Terms()


def test_a_budget_stays_until_it_is_changed_and_is_lifted_by_infinity() -> None:
    ledger = with_terms(5)
    ledger.allow(None, 3)
    assert ledger.terms == Terms(5, 3)
    ledger.allow(math.inf, None)
    assert ledger.terms == Terms()


@pytest.mark.parametrize("text", ["", "[]", "[1,2]", "[1,2,3,true,[[1]],[],[]]", "{}", "[1,2,3,true,1,2,3]"])
def test_what_is_no_ledger_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="no ledger"):
        Ledger.from_json(Terms(), text)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), cap=st.floats(0, 40), limit=st.none() | st.integers(1, 12))
def test_however_things_come_the_terms_are_kept_and_the_sums_are_right(
    seed: int, cap: float, limit: int | None
) -> None:
    rng = random.Random(seed)
    ledger = with_terms(cap, limit)
    items = {seq: item(seq, rng.choice((CHEAP, DEAR))) for seq in range(20)}
    ways = {
        S.PLANNED: (S.SUBMITTING,),
        S.SUBMITTING: (S.ACCEPTED, S.PLANNED, S.REJECTED, S.UNKNOWN),
        S.UNKNOWN: (S.RESUBMITTING, S.ACCEPTED, S.PLANNED),
        S.RESUBMITTING: (S.ACCEPTED, S.UNKNOWN),
        S.ACCEPTED: (S.READY, S.FAILED),
        S.READY: (S.SAVED,),
    }
    for _ in range(120):
        before = items[rng.randrange(20)]
        if before.state not in ways:
            continue
        state = rng.choice(ways[before.state])
        changes = {"credits_reserved": PRICES[before.request_json]} if state is S.ACCEPTED else {}
        changes |= {"credits_used": PRICES[before.request_json]} if state is S.READY else {}
        try:
            items[before.seq] = step(ledger, before, state, **changes)
        except HeldBackError:
            continue
        ledger = Ledger.from_json(ledger.terms, ledger.to_json())
    assert ledger.spent == pytest.approx(sum(one.committed for one in items.values()))
    # The first of a kind is a probe: its price is not known before.
    assert ledger.spent <= cap + max(PRICES.values())
    paid = [one for one in items.values() if one.state not in (S.PLANNED, S.REJECTED)]
    assert ledger.sent == len(paid)
    assert limit is None or len(paid) <= limit
