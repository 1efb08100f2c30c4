from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from wanasync.rules.links import (
    Again,
    Begin,
    DeadLink,
    Finished,
    LinkRule,
    PartRecord,
    Resume,
    Trouble,
    Verdict,
    address_problem,
    death_of,
    identity,
    judge,
    link_problem,
    part_from_json,
    part_to_json,
    range_headers,
    remember,
    rule_for,
    shown,
)

PUBLIC = LinkRule()
LOOPBACK = LinkRule(loopback=True)
PRIVATE = LinkRule(loopback=True, private=True)
API = "https://api.example.com/v1"

WANTED = PartRecord("task-1", "https://cdn.example.com/v.mp4", boot="monday")
TAGGED = evolve(WANTED, etag='"one"', total=1000)
DATED = evolve(WANTED, last_modified="Mon, 23 Nov 2026 15:00:00 GMT", total=1000)


# --- which links may be followed ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_url", "allowed", "rule"),
    [
        (API, None, PUBLIC),
        ("http://10.0.0.1/api", None, PUBLIC),
        ("http://127.0.0.1:8000/api", None, LOOPBACK),
        ("http://localhost:8000", None, LOOPBACK),
        ("http://[::1]:8000", None, LOOPBACK),
        (API, True, PRIVATE),
        ("http://127.0.0.1:8000", False, PUBLIC),
    ],
)
def test_the_base_url_decides_where_the_user_does_not(base_url: str, allowed: bool | None, rule: LinkRule) -> None:
    assert rule_for(base_url, allowed) == rule


@pytest.mark.parametrize("rule", [PUBLIC, LOOPBACK, PRIVATE])
def test_https_to_a_public_host_may_be_followed(rule: LinkRule) -> None:
    assert link_problem("https", "cdn.example.com", has_user_info=False, rule=rule) is None
    assert link_problem("https", "93.184.216.34", has_user_info=False, rule=rule) is None


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "emu.localhost", "LOCALHOST."])
def test_loopback_may_be_followed_where_the_api_is_there_too(scheme: str, host: str) -> None:
    assert link_problem(scheme, host, has_user_info=False, rule=PUBLIC) is not None
    assert link_problem(scheme, host, has_user_info=False, rule=LOOPBACK) is None


@pytest.mark.parametrize("host", ["10.0.0.1", "192.168.1.1", "169.254.169.254", "fd00::1", "cdn.corp", "printer"])
def test_other_internal_hosts_only_where_the_user_allows_them(host: str) -> None:
    assert link_problem("https", host, has_user_info=False, rule=LOOPBACK) is not None
    assert link_problem("http", host, has_user_info=False, rule=PRIVATE) is None


@pytest.mark.parametrize(
    ("scheme", "host", "user"),
    [
        ("ftp", "a.com", False),
        ("file", None, False),
        ("https", None, False),
        ("https", "", False),
        ("https", "a.com", True),
    ],
)
def test_nothing_allows_other_schemes_no_host_or_credentials(scheme: str, host: str | None, user: bool) -> None:
    assert link_problem(scheme, host, has_user_info=user, rule=PRIVATE) is not None


def test_plain_http_to_a_public_host_is_refused() -> None:
    assert link_problem("http", "cdn.example.com", has_user_info=False, rule=LOOPBACK) == "is not https"


@pytest.mark.parametrize(
    ("address", "public", "loopback", "private"),
    [
        ("93.184.216.34", True, True, True),
        ("127.0.0.1", False, True, True),
        ("::1", False, True, True),
        ("10.0.0.1", False, False, True),
        ("fe80::1%eth0", False, False, True),
        ("::ffff:10.0.0.1", False, False, True),
        ("nonsense", False, False, True),
    ],
)
def test_addresses_that_a_name_leads_to(address: str, public: bool, loopback: bool, private: bool) -> None:
    passes = [address_problem(address, rule) is None for rule in (PUBLIC, LOOPBACK, PRIVATE)]
    assert passes == [public, loopback, private]


def test_a_signature_is_never_shown() -> None:
    assert shown("https://cdn.example.com/v.mp4?Signature=secret#part") == "https://cdn.example.com/v.mp4"
    assert shown("https://cdn.example.com/v.mp4#?x") == "https://cdn.example.com/v.mp4"
    assert identity("https://a.com/v.mp4?sig=1") == identity("https://a.com/v.mp4?sig=2")


# --- when a link dies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "death"),
    [
        ("Expires=1800000000&Signature=x", 1_800_000_000.0),
        ("OSSAccessKeyId=x&Expires=1800000000", 1_800_000_000.0),
        ("X-Amz-Date=20270115T080000Z&X-Amz-Expires=86400", 1_800_086_400.0),
        ("x-oss-date=20270115T080000Z&x-oss-expires=60", 1_800_000_060.0),
        ("X-Goog-Date=20270115T080000Z&X-Goog-Expires=60", 1_800_000_060.0),
        ("X-Amz-Date=yesterday&X-Amz-Expires=86400", None),
        ("X-Amz-Expires=86400", None),
        ("Expires=soon", None),
        ("Expires=99999999999999", None),
        ("", None),
    ],
)
def test_signed_links_say_when_they_die(query: str, death: float | None) -> None:
    assert death_of(f"https://cdn.example.com/v.mp4?{query}") == death


@given(st.text(max_size=80))
def test_any_text_is_read_as_a_link_without_an_error(text: str) -> None:
    death_of(text)
    shown(text)


# --- what is kept beside a part -------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [WANTED, TAGGED, DATED])
def test_a_record_survives_being_written(record: PartRecord) -> None:
    assert part_from_json(part_to_json(record)) == record


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"task_id": "t"}',
        '{"task_id": 1, "identity": "i"}',
        '{"task_id": "t", "identity": "i", "total": "9"}',
        '{"task_id": "t", "identity": "i", "etag": "\\"a\\r\\nX: 1\\""}',
        '{"task_id": "t", "identity": "i", "new_field": "x"}',
        b"\xff\xfe",
    ],
)
def test_a_record_that_is_torn_or_foreign_is_none(text: str | bytes) -> None:
    assert part_from_json(text) is None


def test_a_part_belongs_to_its_task_alone() -> None:
    assert TAGGED.belongs_to(WANTED)
    assert not evolve(TAGGED, task_id="task-2").belongs_to(WANTED)


def test_a_part_of_before_a_restart_of_the_system_is_not_trusted() -> None:
    assert not evolve(TAGGED, boot="sunday").belongs_to(WANTED)


def test_only_an_etag_carries_over_to_another_address() -> None:
    moved = evolve(WANTED, identity="https://other.example.com/v.mp4")
    assert TAGGED.belongs_to(moved)
    assert not DATED.belongs_to(moved)
    assert DATED.belongs_to(WANTED)


@pytest.mark.parametrize(
    ("record", "size", "usable"),
    [
        (TAGGED, 0, 0),
        (TAGGED, 400, 400),
        (TAGGED, 1000, 1000),
        (TAGGED, 1001, 0),
        (DATED, 400, 400),
        (WANTED, 400, 0),
        (evolve(WANTED, total=1000), 400, 0),
        (evolve(WANTED, total=1000), 1000, 1000),
        (evolve(TAGGED, total=None), 400, 400),
    ],
)
def test_a_part_is_usable_with_a_validator_or_when_it_is_whole(record: PartRecord, size: int, usable: int) -> None:
    assert record.usable(size) == usable


def test_the_rest_is_asked_for_on_condition() -> None:
    assert range_headers(TAGGED, 400) == {"Range": "bytes=400-", "If-Range": '"one"'}
    assert range_headers(DATED, 400) == {"Range": "bytes=400-", "If-Range": DATED.last_modified}
    assert range_headers(TAGGED, 0) == {}
    assert range_headers(WANTED, 400) == {}


def test_a_weak_etag_is_not_remembered() -> None:
    headers = {"etag": 'W/"one"', "last-modified": "Mon, 23 Nov 2026 15:00:00 GMT"}
    assert remember(WANTED, headers, 1000) == DATED
    assert remember(TAGGED, {"etag": '"two"'}, None) == evolve(WANTED, etag='"two"')


# --- what a reply means ---------------------------------------------------------------------------------------------


def content_range(text: str, **more: str) -> dict[str, str]:
    return {"content-range": text, **more}


RESUMED: list[tuple[int, dict[str, str], Verdict]] = [
    (206, content_range("bytes 400-999/1000"), Resume(1000)),
    (206, content_range("bytes 400-999/1000", etag='"one"'), Resume(1000)),
    (206, content_range("bytes 400-999/1000", etag='"two"'), Again()),
    (206, content_range("bytes 0-999/1000"), Again()),
    (206, content_range("bytes 399-999/1000"), Again()),
    (206, content_range("bytes 400-998/1000"), Again()),
    (206, content_range("bytes 400-1999/2000"), Again()),
    (206, content_range("bytes 400-999/*"), Again()),
    (206, content_range("bytes */1000"), Again()),
    (206, content_range("apples 400-999/1000"), Again()),
    (206, {}, Again()),
    (200, {"content-length": "1000"}, Begin(1000)),
    (200, {}, Begin(None)),
    (200, {"content-length": "many"}, Begin(None)),
    (416, content_range("bytes */400"), Finished()),
    (416, content_range("bytes */1000"), Again()),
    (416, content_range("bytes */*"), Again()),
    (416, {}, Again()),
    (404, {}, DeadLink("HTTP 404")),
    (503, {}, Trouble("HTTP 503")),
]


@pytest.mark.parametrize(("status", "headers", "verdict"), RESUMED)
def test_replies_to_the_request_for_the_rest(status: int, headers: dict[str, str], verdict: Verdict) -> None:
    assert judge(status, headers, TAGGED, 400, now=0) == verdict


def test_the_total_may_be_learned_from_the_rest() -> None:
    record = evolve(TAGGED, total=None)
    assert judge(206, content_range("bytes 400-999/1000"), record, 400, now=0) == Resume(1000)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 410, 304, 302, 451, 204])
def test_statuses_that_speak_against_the_link(status: int) -> None:
    assert judge(status, {}, WANTED, 0, now=0) == DeadLink(f"HTTP {status}")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520, 524])
def test_statuses_that_say_nothing_about_the_link(status: int) -> None:
    assert judge(status, {"retry-after": "7"}, WANTED, 0, now=0) == Trouble(f"HTTP {status}", 7.0)


@pytest.mark.parametrize("status", [206, 416])
def test_a_partial_answer_to_a_request_for_the_whole_is_no_answer(status: int) -> None:
    assert isinstance(judge(status, content_range("bytes 0-9/1000"), WANTED, 0, now=0), Trouble)


def test_a_coding_that_was_not_asked_for_is_refused() -> None:
    assert isinstance(judge(200, {"content-encoding": "gzip"}, WANTED, 0, now=0), Trouble)
    assert judge(200, {"content-encoding": "identity"}, WANTED, 0, now=0) == Begin(None)


@given(
    st.integers(100, 599),
    st.dictionaries(st.sampled_from(["content-range", "content-length", "etag", "retry-after"]), st.text(max_size=30)),
    st.sampled_from([WANTED, TAGGED, DATED]),
    st.integers(0, 2000),
)
def test_any_reply_is_judged_and_only_a_fitting_one_goes_on(
    status: int, headers: dict[str, str], record: PartRecord, size: int
) -> None:
    verdict = judge(status, headers, record, size, now=0)
    if isinstance(verdict, Resume):
        assert headers["content-range"] == f"bytes {size}-{verdict.total - 1}/{verdict.total}"
