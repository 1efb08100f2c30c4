from __future__ import annotations

import random

import pytest

from wanasync.models import BatchItem, VideoRequest
from wanasync.rules.clashes import Clashes
from wanasync.rules.lists import ListLine


def line(number: int, prompt: str = "a cat", item_id: str | None = None, file: str | None = None) -> ListLine:
    return ListLine(number, BatchItem(VideoRequest(prompt), id=item_id, file=file))


def told(*lines: ListLine) -> list[str]:
    """What both passes over these lines find."""
    clashes = Clashes()
    found = [problem for each in lines for problem in clashes.check(each).problems]
    again = [clashes.check_again(index, each) for index, each in enumerate(lines)] if clashes.again else []
    return [str(problem) for problem in (*found, *again) if problem]


def test_an_id_is_one_lines() -> None:
    assert told(line(1, item_id="x"), line(3, item_id="y"), line(7, item_id="x")) == [
        'line 7, id: "x" stands on line 1 too'
    ]


def test_equal_prompts_are_no_clash() -> None:
    assert told(line(1), line(2), line(3)) == []


@pytest.mark.parametrize("other", ["cat.mp4", "CAT.MP4", "./cat.mp4", "cat"])
def test_a_file_is_one_lines_however_it_is_spelt(other: str) -> None:
    assert told(line(1, file="cat.mp4"), line(2, file=other)) == [f'line 2, file: "{other}" is the file of line 1 too']


def test_composed_and_decomposed_letters_are_one_name() -> None:
    assert len(told(line(1, file="caf\u00e9"), line(2, file="cafe\u0301"))) == 1


@pytest.mark.parametrize("order", [1, -1])
def test_a_wanted_file_may_not_be_one_that_is_made_for_another_line(order: int) -> None:
    lines = [line(1, "a dog", item_id="one"), line(2, file="one.mp4")][::order]
    assert told(*lines) == ['line 2, file: "one.mp4" is what the video of line 1 is called']


def test_files_that_are_all_made_need_no_second_look() -> None:
    clashes = Clashes()
    clashes.check(line(1))
    assert not clashes.again
    clashes.check(line(2, file="x"))
    assert clashes.again


def test_bad_lines_are_passed_over() -> None:
    bad = ListLine(1, None)
    clashes = Clashes()
    assert clashes.check(bad) is bad
    assert clashes.check_again(0, bad) is None


def test_many_ids_are_told_apart_as_a_dict_would() -> None:
    rng = random.Random(7)
    clashes, seen = Clashes(), dict[str, int]()
    for number in range(1, 5001):
        item_id = f"id-{rng.randrange(4000)}"
        first = seen.setdefault(item_id, number)
        problems = clashes.check(line(number, item_id=item_id)).problems
        expected = [] if first == number else [f'"{item_id}" stands on line {first} too']
        assert [problem.reason for problem in problems] == expected
