from __future__ import annotations

import json
import random
import re
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanasync.errors import RequestValidationError
from wanasync.models import VideoRequest
from wanasync.rules.calls import (
    MAX_BATCH_QUERY,
    CallKind,
    batch_query_call,
    credits_call,
    idempotency_key,
    list_call,
    new_idempotency_key,
    query_call,
    submit_call,
)

BASE = "https://api.example/apiv1"
KEY = "wan-0123456789abcdef"
KEY_RULE = re.compile(r"[A-Za-z0-9._-]{16,96}")


def test_a_submission_posts_what_was_given_and_nothing_else() -> None:
    call = submit_call(BASE, VideoRequest("Ein Kätzchen 🐈", duration=10, extra={"seed": 7}), KEY)
    assert (call.kind, call.method, call.url) == (CallKind.SUBMIT, "POST", f"{BASE}/v1/videos/generations")
    assert dict(call.headers) == {
        "Accept": "application/json",
        "Content-Type": "application/json",
        "Idempotency-Key": KEY,
    }
    assert call.body is not None
    assert json.loads(call.body) == {
        "model": "wan2.5-text-to-video",
        "prompt": "Ein Kätzchen 🐈",
        "duration": 10,
        "seed": 7,
    }


def test_a_submission_with_an_image_posts_a_list() -> None:
    request = VideoRequest("A cat", model="wan2.5-image-to-video", image_urls=("https://example.com/a.png",))
    body = submit_call(BASE, request, KEY).body
    assert body is not None
    assert json.loads(body)["image_urls"] == ["https://example.com/a.png"]


@pytest.mark.parametrize(
    "key", ["", "too-short", "a" * 97, "with space 0123456789", "line\nbreak-0123456789", "é" * 20]
)
def test_a_malformed_idempotency_key_is_refused(key: str) -> None:
    with pytest.raises(RequestValidationError, match="idempotency_key"):
        submit_call(BASE, VideoRequest("A cat"), key)


@pytest.mark.parametrize("base", [BASE, f"{BASE}/", "http://127.0.0.1:8000", "https://api.example/a/b/"])
def test_the_base_s_path_is_kept(base: str) -> None:
    assert credits_call(base).url == f"{base.rstrip('/')}/v1/credits"
    assert query_call(base, "task-1").url == f"{base.rstrip('/')}/v1/tasks/task-1"


def test_a_query_has_no_body() -> None:
    call = query_call(BASE, "task-unified-1763000001-a1b2c3d4")
    assert (call.kind, call.method, call.body) == (CallKind.QUERY, "GET", None)
    assert "Content-Type" not in dict(call.headers)


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=256))
def test_any_task_id_stays_one_segment_of_the_path(task_id: str) -> None:
    if task_id in (".", ".."):
        return
    parts = urlsplit(query_call(BASE, task_id).url)
    assert parts.path.startswith("/apiv1/v1/tasks/")
    assert unquote(parts.path.removeprefix("/apiv1/v1/tasks/")) == task_id
    assert parts.path.count("/") == 4
    assert (parts.query, parts.fragment) == ("", "")


@pytest.mark.parametrize("task_id", ["", ".", "..", "a b", "a\nb", "ä", "a" * 257])
def test_what_can_t_be_a_task_id_is_refused(task_id: str) -> None:
    with pytest.raises(RequestValidationError, match="task_id"):
        query_call(BASE, task_id)
    with pytest.raises(RequestValidationError, match="task_id"):
        batch_query_call(BASE, ["task-1", task_id])


def test_a_batch_query_asks_for_up_to_fifty_tasks() -> None:
    ids = [f"task-{number}" for number in range(MAX_BATCH_QUERY)]
    call = batch_query_call(BASE, iter(ids))
    assert (call.kind, call.method, call.url) == (CallKind.BATCH_QUERY, "POST", f"{BASE}/v1/tasks/batch")
    assert call.body is not None
    assert json.loads(call.body) == {"task_ids": ids}
    for wrong in ([], [*ids, "task-51"]):
        with pytest.raises(RequestValidationError, match="1 to 50"):
            batch_query_call(BASE, wrong)


def test_a_list_call_asks_for_a_page() -> None:
    query = parse_qs(urlsplit(list_call(BASE, status="processing&x=1", page=2, page_size=20).url).query)
    assert query == {"status": ["processing&x=1"], "page": ["2"], "page_size": ["20"]}
    assert list_call(BASE).url == f"{BASE}/v1/tasks?page=1&page_size=50"


def test_no_call_carries_the_key_to_the_api() -> None:
    calls = [query_call(BASE, "t"), credits_call(BASE), list_call(BASE), submit_call(BASE, VideoRequest("A cat"), KEY)]
    assert all("authorization" not in {name.lower() for name, _ in call.headers} for call in calls)


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_idempotency_keys_are_stable_and_told_apart(parts: list[str], others: list[str]) -> None:
    key = idempotency_key(*parts)
    assert KEY_RULE.fullmatch(key)
    assert (key == idempotency_key(*others)) == (parts == others)


def test_parts_of_a_key_are_not_run_together() -> None:
    assert idempotency_key("a", "bc") != idempotency_key("ab", "c") != idempotency_key("abc")


def test_the_key_of_an_item_stays_the_same_for_ever() -> None:
    # Journals of earlier versions hold keys made like this one; a replay after an upgrade has to find the same task.
    assert idempotency_key("batch", "item 1") == (
        "wan-a90f2068adc3901dd65c66ed6c1f8c648a6e35a813656e984795b543d65eeafe"
    )


def test_new_keys_differ_and_fit() -> None:
    rng = random.Random(7)
    keys = {new_idempotency_key(rng) for _ in range(1000)}
    assert len(keys) == 1000
    assert all(KEY_RULE.fullmatch(key) for key in keys)


def test_a_callback_url_goes_with_a_request_that_has_none_itself() -> None:
    ours, own = "https://a.example.com/token", "https://mine.example.com/hook"
    for request, sent in ((VideoRequest("a cat"), ours), (VideoRequest("a cat", callback_url=own), own)):
        call = submit_call("https://api.example.com", request, "wan-0123456789abcdef", ours)
        assert json.loads(call.body or b"")["callback_url"] == sent
