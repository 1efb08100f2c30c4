from __future__ import annotations

import pytest

from wanasync.rules.known_list import KnownList


def test_is_read_as_it_was_written() -> None:
    known = KnownList("abc", 5, is_whole=True, unlisted=frozenset({3, 1}))
    assert KnownList.from_json(known.to_json()) == known
    assert known.rows == 7


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{",
        "7",
        "[]",
        "null",
        '["abc",5,true]',
        '["abc",-1,true,[]]',
        '["abc",5,1,[]]',
        '["abc","5",true,[]]',
        '["abc",true,true,[]]',
        '["abc",5,true,["1"]]',
        '["abc",5,true,[[]]]',
        '["abc",5,true,[-1]]',
        '["abc",5,true,7]',
        "[null,5,true,[]]",
        '["abc",1e999,true,[]]',
        "[" * 100_000,
    ],
)
def test_what_is_none_is_none(text: str | None) -> None:
    assert KnownList.from_json(text) is None
