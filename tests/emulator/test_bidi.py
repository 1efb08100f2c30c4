from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanasync.emulator.bidi import levels, unshaped_order, visual_order

MIXED = st.text(alphabet="abאבج د12. ,()", max_size=40)


def seen(text: str) -> str:
    """`text` as it stands on the line; letters that run to the left are mirrored one by one."""
    found = levels(list(text))
    return "".join(text[i] for i in visual_order(found))


@pytest.mark.parametrize(
    ("text", "on_the_line"),
    [
        ("abc def", "abc def"),
        ("אבג", "גבא"),
        ("see אבג דה now", "see הד גבא now"),
        ("אבג see דה", "הד see גבא"),
        ("אבג 12 דה", "הד 12 גבא"),
        ("אבג 3.14", "3.14 גבא"),
        ("version 1.2 אב", "version 1.2 בא"),
        ("12 + 3", "12 + 3"),
        ("אב!", "!בא"),
        ("", ""),
    ],
)
def test_the_order_on_the_line(text: str, on_the_line: str) -> None:
    assert seen(text) == on_the_line


@given(MIXED)
def test_nothing_is_lost_or_doubled(text: str) -> None:
    found = levels(list(text))
    assert sorted(visual_order(found)) == list(range(len(text)))
    assert set(found) <= {0, 1, 2}


@given(st.text(alphabet="abc 12.,", max_size=30))
def test_what_runs_to_the_right_stays_as_it_is(text: str) -> None:
    assert seen(text) == text


def test_arabic_letters_take_the_form_of_their_place() -> None:
    # seen, lam-alef, meem: initial, final (the ligature), isolated; read from the right
    assert unshaped_order("سلام") == "\ufee1\ufefc\ufeb3"
    assert unshaped_order("ب") == "\ufe8f"
    assert unshaped_order("ببب") == "\ufe90\ufe92\ufe91"
    assert unshaped_order("دد") == "\ufea9\ufea9"  # dal never joins what follows


def test_marks_stay_with_their_letters_and_brackets_turn() -> None:
    assert unshaped_order("בּ(א") == "א)בּ"
    assert unshaped_order("بَب") == "\ufe90\ufe91\u064e"


@given(st.text(alphabet="אבגד ()", max_size=20))
def test_hebrew_is_only_turned_around(text: str) -> None:
    turned = str.maketrans("()", ")(")
    assert unshaped_order(text) == text[::-1].translate(turned)
