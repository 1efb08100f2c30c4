from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanasync.rules.hints import LONGEST_WAIT, SHORTEST_WAIT, retry_after

NOW = 1_763_000_000.0


def from_text(text: str) -> float | None:
    return retry_after({}, [text], now=NOW)


def from_header(value: str, **headers: str) -> float | None:
    return retry_after({"retry-after": value, **headers}, [], now=NOW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("retry after 60 seconds", 60),
        ("retry after 30 seconds", 30),
        ("Retry after 1 second.", 1),
        ("retry in 1.5s", 1.5),
        ("Please retry in 2 minutes", 120),
        ("try again in 500 ms, or later", 0.5),
        ("try again in 1500 milliseconds", 1.5),
        ("wait 3 sec", 3),
        ("please wait for another 10 secs", 10),
        ("retry after 1 hour", 3600),
        ("retry in 1m 30s", 90),
        ("retry after 1 minute and 5 seconds", 65),
        ("RETRY AFTER 60 SECONDS", 60),
        ("retry after 10", 10),
        ("retry after 10.", 10),
        ("retry after 10, please", 10),
        ("available in 7 s", 7),
        ("retry   after 7 s", 7),
    ],
)
def test_a_wait_is_read_from_text(text: str, seconds: float) -> None:
    assert from_text(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "try again later",
        "try different model",
        "wan2.5-text-to-video",
        "retry with wan2.5-text-to-video",
        "https://provider.example/retry/60",
        "compress image to under 4MB",
        "60",
        "retry after 2026-01-01",
        "retry after 10:30",
        "retry after 10 models",
        "retry after 1,000",
        "retry after -5 seconds",
        "retry after ６０ seconds",
        "retry after 12345678901234567890 seconds",
        "retry after NaN seconds",
    ],
)
def test_text_that_names_no_wait_gives_none(text: str) -> None:
    assert from_text(text) is None


@pytest.mark.parametrize(
    ("value", "seconds"), [("60", 60), (" 5 ", 5), ("1.5", 1.5), ("0", SHORTEST_WAIT), ("86400", LONGEST_WAIT)]
)
def test_a_header_in_seconds_is_read(value: str, seconds: float) -> None:
    assert from_header(value) == seconds


@pytest.mark.parametrize("value", ["", "-5", "soon", "1e3", "inf", "nan", "６０", "60 seconds", "9" * 400, "\x00"])
def test_a_header_that_makes_no_sense_gives_way_to_the_text(value: str) -> None:
    assert retry_after({"retry-after": value}, ["retry after 7 seconds"], now=NOW) == 7


def test_the_header_comes_before_the_text() -> None:
    assert retry_after({"retry-after": "5"}, ["retry after 60 seconds"], now=NOW) == 5


def test_the_first_text_that_names_a_wait_counts() -> None:
    texts = [None, "wan2.5-text-to-video", "retry after 3 seconds", "retry after 9 seconds"]
    assert retry_after({}, texts, now=NOW) == 3


def test_a_date_is_measured_from_now() -> None:
    assert from_header(formatdate(NOW + 90, usegmt=True)) == 90


def test_a_date_is_measured_from_the_sender_s_own_clock_where_it_tells_it() -> None:
    fast = NOW + 5000
    assert from_header(formatdate(fast + 90, usegmt=True), date=formatdate(fast, usegmt=True)) == 90


def test_a_date_in_the_past_is_the_shortest_wait() -> None:
    assert from_header(formatdate(NOW - 90, usegmt=True)) == SHORTEST_WAIT


def test_a_date_far_ahead_is_the_longest_wait() -> None:
    assert from_header("Fri, 31 Dec 9999 23:59:59 GMT") == LONGEST_WAIT


@pytest.mark.parametrize(
    "value",
    ["Wed, 99 Nov 2026 25:61:61 GMT", "Mon, 01 Jan 99999 00:00:00 GMT", "a, b c d"],
)
def test_a_date_that_is_none_gives_none(value: str) -> None:
    assert from_header(value) is None


pieces = st.sampled_from(
    [
        "retry",
        "again",
        "wait",
        " after ",
        " in ",
        " ",
        "-",
        ".",
        ",",
        "60",
        "1.5",
        "0",
        "s",
        "ms",
        "minutes",
        "h",
        "and",
    ]
)


@given(st.lists(pieces, max_size=12).map("".join) | st.text(max_size=60), st.text(max_size=40))
def test_whatever_is_said_the_wait_is_sane(text: str, header: str) -> None:
    wait = retry_after({"retry-after": header}, [text], now=NOW)
    assert wait is None or SHORTEST_WAIT <= wait <= LONGEST_WAIT


@given(st.floats(0.5, 3600).map(lambda seconds: round(seconds, 3)))
def test_a_wait_in_milliseconds_is_the_same_in_seconds(seconds: float) -> None:
    assert from_text(f"retry in {seconds:.3f} s") == seconds
    assert from_text(f"retry in {seconds * 1000:.0f} ms") == pytest.approx(seconds)


@pytest.fixture
def far_from_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "XXX-09")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_from_greenwich")
@pytest.mark.parametrize("zone", [" GMT", " +0000", " -0000", ""])
def test_a_date_without_a_zone_is_utc(zone: str) -> None:
    date = formatdate(NOW + 90, usegmt=True).removesuffix(" GMT") + zone
    assert from_header(date) == 90
    assert from_header(date, date=formatdate(NOW + 30)) == 60
