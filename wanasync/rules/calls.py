"""What is sent: each call to the API as one immutable value.

The transport adds what depends on the session: the key and the user agent.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Iterable
from typing import Protocol
from urllib.parse import quote, urlencode

from attrs import field, frozen

from wanasync.errors import RequestValidationError
from wanasync.models import VideoRequest
from wanasync.rules import wire

__all__ = [
    "MAX_BATCH_QUERY",
    "Call",
    "CallKind",
    "batch_query_call",
    "check_task_id",
    "credits_call",
    "idempotency_key",
    "list_call",
    "new_idempotency_key",
    "query_call",
    "submit_call",
]

MAX_BATCH_QUERY = 50
"""Tasks a batch query may ask for; seen in public client code."""

_ACCEPT = (("Accept", "application/json"),)
_JSON = (*_ACCEPT, ("Content-Type", "application/json"))
_KEY = re.compile(r"[A-Za-z0-9._-]{16,96}", re.ASCII)


class CallKind(enum.StrEnum):
    """What a call is for. SUBMIT alone costs money and must not be repeated; the others are safe to repeat."""

    SUBMIT = "submit"
    QUERY = "query"
    BATCH_QUERY = "batch_query"
    LIST = "list"
    CREDITS = "credits"


@frozen
class Call:
    """One HTTP call. `url` is percent-encoded already and must go out as it is."""

    kind: CallKind
    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = _ACCEPT
    body: bytes | None = field(default=None, repr=False)


def submit_call(base_url: str, request: VideoRequest, idempotency_key: str, callback_url: str | None = None) -> Call:
    """The submission of `request`, which costs money; with `callback_url`, where the request has none itself.

    The key goes with it because the provider's newest own client sends one; where the host ignores it, it is
    harmless. Raises `RequestValidationError` for a malformed key.
    """
    if not _KEY.fullmatch(idempotency_key):
        raise RequestValidationError(
            "idempotency_key", idempotency_key, "must be 16 to 96 letters, digits, dots, dashes or underscores"
        )
    body = wire.request_body(request)
    if callback_url is not None:
        body.setdefault("callback_url", callback_url)
    return Call(
        CallKind.SUBMIT,
        "POST",
        _join(base_url, "/v1/videos/generations"),
        (*_JSON, ("Idempotency-Key", idempotency_key)),
        _encode(body),
    )


def check_task_id(task_id: str) -> str:
    """The id, where it can be one. Raises `RequestValidationError`."""
    if not wire.is_task_id(task_id):
        raise RequestValidationError("task_id", task_id, "is not a task id: printable ASCII without spaces is expected")
    return task_id


def query_call(base_url: str, task_id: str) -> Call:
    """The query of one task."""
    return Call(CallKind.QUERY, "GET", _join(base_url, f"/v1/tasks/{_path_part(task_id)}"))


def batch_query_call(base_url: str, task_ids: Iterable[str]) -> Call:
    """The query of up to 50 tasks; seen in public client code, so not every host has it."""
    ids = [check_task_id(task_id) for task_id in task_ids]
    if not 1 <= len(ids) <= MAX_BATCH_QUERY:
        raise RequestValidationError("task_ids", len(ids), f"must be 1 to {MAX_BATCH_QUERY} ids")
    return Call(CallKind.BATCH_QUERY, "POST", _join(base_url, "/v1/tasks/batch"), _JSON, _encode({"task_ids": ids}))


def list_call(base_url: str, *, status: str | None = None, page: int = 1, page_size: int = 50) -> Call:
    """A page of the account's recent tasks, without links; seen in public client code, so not every host has it."""
    query: dict[str, str | int] = {"status": status} if status else {}
    query |= {"page": page, "page_size": page_size}
    return Call(CallKind.LIST, "GET", f"{_join(base_url, '/v1/tasks')}?{urlencode(query)}")


def credits_call(base_url: str) -> Call:
    """The account's balance; free, so it is also the way to try a key."""
    return Call(CallKind.CREDITS, "GET", _join(base_url, "/v1/credits"))


def idempotency_key(*parts: str) -> str:
    """The key of a submission that is known by `parts` (a batch and an item, say): the same for ever.

    The parts are told apart, so ("a", "bc") and ("ab", "c") have different keys.
    """
    return f"wan-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"


class RandomBits(Protocol):
    """`random.SystemRandom`, or a seeded `random.Random` in a test."""

    def getrandbits(self, k: int, /) -> int: ...


def new_idempotency_key(rng: RandomBits) -> str:
    """A key for a submission that nothing else names."""
    return f"wan-{rng.getrandbits(160):040x}"


def _join(base_url: str, path: str) -> str:
    # The documented base has a path of its own, which urljoin would drop.
    return base_url.rstrip("/") + path


# As documented ids are: nothing in them needs a percent sign.
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,256}", re.ASCII)


def _path_part(task_id: str) -> str:
    return task_id if _PLAIN_ID.fullmatch(task_id) else quote(check_task_id(task_id), safe="")


_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _encode(body: dict[str, object]) -> bytes:
    return _encoder.encode(body).encode()
