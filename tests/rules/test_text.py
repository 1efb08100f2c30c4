from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanasync.rules.text import clean_text

KEY = "sk-Abcdef0123456789Abcdef0123456789"

hostile = st.text(st.sampled_from("ab 0\x1b[]m;\x07\\\x9b\x9d\n\r\t\u202e\u200b\ud800") | st.characters())


@given(hostile, st.integers(1, 600))
def test_what_comes_out_is_one_short_visible_line(text: str, limit: int) -> None:
    cleaned = clean_text(text, limit)
    assert len(cleaned) <= limit
    assert cleaned == cleaned.strip()
    assert cleaned.isprintable()
    assert not set(cleaned) & set("\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
    cleaned.encode()


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain", "plain"),
        ("  two\r\n\tlines  ", "two lines"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("a\x1b]0;a title\x07b", "ab"),
        ("a\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\", "alink"),
        ("a\x1bP1;2|data\x1b\\b", "ab"),
        ("a\x1bcb", "ab"),
        ("never closed \x1b]0;", "never closed"),
        ("abc\u202edef", "abcdef"),
        ("three\u2028more\u3000blanks\xa0here", "three more blanks here"),
        ("\ue000\U0010ffff", ""),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("\x00\x08\x7f", ""),
        ("配额不足 🐈", "配额不足 🐈"),
    ],
)
def test_escapes_and_invisible_characters_go(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        f"Incorrect API key provided: {KEY}.",
        f"Authorization: Bearer {KEY}",
        "Authorization: Bearer abcdef",
        "basic dXNlcjpwYXNz",
        "api_key=abc123def",
        '{"api_key": "abc123def"}',
        "token: abc123def",
        "password='hunter22'",
        "https://files.example/v.mp4?Signature=abc123def&x=1",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc123def",
        "0123456789abcdef0123456789abcdef",
        "key-0123456789",
        f"sk-{KEY}",
        "sk-Abc***def",
        f"sk-Abc\u200b{'def0' * 10}",
        f"sk-\x1b[31mAbc{'def0' * 10}",
    ],
)
def test_what_looks_like_a_key_is_removed(text: str) -> None:
    cleaned = clean_text(text)
    assert "[removed]" in cleaned
    for secret in (KEY, "abcdef", "dXNlcjpwYXNz", "abc123def", "hunter22", "0123456789", "def0", "***"):
        assert secret not in cleaned


@pytest.mark.parametrize(
    "text",
    [
        "task-unified-1763000001-a1b2c3d4",
        "No such task: task-unified-1763000001-a1b2c3d4e5f6a7b8c9d0e1f2",
        "doubao-seedream-5.0-pro",
        "generation_failed_no_content",
        "wan2.5-text-to-video needs a prompt of at most 2000 characters",
        "request 0f8fad5b-d9cb-469f-a165-70867728950e failed",
        "the token is not valid",
        "retry after 60 seconds",
        "sk-1",
    ],
)
def test_what_a_user_needs_stays(text: str) -> None:
    assert clean_text(text) == text


@given(st.integers(0, 600), st.integers(20, 500))
def test_a_key_that_the_limit_cuts_is_not_shown_in_part(before: int, limit: int) -> None:
    # Blanks are folded, so the words in front keep their length.
    text = f"{'x ' * before}{KEY}"
    assert "Abcdef" not in clean_text(text, limit)


def test_text_without_end_is_cut_before_it_is_worked_on() -> None:
    assert clean_text("a b " * 5_000_000, 50) == f"{'a b ' * 12}a…"


def test_a_cut_is_marked() -> None:
    assert clean_text("abcdef", 5) == "abcd…"
    assert clean_text("abcde", 5) == "abcde"
