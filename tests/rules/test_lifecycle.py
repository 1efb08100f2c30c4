"""The table of an item's life, held against what it promises about money."""

from __future__ import annotations

import pickle
from itertools import product

import pytest

from wanasync.errors import JournalError
from wanasync.rules.lifecycle import (
    PAID_STATES,
    SETTLED_STATES,
    TRANSITIONS,
    ItemEvent,
    ItemState,
    TransitionError,
    next_state,
)


def test_the_good_way_leads_from_planned_to_saved() -> None:
    state = ItemState.PLANNED
    for event in (ItemEvent.SUBMIT, ItemEvent.ACCEPTED, ItemEvent.LINKED, ItemEvent.SAVED):
        state = next_state(state, event)
    assert state is ItemState.SAVED


@pytest.mark.parametrize(("state", "event"), list(product(ItemState, ItemEvent)))
def test_every_step_is_in_the_table_or_refused(state: ItemState, event: ItemEvent) -> None:
    if (state, event) in TRANSITIONS:
        assert next_state(state, event) is TRANSITIONS[state, event]
        return
    with pytest.raises(TransitionError) as caught:
        next_state(state, event)
    assert (caught.value.state, caught.value.event) == (state, event)
    assert str(state) in str(caught.value)


def test_a_refused_step_is_a_journal_error_that_pickles() -> None:
    with pytest.raises(JournalError) as caught:
        next_state(ItemState.SAVED, ItemEvent.SUBMIT)
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert isinstance(copy, TransitionError)
    assert (str(copy), copy.state, copy.event) == (str(caught.value), ItemState.SAVED, ItemEvent.SUBMIT)


def ways_out(start: ItemState, without: frozenset[ItemEvent]) -> set[ItemState]:
    """All states that can follow `start` when some events don't happen."""
    found, frontier = {start}, [start]
    while frontier:
        here = frontier.pop()
        after = {to for (state, event), to in TRANSITIONS.items() if state is here and event not in without}
        frontier += after - found
        found |= after
    return found


def test_a_submission_that_may_be_paid_is_never_quietly_sent_again() -> None:
    """From unknown, only an explicit resubmission leads back to the wire, and none leads to planned."""
    held = ways_out(ItemState.UNKNOWN, frozenset({ItemEvent.RESUBMIT, ItemEvent.RETRY}))
    assert ItemState.SUBMITTING not in held
    assert ItemState.PLANNED not in held
    resubmitted = ways_out(ItemState.UNKNOWN, frozenset({ItemEvent.RETRY}))
    assert ItemState.PLANNED not in resubmitted
    assert ItemState.REJECTED not in resubmitted


def test_an_accepted_item_is_submitted_again_only_after_it_failed_and_a_retry_was_asked_for() -> None:
    for paid in (ItemState.ACCEPTED, ItemState.READY, ItemState.SAVED, ItemState.EXPIRED):
        reached = ways_out(paid, frozenset({ItemEvent.RETRY}))
        assert not reached & {ItemState.PLANNED, ItemState.SUBMITTING, ItemState.RESUBMITTING}


def test_a_crash_while_the_request_may_be_on_the_wire_makes_it_unknown() -> None:
    cut_off = {state for state, event in TRANSITIONS if event is ItemEvent.INTERRUPTED}
    assert cut_off == {ItemState.SUBMITTING, ItemState.RESUBMITTING}
    assert {next_state(state, ItemEvent.INTERRUPTED) for state in cut_off} == {ItemState.UNKNOWN}


def test_every_state_can_be_reached_and_none_but_final_ones_is_a_dead_end() -> None:
    assert ways_out(ItemState.PLANNED, frozenset()) == set(ItemState)
    assert {state for state, _ in TRANSITIONS} == set(ItemState)


def test_paid_states_are_those_where_money_is_or_may_be_spent() -> None:
    assert set(ItemState) - PAID_STATES == {ItemState.PLANNED, ItemState.FAILED, ItemState.REJECTED}
    assert ItemState.ACCEPTED not in SETTLED_STATES
    assert ItemState.READY not in SETTLED_STATES
