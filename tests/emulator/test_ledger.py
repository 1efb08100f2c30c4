from __future__ import annotations

from tests.emulator.making import BODY, T0, task, wish
from wanasync.emulator.ledger import Entry, Ledger, RequestNote
from wanasync.emulator.tasks import TaskBook


def test_an_entry_says_who_paid_for_what_as_things_stand() -> None:
    book, now = TaskBook(), T0
    ledger = Ledger(book, lambda: now)
    book.add(task(idempotency_key="key-0000000000001"))
    book.add(task(2, outcome="failed"))
    running = ledger.entries[0]
    assert running == Entry(
        task().id, "key-0000000000001", BODY, T0, "pending", credits_reserved=5, credits_used=0, credits_released=0
    )
    now = T0 + 100
    assert [(one.status, one.credits_used, one.credits_released) for one in ledger.entries] == [
        ("completed", 5, 0),
        ("failed", 0, 5),
    ]
    assert (ledger.credits_reserved, ledger.credits_used, ledger.credits_released) == (0, 5, 5)


def test_a_prompt_that_was_paid_for_twice_is_found() -> None:
    book = TaskBook()
    for number, prompt in enumerate(("cat", "dog", "cat")):
        book.add(task(number, wish=wish(prompt)))
    assert Ledger(book, lambda: T0).paid_twice() == {"cat": (task(0).id, task(2).id)}


def test_requests_are_counted_by_kind() -> None:
    ledger = Ledger(TaskBook(), lambda: T0)
    ledger.note("submit", 200, task_id="task-1")
    ledger.note("submit", 429)
    ledger.note("query", None, fault="reset")
    assert ledger.counts == {"submit": 2, "query": 1}
    assert ledger.refused == {"submit": 1}
    assert ledger.notes[-1] == RequestNote("query", T0, None, None, "reset")
