"""Replies as no provider should send them, and what must hold whatever comes."""

from __future__ import annotations

import functools
import json
import pickle
from pathlib import Path
from random import Random
from typing import Any

from tests.security.mutation import choose, damaged, nested, number, text
from wanasync.errors import WanError
from wanasync.rules import replies
from wanasync.rules.replies import Accepted, Refused, Reply, Throttled, Unknown
from wanasync.rules.wire import is_task_id

__all__ = ["check", "example"]

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


def example(rng: Random) -> Reply:
    """A sample's body, or one of its own kind, with odd values and damage; under any status and odd headers."""
    status = rng.choice(_STATUSES) if rng.randrange(4) else rng.randint(100, 999)
    return Reply(status, _headers(rng), choose(rng, _of_sample, _of_sample, _torn, _of_values, _deep, _noise))


def _name(rng: Random) -> str:
    return rng.choice(_NAMES) if rng.randrange(8) else text(rng, 5)


def _leaf(rng: Random) -> object:
    return choose(
        rng,
        lambda rng: rng.choice(_WORDS),
        lambda rng: rng.choice((None, True, False)),
        number,
        lambda rng: text(rng, 20),
    )


def _value(rng: Random) -> object:
    return nested(rng, _leaf, _name)


@functools.cache
def _samples() -> tuple[bytes, ...]:
    """The bodies of all samples, as they are."""
    bodies: list[Any] = []
    for file in sorted((Path(__file__).parent.parent / "samples").glob("*.json")):
        content = json.loads(file.read_text("utf-8"))
        bodies += [entry["body"] for entry in content.get("replies", ())]
        bodies += [content["body"]] if "body" in content else []
    return tuple(map(_written, bodies))


def _written(value: Any) -> bytes:
    return json.dumps(value).encode()


def _of_sample(rng: Random) -> bytes:
    """A sample with one to three of its places, at any depth, holding something else or nothing."""
    body = json.loads(rng.choice(_samples()))
    for _ in range(rng.randint(1, 3)):
        _spoil(rng, body)
    return _written(body)


def _spoil(rng: Random, place: Any) -> None:
    while isinstance(place, dict | list) and place:
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or rng.randrange(2):
            if rng.randrange(5):
                place[key] = _value(rng)
            else:
                del place[key]
            return
        place = inner


def _torn(rng: Random) -> bytes:
    return damaged(rng, rng.choice(_samples()))


def _of_values(rng: Random) -> bytes:
    return _written(_value(rng))


def _deep(rng: Random) -> bytes:
    depth = rng.randint(1, 400)
    return b'{"id": "task-1", "status": "failed", "error": ' + b'[{"a":' * depth + b"1" + b"}]" * depth + b"}"


def _noise(rng: Random) -> bytes:
    return rng.choice(_BODIES) if rng.randrange(4) == 0 else rng.randbytes(rng.randint(0, 60))


def _headers(rng: Random) -> dict[str, str]:
    return {
        rng.choice(_HEADERS): rng.choice(_HEADER_VALUES) if rng.randrange(2) else text(rng)
        for _ in range(rng.randint(0, 3))
    }


_BODIES = [b"", b"[" * 100_000, b"<html>no</html>", b"\xef\xbb\xbf{}", b"1" * 5000, b'{"a":' * 50_000]
_HEADERS = ["retry-after", "x-request-id", "location", "idempotency-replayed", "date", "cf-ray"]
_HEADER_VALUES = ["60", "-1", "1e9", "0", "Wed, 21 Oct 2099 07:28:00 GMT", "\x1b[2J", "true", "9" * 999]
_STATUSES = [200, 200, 200, 200, 201, 302, 400, 401, 404, 409, 429, 500, 502, 503, 524]

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
