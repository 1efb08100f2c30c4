from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wanasync.emulator import typesetting
from wanasync.emulator.fonts import FontLibrary, installed_fonts
from wanasync.emulator.typesetting import Block, clean, clusters, region, set_text

BARE = FontLibrary(())
ANY_TEXT = st.text(max_size=120) | st.text(alphabet="ab 字、。「かقفगि् \n🚀\u200d", max_size=120)


def set_in(text: str, width: int = 1100, height: int = 480, library: FontLibrary | None = None) -> Block:
    return set_text(text, library=library or installed_fonts(), width=width, height=height, largest=90, smallest=14)


def shown(block: Block) -> list[str]:
    return ["".join(run.text for run in line.runs) for line in block.lines]


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("  a   cat \t plays ", "a cat plays"),
        ("one\r\ntwo\n\n\nthree\u2028four", "one\ntwo\nthree\nfour"),
        ("bell\x07 and \x1b[31mred\x1b[0m", "bell and [31mred[0m"),
        ("\u202eevil\u202c \ufeffmark \u2066x\u2069", "evil mark x"),
        ("half \ud83d of a pair", "half \ufffd of a pair"),
        ("e\u0301", "é"),
        ("\u200b\x00", ""),
    ],
)
def test_what_cannot_be_drawn_is_taken_out(prompt: str, text: str) -> None:
    assert clean(prompt) == text


def test_an_endless_prompt_is_cut() -> None:
    assert clean("x" * 100_000) == "x" * typesetting.LONGEST + "…"


@pytest.mark.parametrize(
    "whole", ["👩🏽‍🚀", "🇯🇵", "❤️", "e\u0323\u0302", "न्त्र", "कि", "1\ufe0f\u20e3", "🏴\U000e0067\U000e0062\U000e007f"]
)
def test_what_a_reader_takes_for_one_character_stays_whole(whole: str) -> None:
    assert clusters(f"a{whole}b") == ["a", whole, "b"]


def test_two_flags_are_two_characters() -> None:
    assert clusters("🇯🇵🇫🇷") == ["🇯🇵", "🇫🇷"]


@given(ANY_TEXT)
def test_clusters_lose_nothing(text: str) -> None:
    assert "".join(clusters(text)) == text


@pytest.mark.parametrize(
    ("text", "wanted"), [("東京の夜", "JP"), ("고양이 猫", "KR"), ("這個夜晚", "TC"), ("这个夜晚", "SC"), ("cat", "SC")]
)
def test_han_characters_are_drawn_as_their_readers_expect(text: str, wanted: str) -> None:
    assert region(text) == wanted


@settings(max_examples=60, deadline=None)
@given(ANY_TEXT, st.sampled_from([(1100, 480), (400, 700), (120, 60)]))
def test_any_text_fits_its_box(text: str, box: tuple[int, int]) -> None:
    block = set_in(text, *box)
    one_letter = 2 * block.size
    assert block.height <= max(box[1], block.line_height)
    assert all(line.width <= max(box[0] * 1.03, one_letter) for line in block.lines)


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet="abc déf 雨の夜。", max_size=60))
def test_no_letter_is_lost(text: str) -> None:
    letters = "".join(shown(set_in(text)))
    assert letters.replace(" ", "") == clean(text).replace(" ", "").replace("\n", "")


def test_short_prompts_are_set_large_and_long_ones_small() -> None:
    assert set_in("Hi").size > set_in("A cat plays piano. " * 12).size > set_in("A cat plays piano. " * 60).size


def test_what_does_not_fit_ends_in_dots() -> None:
    block = set_in("so many words " * 200, width=200, height=100)
    assert block.size == 14
    assert shown(block)[-1].endswith("...")


def test_a_word_too_long_for_a_line_is_divided() -> None:
    block = set_in("Donaudampfschifffahrtselektrizitätenhauptbetriebswerk", width=300, height=600)
    assert len(block.lines) > 1
    assert "".join(shown(block)) == "Donaudampfschifffahrtselektrizitätenhauptbetriebswerk"


def test_lines_are_of_even_length() -> None:
    widths = [line.width for line in set_in("A paper boat sails down a rain gutter, macro shot, golden hour").lines]
    assert min(widths) > 0.6 * max(widths)


def test_line_breaks_of_the_prompt_are_kept() -> None:
    assert shown(set_in("one\ntwo")) == ["one", "two"]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(["雨", "夜、", "東京。", "「猫」", "あっ"]), min_size=1, max_size=30),
    st.integers(200, 900),
)
def test_no_line_begins_with_a_full_stop_or_ends_with_an_opening_bracket(parts: list[str], width: int) -> None:
    for line in shown(set_in("".join(parts), width=width, height=4000)):
        assert line[0] not in "、。」っ"
        assert line[-1] != "「"


def test_arabic_runs_to_the_left_and_stands_on_the_right() -> None:
    (line,) = set_in("قطة (jazz) 1930").lines
    assert line.rtl
    assert [run.text.strip() for run in line.runs if run.text.strip()][-1] == "قطة"
    assert [run.rtl for run in line.runs if "jazz" in run.text] == [False]


def test_each_script_is_set_in_a_font_that_has_it() -> None:
    (line,) = set_in("cat 猫 قطة 고 🚀").lines
    for run in line.runs:
        assert run.face.covers(run.text)
    assert len({run.face.family for run in line.runs}) >= 4


@pytest.mark.parametrize(
    ("text", "legible"),
    [
        ("雨の夜、東京", "[Japanese, 6 letters: U+96E8 U+306E U+591C U+3001 ...]"),
        ("这个", "[Chinese, 2 letters: U+8FD9 U+4E2A]"),
        ("Северное сияние", "[Cyrillic, 14 letters: U+0421 U+0435 U+0432 U+0435 ...]"),
        ("no ق here", "no [Arabic, 1 letter: U+0642] here"),
        ("to Mars 🚀🚀", "to Mars [rocket][rocket]"),
        ("\U0010fffe", "[u+10fffe]"),
        ("é 5×5", "e 5x5"),
    ],
)
def test_what_no_font_shows_is_named(text: str, legible: str) -> None:
    assert " ".join(shown(set_in(text, library=BARE))) == legible


def test_the_scripts_not_shown_are_told() -> None:
    assert set_in("雨 Север ق", library=BARE).unshown == ("Chinese", "Cyrillic", "Arabic")
    assert set_in("雨 Север ق").unshown == ()


def test_without_shaping_arabic_is_joined_by_hand_and_devanagari_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typesetting, "can_shape", lambda: False)
    block = set_in("سلام मोर")
    run = block.lines[0].runs[-1]
    assert run.drawn() == "\ufee1\ufefc\ufeb3"
    assert run.options() == {}
    assert block.unshown == ("Devanagari",)
