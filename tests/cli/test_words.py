from __future__ import annotations

import pytest

from wanasync.cli import words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (724, "12 min 4 s"),
        (3599.9, "1 h"),
        (3600, "1 h"),
        (12_000, "3 h 20 min"),
        (90_000, "25 h"),
    ],
)
def test_span(seconds: float, text: str) -> None:
    assert words.span(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (31_400, "31.4 kB"),
        (999_960, "1000 kB"),
        (1_234_567, "1.2 MB"),
        (456e6, "456 MB"),
        (1.2e9, "1.2 GB"),
        (3e12, "3.0 TB"),
    ],
)
def test_size(value: float, text: str) -> None:
    assert words.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (5, "5"), (2.5, "2.5"), (12.345, "12.35"), (1e6, "1,000,000"), (0.1 + 0.2, "0.3")]
)
def test_credits(value: float, text: str) -> None:
    assert words.credits(value) == text


def test_count() -> None:
    assert [words.count(value, "video") for value in (0, 1, 2, 12_000)] == [
        "0 videos",
        "1 video",
        "2 videos",
        "12,000 videos",
    ]


@pytest.mark.parametrize(
    ("text", "clipped"), [("a cat", "a cat"), (" a\n\tcat ", "a cat"), ("a cat on a mat", "a cat on…"), ("", "")]
)
def test_clipped(text: str, clipped: str) -> None:
    assert words.clipped(text, 9) == clipped
