"""Replies as no provider should send them, and what must hold whatever comes."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from wanasync.errors import WanError
from wanasync.rules import replies
from wanasync.rules.replies import Accepted, Refused, Reply, Throttled, Unknown
from wanasync.rules.wire import is_task_id

__all__ = ["check", "strategy"]

NOW = 1_800_000_000.0
LONGEST_TEXT = 20_000
"""Characters of an error's sentence: several texts of at most 500, and a place in the reply."""

_NAMES = [
    *("id", "task_id", "status", "progress", "results", "result_data", "output", "data", "url", "video_url", "videos"),
    *("error", "code", "message", "msg", "type", "param", "fallback_suggestion", "request_id", "success", "usage"),
    *("credits_reserved", "credits_used", "cost", "credits", "task_info", "estimated_time", "created", "created_at"),
    *("duration", "model", "user", "token", "remaining_credits", "unlimited_credits", "total", "page"),
]
_WORDS = [
    "pending",
    "COMPLETED",
    "failed",
    "",
    "task-unified-1757169743-7cvnl5zw",
    "https://video.example/1.mp4?Expires=1800000000",
    "http://[::1]/",
    "retry after 60 seconds",
    "service_unavailable",
    "paid_outcome_unknown",
    "\x1b]0;title\x07\x1b[2J",
    "\u202egpj.exe",
    "\ud800",
    "Bearer sk-0123456789abcdef0123456789abcdef",
    "9" * 400,
]

_numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, 1, 100, 429, 503, 10**400, float("inf"), float("-inf"), float("nan"), 1e308, -0.0]),
)
_leaves = st.one_of(st.none(), st.booleans(), _numbers, st.sampled_from(_WORDS), st.text(max_size=20))
_values = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(_NAMES) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=12,
)


def _samples() -> list[Any]:
    """The bodies of all samples, as they are."""
    bodies: list[Any] = []
    for file in sorted((Path(__file__).parent.parent / "samples").glob("*.json")):
        content = json.loads(file.read_text("utf-8"))
        bodies += [entry["body"] for entry in content.get("replies", ())]
        bodies += [content["body"]] if "body" in content else []
    return bodies


@st.composite
def _spoilt(draw: st.DrawFn) -> Any:
    """A sample with one of its places, at any depth, holding something else or nothing."""
    body = json.loads(json.dumps(draw(st.sampled_from(_samples()))))
    place = body
    while isinstance(place, dict | list) and place:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or draw(st.booleans()):
            if draw(st.integers(0, 4)):
                place[key] = draw(_values)
            else:
                del place[key]
            break
        place = inner
    return body


def _written(value: Any) -> bytes:
    return json.dumps(value).encode()


@st.composite
def _torn(draw: st.DrawFn) -> bytes:
    """A body in which bytes were changed, doubled or cut off."""
    body = bytearray(_written(draw(st.sampled_from(_samples()))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 8))] = draw(st.binary(max_size=4))
    return bytes(body[: draw(st.integers(0, len(body)))]) if draw(st.booleans()) else bytes(body)


def _nested(depth: int) -> bytes:
    return b'{"id": "task-1", "status": "failed", "error": ' + b'[{"a":' * depth + b"1" + b"}]" * depth + b"}"


_bodies = st.one_of(
    _values.map(_written),
    _spoilt().map(_written),
    _torn(),
    st.binary(max_size=60),
    st.integers(1, 400).map(_nested),
    st.sampled_from([b"", b"[" * 100_000, b"<html>no</html>", b"\xef\xbb\xbf{}", b"1" * 5000, b'{"a":' * 50_000]),
)
_header_values = st.sampled_from(
    ["60", "-1", "1e9", "0", "Wed, 21 Oct 2099 07:28:00 GMT", "\x1b[2J", "true", "9" * 999]
)
_headers = st.dictionaries(
    st.sampled_from(["retry-after", "x-request-id", "location", "idempotency-replayed", "date", "cf-ray"]),
    _header_values | st.text(max_size=12),
    max_size=3,
)
_statuses = st.sampled_from([200, 200, 200, 201, 302, 400, 401, 404, 409, 429, 500, 502, 503, 524]) | st.integers(
    100, 999
)

strategy: st.SearchStrategy[Reply] = st.builds(Reply, _statuses, _headers, _bodies)

_READERS = (replies.read_task, replies.read_tasks, replies.read_task_list, replies.read_credits)


def check(reply: Reply) -> None:
    """A submission's reply is always understood as one of four; the others are read or raise errors of our tree."""
    _check_submission(replies.read_submission(reply, now=NOW))
    for reader in _READERS:
        try:
            said: Any = reader(reply, now=NOW)
        except WanError as error:
            _check_error(error)
        else:
            repr(said)
            pickle.loads(pickle.dumps(said))  # noqa: S301 — our own bytes


def _check_submission(said: object) -> None:
    match said:
        case Accepted(snapshot=snapshot):
            assert is_task_id(snapshot.id)
            json.dumps(snapshot.extra, allow_nan=False)
        case Throttled(error=error, retry_after=wait):
            _check_error(error)
            assert wait is None or 0.5 <= wait <= 3600
        case Refused(error=error):
            _check_error(error)
        case Unknown(reason=reason, body=body):
            assert_harmless(reason)
            assert_harmless(body)
        case _:
            raise AssertionError(said)


def _check_error(error: WanError) -> None:
    assert_harmless(str(error))
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 — our own bytes
    assert str(copy) == str(error)


def assert_harmless(text: str) -> None:
    """Nothing in it acts on a terminal or a log, it is short, and it holds no key."""
    assert text.isprintable(), ascii(text)
    assert len(text) <= LONGEST_TEXT
    assert "sk-0123456789abcdef" not in text
