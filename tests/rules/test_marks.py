from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wanasync.rules.marks import Marks

NUMBERS = st.lists(st.integers(0, 2000))


@given(NUMBERS, NUMBERS)
def test_is_a_set_of_numbers(added: list[int], asked: list[int]) -> None:
    marks = Marks()
    seen: set[int] = set()
    for number in added:
        assert marks.add(number) is (number not in seen)
        seen.add(number)
    for number in added + asked:
        assert (number in marks) is (number in seen)
