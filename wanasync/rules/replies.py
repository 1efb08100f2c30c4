"""What a reply means.

Two generations of errors are about (the provider's document has integer codes and a suggestion, its newer pages words
as codes and an unreliable type), and proxies in front add envelopes and pages of their own. So the HTTP status decides
first, then the code, the type last.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

from attrs import field, frozen

from wanasync.errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    InsufficientCreditError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ResponseFormatError,
    ServerError,
)
from wanasync.models import Credits, TaskSnapshot
from wanasync.rules import hints, wire
from wanasync.rules.text import clean_text

__all__ = [
    "Accepted",
    "Refused",
    "Reply",
    "Submission",
    "TaskPage",
    "Throttled",
    "Unknown",
    "api_error",
    "clean_text",
    "read_credits",
    "read_submission",
    "read_task",
    "read_task_list",
    "read_tasks",
]


T = TypeVar("T")


@frozen
class Reply:
    """One HTTP reply. `headers` are asked for by lower-case names; `url` is what was asked."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    url: str = ""


@frozen
class Accepted:
    """The provider made a task. `replayed` tells that it is the task of an earlier submission with the same key."""

    snapshot: TaskSnapshot
    replayed: bool = False


@frozen
class Throttled:
    """Not created: too much at once. Safe to send again after `retry_after` seconds (None: it did not say).

    `firm` tells that the wait was given in a header, which is computed, and not in a text, which may stand there
    for every refusal.
    """

    error: APIError
    retry_after: float | None = None
    firm: bool = False


@frozen
class Refused:
    """Not created, and the same request would be refused again."""

    error: APIError


@frozen
class Unknown:
    """The task may or may not exist and be billed. `body` is the start of what came, cleaned."""

    reason: str
    status: int | None = None
    body: str = ""


Submission = Accepted | Throttled | Refused | Unknown


@frozen
class TaskPage:
    """A page of the account's recent tasks; they come without links. `total` counts all pages' tasks."""

    tasks: tuple[TaskSnapshot, ...]
    total: int
    page: int


# Submissions

# By these the server says that it did not take the request. 408 and 499 are not among them: a proxy sends them when it
# lost patience with the server behind it, which may have the request. 409 is read by its code.
_REFUSALS = frozenset({400, 401, 402, 403, 404, 405, 406, 410, 411, 413, 414, 415, 417, 421, 422, 426, 428, 431, 451})


def read_submission(reply: Reply, *, now: float) -> Submission:
    """What became of a submission. Never raises: what can't be understood is `Unknown`, since it may be billed.

    `now` is unix seconds.
    """
    body = _json_or_none(reply)
    if 200 <= reply.status < 300:
        return _read_created(reply, body, now)
    error = _error(reply, body, now)
    # Seen in the provider's own client: the first submission with this key is still under way.
    if error.code == "paid_outcome_unknown":
        return _unknown(reply, "the provider itself does not know the outcome yet")
    if error.code == "idempotency_conflict":
        return Refused(error)
    if reply.status == 429 or (reply.status == 503 and _is_documented_503(body)):
        return _throttled(reply, error, now)
    if 300 <= reply.status < 400 or reply.status in _REFUSALS:
        return Refused(error)
    return _unknown(reply, f"HTTP {reply.status}: {error.message}")


def _read_created(reply: Reply, body: Any, now: float) -> Submission:
    try:
        snapshot = wire.salvaged_snapshot(body)
    except ResponseFormatError as error:
        rescued = _cut_short(reply) if body is None else None
        if rescued is None:
            return _read_no_id(reply, body, error, now)
        snapshot = rescued
    return Accepted(snapshot, reply.headers.get("idempotency-replayed", "").strip().lower() == "true")


# Only the documented form of an id, with its closing quote, and only in the submission's own reply.
_ID_IN_PIECES = re.compile(rb'"id"\s*:\s*"(task-unified-[A-Za-z0-9_-]{1,100})"')


def _cut_short(reply: Reply) -> TaskSnapshot | None:
    """The task of a reply that is broken JSON but has the id whole: cut short, or spoilt further on."""
    if not reply.body.lstrip().startswith(b"{"):
        return None
    found = set(_ID_IN_PIECES.findall(reply.body))
    return wire.salvaged_snapshot({"id": found.pop().decode("ascii")}) if len(found) == 1 else None


def _read_no_id(reply: Reply, body: Any, why: ResponseFormatError, now: float) -> Submission:
    """A success without an id. An explicit refusal inside it is believed, anything else may have been billed."""
    if not isinstance(body, dict) or not _is_error(body):
        return _unknown(reply, f"a success without a usable task id ({why.reason})")
    error = _error(reply, body, now)
    if isinstance(error, RateLimitError):
        return _throttled(reply, error, now)
    refused = body.get("success") is False and type(error) is APIError
    if error.code == "paid_outcome_unknown" or not (refused or isinstance(error, _REFUSING)):
        return _unknown(reply, f"a success without a task id, but with an error: {error.message}")
    return Refused(error)


_REFUSING = (BadRequestError, AuthenticationError, InsufficientCreditError, PermissionDeniedError, NotFoundError)


def _throttled(reply: Reply, error: APIError, now: float) -> Throttled:
    firm = hints.retry_after(reply.headers, (), now=now) is not None
    return Throttled(error, error.retry_after, firm)


def _is_documented_503(body: Any) -> bool:
    """Whether it is the provider itself that is unavailable. Any other 503 is a proxy's, after who knows what."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return False
    return error.get("type") == "service_unavailable_error" or error.get("code") == "service_unavailable"


def _unknown(reply: Reply, reason: str) -> Unknown:
    return Unknown(reason, reply.status, _start(reply))


# Tasks, lists, credits


def read_task(reply: Reply, *, now: float) -> TaskSnapshot:
    """The look at a task that a query's reply gives. A failed task is a success here: HTTP 200, `status` failed.

    Raises `APIError`'s subclasses and `ResponseFormatError`.
    """
    return _read(reply, now, _snapshot)


def read_tasks(reply: Reply, *, now: float) -> tuple[TaskSnapshot, ...]:
    """The tasks of a batch query's reply, unknown ones being absent. Raises as `read_task`.

    A task that can't be read is left out, so that it does not hide the others; ask for it alone to know why.
    """
    return _read(reply, now, _snapshots)


def read_task_list(reply: Reply, *, now: float) -> TaskPage:
    """A page of recent tasks. Raises as `read_task`."""
    return _read(reply, now, _page)


def read_credits(reply: Reply, *, now: float) -> Credits:
    """The account's balance. Raises as `read_task`."""
    return _read(reply, now, wire.credits)


def _read(reply: Reply, now: float, reader: Callable[[Any], T]) -> T:
    """What `reader` makes of the body; of an unreadable reply, status and start are told beside the reason."""
    try:
        return reader(_success(reply, now))
    except ResponseFormatError as error:
        error.status, error.body = reply.status, _start(reply)
        raise


def _success(reply: Reply, now: float) -> Any:
    """The body of a reply that is none of the many forms of an error."""
    if not 200 <= reply.status < 300:
        raise api_error(reply, now=now)
    body = wire.read_json(reply.body)
    if isinstance(body, dict) and _is_error(body):
        raise _error(reply, body, now)
    return body


def _snapshot(body: Any) -> TaskSnapshot:
    try:
        return wire.task_snapshot(body)
    except ResponseFormatError:
        # A finished task must not be lost over a side field, as it would be if every look at it failed.
        snapshot = wire.salvaged_snapshot(body)
        if not snapshot.status.is_final:
            raise
        return snapshot


def _snapshots(body: Any) -> tuple[TaskSnapshot, ...]:
    items = body.get("data") if isinstance(body, dict) else body
    if not isinstance(items, list):
        raise ResponseFormatError("$.data: an array of tasks expected")
    return tuple(_readable(items))


def _page(body: Any) -> TaskPage:
    tasks = _snapshots(body)
    return TaskPage(tasks, _count(body, "total", len(tasks)), _count(body, "page", 1))


def _readable(items: Iterable[Any]) -> Iterable[TaskSnapshot]:
    for item in items:
        try:
            yield _snapshot(item)
        except ResponseFormatError:
            continue


def _count(body: Any, name: str, default: int) -> int:
    value = body.get(name) if isinstance(body, dict) else None
    return value if type(value) is int and 0 <= value < 2**53 else default


# Errors


def api_error(reply: Reply, *, now: float) -> APIError:
    """The error that a reply is. Never fails, whatever the body; `now` is unix seconds."""
    return _error(reply, _json_or_none(reply), now)


@frozen
class _Said:
    """What an error's body says, whichever envelope it came in."""

    message: str = ""
    code: str | int | None = None
    type: str | None = None
    param: str | None = None
    suggestion: str | None = None
    request_id: str | None = None


_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "x-oneapi-request-id", "cf-ray")


def _error(reply: Reply, body: Any, now: float) -> APIError:
    said = _said(body)
    request_id = next((reply.headers[name] for name in _REQUEST_ID_HEADERS if reply.headers.get(name)), None)
    return _error_class(reply.status, said)(
        said.message or _sentence(reply),
        reply.status,
        said.code,
        said.type,
        said.param,
        said.suggestion,
        clean_text(request_id, 100) if request_id else said.request_id,
        hints.retry_after(reply.headers, (said.suggestion, said.message), now=now),
        _start(reply),
    )


def _said(body: Any) -> _Said:
    if isinstance(body, str):
        return _Said(clean_text(body))
    if not isinstance(body, dict):
        return _Said()
    error = body.get("error")
    inner = error if isinstance(error, dict) else body
    message = _first_text(inner, ("message", "msg", "detail", "error", "error_description", "title"))
    return _Said(
        message or _first_text(body, ("message", "msg", "detail")) or "",
        _code(inner),
        _first_text(inner, ("type",)),
        _first_text(inner, ("param",)),
        _first_text(inner, ("fallback_suggestion",)),
        _first_text(inner, ("request_id",)) or _first_text(body, ("request_id",)),
    )


def _first_text(said: Mapping[str, Any], names: Iterable[str]) -> str | None:
    texts = (clean_text(value) for name in names if isinstance(value := said.get(name), str))
    return next((text for text in texts if text), None)


def _code(said: Mapping[str, Any]) -> str | int | None:
    value = said.get("code")
    if isinstance(value, str):
        return clean_text(value, 100) or None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return value
    return None


def _sentence(reply: Reply) -> str:
    """What to say for an error that says nothing itself."""
    if 300 <= reply.status < 400:
        target = clean_text(reply.headers.get("location", "")) or "another address"
        return (
            f"the API redirects to {target}, which is not followed because of the key; set base_url to where it lives"
        )
    if reply.body.lstrip()[:1] == b"<":
        return f"{_phrase(reply.status)}, as a web page: a proxy in front of the API, or base_url is not the API's"
    return _phrase(reply.status)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"HTTP {status}"


_BY_STATUS: Mapping[int, type[APIError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: InsufficientCreditError,
    403: PermissionDeniedError,
    404: NotFoundError,
    410: NotFoundError,
    413: BadRequestError,
    422: BadRequestError,
    429: RateLimitError,
}

_BY_WORD: Mapping[str, type[APIError]] = {
    # Codes of the newer generation.
    "invalid_request": BadRequestError,
    "invalid_parameters": BadRequestError,
    "invalid_task_id": BadRequestError,
    "idempotency_conflict": BadRequestError,
    "model_not_found": BadRequestError,
    "content_policy_violation": BadRequestError,
    "unauthorized": AuthenticationError,
    "insufficient_quota": InsufficientCreditError,
    "permission_denied": PermissionDeniedError,
    "model_access_denied": PermissionDeniedError,
    "task_not_found": NotFoundError,
    "resource_not_found": NotFoundError,
    "rate_limit_exceeded": RateLimitError,
    # Without HTTP 402 beside it, the provider's pages read it as a rate that passes.
    "quota_exceeded": RateLimitError,
    "internal_error": ServerError,
    "service_error": ServerError,
    "service_unavailable": ServerError,
    # Types of the older generation.
    "invalid_request_error": BadRequestError,
    "request_too_large_error": BadRequestError,
    "authentication_error": AuthenticationError,
    "insufficient_quota_error": InsufficientCreditError,
    "permission_error": PermissionDeniedError,
    "not_found_error": NotFoundError,
    "rate_limit_error": RateLimitError,
    "internal_server_error": ServerError,
    "upstream_error": ServerError,
    "service_unavailable_error": ServerError,
}


def _error_class(status: int, said: _Said) -> type[APIError]:
    if status == 404 and (said.param == "model" or said.code == "model_not_found"):
        return BadRequestError
    if status >= 300:
        return _class_of_status(status)
    # An error inside a success: its own code stands in for the status.
    if isinstance(said.code, int):
        return _class_of_status(said.code)
    return _BY_WORD.get(said.code or "") or _BY_WORD.get(said.type or "", APIError)


def _class_of_status(status: int) -> type[APIError]:
    return ServerError if 500 <= status < 600 else _BY_STATUS.get(status, APIError)


def _is_error(body: Mapping[str, Any]) -> bool:
    """Whether the body of an HTTP success is an error's envelope. A failed task is none: it has an id."""
    if body.get("id") is not None or body.get("task_id") is not None:
        return False
    code = body.get("code")
    return (
        body.get("success") is False
        or (bool(body.get("error")) and "data" not in body)
        or (isinstance(code, int) and not isinstance(code, bool) and 300 <= code < 600)
    )


def _json_or_none(reply: Reply) -> Any:
    try:
        return wire.read_json(reply.body)
    except ResponseFormatError:
        return None


def _start(reply: Reply) -> str:
    return clean_text(reply.body[:4096].decode("utf-8", "replace"))
