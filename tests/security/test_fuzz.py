"""Nothing but errors of our own tree comes of hostile input; `python -m benchmarks.fuzz` tries far more of it."""

from __future__ import annotations

from hypothesis import given, settings

from tests.security import fuzz_journals, fuzz_lists, fuzz_replies
from tests.security.fuzz_journals import SpoiltBytes, SpoiltRow
from tests.security.fuzz_lists import HostileList
from wanasync.rules.replies import Reply


@settings(max_examples=200)
@given(fuzz_replies.strategy)
def test_any_reply_is_understood_or_refused(reply: Reply) -> None:
    fuzz_replies.check(reply)


@settings(max_examples=150)
@given(fuzz_lists.strategy)
def test_any_list_is_read_or_refused(hostile: HostileList) -> None:
    fuzz_lists.check(hostile)


@settings(max_examples=60)
@given(fuzz_journals.strategy)
def test_any_journal_is_worked_with_or_refused(spoils: tuple[SpoiltBytes | SpoiltRow, ...]) -> None:
    fuzz_journals.check(spoils)
