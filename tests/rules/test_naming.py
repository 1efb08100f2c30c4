"""File names: what the user wants is taken or refused, what is made here is safe everywhere."""

from __future__ import annotations

import ntpath
import sys
import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanasync.errors import RequestValidationError
from wanasync.rules.naming import (
    MAX_PART,
    file_name,
    lasting_name,
    leading_number,
    made_name,
    name_key,
    numbered,
    slug,
    wanted_name,
)

FORBIDDEN = set('<>:"|?*\\') | {chr(code) for code in range(32)}


def is_reserved(part: str) -> bool:
    """Whether Windows takes it for a device, in the standard library's opinion."""
    if sys.version_info >= (3, 13):
        return ntpath.isreserved(part)
    return PureWindowsPath(part).is_reserved()


def assert_safe(name: str) -> None:
    """Exists on every file system, inside the directory, and reads as what it is."""
    path = PurePosixPath(name)
    assert not path.is_absolute()
    assert not PureWindowsPath(name).is_absolute()
    assert not PureWindowsPath(name).drive
    assert name.lower().endswith(".mp4")
    assert name.encode().decode() == name
    for part in name.split("/"):
        assert part not in ("", ".", "..")
        assert not part.startswith((".", " "))
        assert not part.endswith((".", " "))
        assert not FORBIDDEN & set(part)
        assert len(part.encode()) <= MAX_PART
        assert not is_reserved(part)
        assert all(unicodedata.bidirectional(char) not in ("RLO", "LRO", "RLE", "LRE", "RLI", "LRI") for char in part)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("A cat playing piano", "a-cat-playing-piano"),
        ("  --A «cat», playing: piano!?  ", "a-cat-playing-piano"),
        ("Ein Kätzchen spielt Klavier", "ein-kätzchen-spielt-klavier"),
        ("一只猫在弹钢琴", "一只猫在弹钢琴"),
        ("एक बिल्ली पियानो बजाती है", "एक-बिल्ली-पियानो-बजाती-है"),
        ("แมวเล่นเปียโน", "แมวเล่นเปียโน"),
        ("القطة تعزف", "القطة-تعزف"),
        ("ﬁne Ａｒｔ ②", "fine-art-2"),
        ("../../etc/passwd", "etc-passwd"),
        ("🐱🎹", ""),
        ("...", ""),
        (
            "a very long prompt that goes on and on about all the details of a scene",
            "a-very-long-prompt-that-goes-on-and-on-about-all",
        ),
        ("x" * 300, "x" * 48),
    ],
)
def test_a_slug_is_the_words_of_a_prompt_in_any_script(prompt: str, expected: str) -> None:
    made = slug(prompt)
    assert made == unicodedata.normalize("NFC", expected)
    assert len(made) <= 48
    assert len(made.encode()) <= 100


def test_a_slug_is_cut_between_letters_not_inside_one() -> None:
    assert slug("猫" * 60) == "猫" * 33
    assert slug("𝒜" * 3 + " 𠀀" * 60).encode().decode()


@given(st.text(max_size=300))
def test_any_prompt_makes_a_safe_name(prompt: str) -> None:
    assert_safe(made_name(prompt, 0))
    assert_safe(made_name(prompt, 10**7))


@given(st.text(min_size=1, max_size=300))
def test_any_id_makes_a_safe_name(item_id: str) -> None:
    assert_safe(made_name("A cat", 3, item_id))


@pytest.mark.parametrize(
    ("item_id", "expected"),
    [
        ("cat", "cat.mp4"),
        ("cat.mp4", "cat.mp4"),
        ("shots/1:2", "shots-1-2.mp4"),
        ("con", "_con.mp4"),
        ("..", "0004.mp4"),
        ("-rf", "rf.mp4"),
        ("猫 1", "猫 1.mp4"),
        ("\u202egpj", "gpj.mp4"),
    ],
)
def test_a_name_made_from_an_id_stays_close_to_it(item_id: str, expected: str) -> None:
    assert made_name("A cat", 3, item_id) == expected


def test_without_wish_or_id_the_name_is_the_place_and_the_prompt() -> None:
    assert file_name("A cat", 0) == "0001-a-cat.mp4"
    assert file_name("🐱", 12344) == "12345.mp4"
    assert file_name("A cat", 0, "7") == "7.mp4"
    assert file_name("A cat", 0, "7", "shots/cat") == "shots/cat.mp4"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("cat", "cat.mp4"),
        ("cat.MP4", "cat.MP4"),
        ("cat.mov", "cat.mov.mp4"),
        ("a/b/cat.mp4", "a/b/cat.mp4"),
        ("a\\b\\cat", "a/b/cat.mp4"),
        ("./a//cat", "a/cat.mp4"),
        ("Käse", "Käse.mp4"),
        ("Käse (1)", "Käse (1).mp4"),
    ],
)
def test_a_wanted_name_is_taken_as_it_is(wanted: str, expected: str) -> None:
    assert wanted_name(wanted) == expected
    assert wanted_name(expected) == expected


@pytest.mark.parametrize(
    "wanted",
    [
        "",
        ".",
        "/etc/passwd",
        "\\\\server\\share\\x",
        "C:cat",
        "c:\\cat",
        "../cat",
        "a/../../cat",
        "a\\..\\cat",
        "..",
        "shots/",
        ".wanasync/journal.db",
        ".WANASYNC/journal",
        "a/.hidden/cat",
        ".mp4",
        "nul",
        "a/COM1.mp4/b",
        "com¹",
        "aux.mp4",
        "con .mp4",
        "cat\x00",
        "cat\n",
        "ca\x1b[31mt",
        "cat\u202e4pm",
        "half \ud800",
        "what?",
        'say "cat"',
        "a:b",
        "folder./cat",
        " cat",
        "cat /dog",
        "a.mp4/b",
        "x" * 117,
        "猫" * 39,
        "/".join("abcdefghi"),
    ],
)
def test_a_wanted_name_that_is_not_safe_everywhere_is_refused(wanted: str) -> None:
    with pytest.raises(RequestValidationError) as caught:
        wanted_name(wanted)
    assert caught.value.field == "file"
    assert caught.value.value == wanted


@given(st.text(max_size=200) | st.text("./\\ aA:~-é", max_size=12))
def test_whatever_is_wanted_is_safe_or_refused(wanted: str) -> None:
    try:
        name = wanted_name(wanted)
    except RequestValidationError:
        return
    assert_safe(name)


@given(st.text(min_size=1, max_size=200), st.integers(2, 10**6))
def test_a_numbered_name_is_safe_and_another(item_id: str, number: int) -> None:
    name = made_name("A cat", 0, item_id)
    other = numbered(name, number)
    assert_safe(other)
    assert name_key(other) != name_key(name)


def test_a_number_goes_before_the_suffix_and_after_the_folder() -> None:
    assert numbered("cat.mp4", 2) == "cat-2.mp4"
    assert numbered("a.b/cat.MP4", 3) == "a.b/cat-3.mp4"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Cat.mp4", "cat.MP4"),
        ("shots/Cat.mp4", "Shots/cat.mp4"),
        ("Käse.mp4", unicodedata.normalize("NFD", "käse.mp4")),
        ("STRASSE.mp4", "straße.mp4"),
        ("Ǆ.mp4", "ǆ.mp4"),
    ],
)
def test_names_that_a_file_system_may_take_for_one_are_one(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)
    assert name_key(one) < 2**63


def test_other_names_are_others() -> None:
    names = ["cat.mp4", "cat-2.mp4", "a/cat.mp4", "猫.mp4", "ca\u0301t.mp4", "7.mp4", "07.mp4", "7-2.mp4", "9" * 10]
    assert len({name_key(name) for name in names}) == len(names)


def test_names_of_a_list_are_ordered_by_their_numbers() -> None:
    keys = [name_key(made_name(f"A cat {index * 7919 % 1000}", index)) for index in range(0, 10**6, 9973)]
    assert keys == sorted(keys)
    assert keys[-1] < name_key("cat.mp4") < 2**63


@pytest.mark.parametrize(
    ("prompt", "index", "name"),
    [
        ("A cat", 0, "0001-a-cat.mp4"),
        ("  A CAT, playing the piano!\n(4k)", 11, "0012-a-cat-playing-the-piano-4k.mp4"),
        ("don't_stop -- 50%/half", 9999, "10000-don-t-stop-50-half.mp4"),
        ("...", 2, "0003.mp4"),
        ("word " * 40, 999_999, "1000000-word-word-word-word-word-word-word-word-word.mp4"),
        ("x" * 300, 4, "0005-" + "x" * 48 + ".mp4"),
        ("a b " + "y" * 100, 4, "0005-a-b-" + "y" * 44 + ".mp4"),
        (
            "long enough to be cut between its very own words here",
            4,
            "0005-long-enough-to-be-cut-between-its-very-own-words.mp4",
        ),
        ("a\x00b\x1fc\x7fd", 0, "0001-a-b-c-d.mp4"),
        ("z" * 192 + "é", 0, "0001-" + "z" * 48 + ".mp4"),
    ],
)
def test_names_of_ascii_prompts_are_these_for_ever(prompt: str, index: int, name: str) -> None:
    """Journals don't write them down: whoever changes one of these loses the videos of all batches there are."""
    assert lasting_name(prompt, index) == made_name(prompt, index) == name


def test_other_names_may_change_with_python() -> None:
    assert lasting_name("une café", 0) is None


@pytest.mark.parametrize(("name", "number"), [("0012-a.mp4", 12), ("999999999.mp4", 999_999_999), ("a-1.mp4", None)])
def test_the_number_a_name_begins_with_is_in_its_key(name: str, number: int | None) -> None:
    assert leading_number(name_key(name)) == number
