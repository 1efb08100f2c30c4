from __future__ import annotations

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.emulator.making import T0, task
from wanasync.emulator.tasks import Task, TaskBook
from wanasync.emulator.timing import linear, slow_start


def test_a_task_is_pending_then_processing_then_what_became_of_it() -> None:
    for outcome in ("completed", "failed", "cancelled"):
        one = task(outcome=outcome)
        seen = [one.status(T0 + second) for second in (0, 1.9, 2, 99.9, 100, 5000)]
        assert seen == ["pending", "pending", "processing", "processing", outcome, outcome]


def test_progress_climbs_and_falls_to_nothing_on_failure() -> None:
    climbing = [task(takes=102).progress(T0 + second, linear) for second in (0, 2, 27, 52, 101.9, 102)]
    assert climbing == [0, 0, 25, 50, 99, 100]
    assert task(takes=102).progress(T0 + 52, slow_start) == 25
    assert task(outcome="failed").progress(T0 + 100, linear) == 0


def test_a_task_whose_end_nobody_knows_stays_short_of_complete() -> None:
    rendering = task(ends=None)
    assert rendering.status(T0 + 10_000) == "processing"
    assert rendering.progress(T0 + 10_000, linear) == 99


def test_a_completed_task_is_charged_and_another_gets_its_credits_back() -> None:
    book = TaskBook()
    for number, outcome in enumerate(("completed", "failed", "cancelled")):
        book.add(task(number, outcome=outcome, takes=100 + number))
    assert (book.credits_reserved, book.credits_used, book.credits_released) == (15, 0, 0)
    book.settle(T0 + 100)
    assert (book.credits_reserved, book.credits_used, book.credits_released) == (10, 5, 0)
    book.settle(T0 + 102)
    assert (book.credits_reserved, book.credits_used, book.credits_released) == (0, 5, 10)


def test_the_load_is_what_has_not_ended_and_its_first_end() -> None:
    book = TaskBook()
    for number, takes in enumerate((300.0, 100.0, 200.0)):
        book.add(task(number, takes=takes))
    assert (book.under_way(T0), book.next_end(T0)) == (3, T0 + 100)
    assert (book.under_way(T0 + 150), book.next_end(T0 + 150)) == (2, T0 + 200)
    assert (book.under_way(T0 + 300), book.next_end(T0 + 300)) == (0, None)


def test_a_stuck_task_stays_under_way_for_ever() -> None:
    book = TaskBook()
    book.add(task(ends=math.inf))
    assert book.under_way(T0 + 1e9) == 1
    assert book.credits_reserved == 5


def test_an_end_that_was_moved_is_billed_once() -> None:
    book, moved = TaskBook(), task()
    book.add(moved)
    book.end(moved, T0 + 50, outcome="cancelled", failure="request_cancelled")
    book.settle(T0 + 200)
    assert (book.under_way(T0 + 200), book.credits_released, book.credits_used) == (0, 5, 0)


def test_the_newest_come_first_in_lists() -> None:
    book = TaskBook()
    for number in range(3):
        book.add(task(number))
    assert [one.id[-1] for one in book.newest_first()] == ["2", "1", "0"]
    assert len(book) == 3
    assert book.get("nobody") is None


class Accounts(RuleBasedStateMachine):
    """Whatever happens to tasks, no credit is made or lost."""

    def __init__(self) -> None:
        super().__init__()
        self.book = TaskBook()
        self.now = T0
        self.priced = 0.0

    @rule(takes=st.floats(0.1, 500), outcome=st.sampled_from(["completed", "failed"]), known=st.booleans())
    def submit(self, takes: float, outcome: str, known: bool) -> None:
        end = self.now + takes if known else None
        self.book.add(task(len(self.book), outcome=outcome, planned_end=self.now + takes, ends=end))
        self.priced += 5

    @rule(passing=st.floats(0, 300))
    def wait(self, passing: float) -> None:
        self.now += passing

    @rule(choice=st.integers(0, 50), cancel=st.booleans())
    def end_one(self, choice: int, cancel: bool) -> None:
        running: list[Task] = [one for one in self.book if not one.ended(self.now)]
        if running:
            one = running[choice % len(running)]
            self.book.end(one, self.now + choice, outcome="cancelled" if cancel else None)

    @invariant()
    def every_credit_is_somewhere(self) -> None:
        running = sum(not one.ended(self.now) for one in self.book)
        assert self.book.under_way(self.now) == running
        assert self.book.credits_reserved == pytest.approx(5 * running)
        parts = self.book.credits_reserved + self.book.credits_used + self.book.credits_released
        assert parts == pytest.approx(self.priced)


TestAccounts = Accounts.TestCase
TestAccounts.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
