"""What the JSON of a reply says: of a task, and of the account's credits.

It is read strictly: a field of the wrong type is a `WrongTypeError` that names its place, a field without a name here
is kept in `extra`. Every shape of results that public clients were seen to accept is read, since hosts differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NoReturn

from wanasync.models import Credits, JSONObject, TaskFailure, TaskSnapshot, TaskStatus
from wanasync.rules.text import clean_text

__all__ = ["DEEPEST", "WrongTypeError", "frozen_json", "is_task_id", "structure_credits", "structure_task", "unwrapped"]

_TASK_ID = re.compile(r"[!-~]{1,256}", re.ASCII)


def is_task_id(value: object) -> bool:
    """Whether `value` can be a task's id.

    Documented ids look like `task-unified-1757169743-7cvnl5zw`; any printable ASCII passes, since an id that is
    refused is a paid video lost. Dots alone would change a URL's path.
    """
    return isinstance(value, str) and _TASK_ID.fullmatch(value) is not None and value not in (".", "..")


class WrongTypeError(Exception):
    """A place in a reply that is not as documented. `field` is the top-level field it lies in, "" for the whole."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"${path}: {reason}")
        self.field: str = re.split(r"[.\[]", path.lstrip("."), maxsplit=1)[0]


def _kind(value: object) -> str:
    """What JSON calls the type of `value`."""
    names = {dict: "an object", list: "an array", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _wrong(path: str, expected: str, value: object) -> NoReturn:
    raise WrongTypeError(path, f"{expected} expected, not {_kind(value)}")


def _object(parent: Mapping[str, Any], name: str, path: str = "") -> Mapping[str, Any]:
    value = parent.get(name)
    if value is None:
        return _NOTHING
    if not isinstance(value, dict):
        _wrong(f"{path}.{name}", "an object", value)
    return value


_NOTHING: Mapping[str, Any] = MappingProxyType({})


def _text(parent: Mapping[str, Any], name: str) -> str | None:
    value = parent.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        _wrong(f".{name}", "text", value)
    return _clean_name(value[:_LONGEST_NAME])


_LONGEST_NAME = 200


@lru_cache(maxsize=256)
def _clean_name(text: str) -> str:
    """Names of models and the like: the same few in thousands of replies."""
    return clean_text(text, _LONGEST_NAME)


_NUMBERS = frozenset((int, float))
"""bool, which is an int to Python, is not among them: `true` credits are none."""


def _amount(parent: Mapping[str, Any], name: str, path: str = "") -> float | None:
    """A number of at least 0: seconds, credits."""
    value = parent.get(name)
    if value is None:
        return None
    if type(value) not in _NUMBERS:
        _wrong(f"{path}.{name}", "a number", value)
    if not 0 <= value <= _LARGEST:
        raise WrongTypeError(f"{path}.{name}", "a number of at least 0 and of sane size expected")
    return float(value)


_LARGEST = 2**53
"""Beyond it a float no longer counts in ones; no time in seconds and no sum of credits gets there."""


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


# Tasks

_STATUSES = {
    "pending": TaskStatus.PENDING,
    "queued": TaskStatus.PENDING,
    "in_queue": TaskStatus.PENDING,
    "submitted": TaskStatus.PENDING,
    "processing": TaskStatus.PROCESSING,
    "running": TaskStatus.PROCESSING,
    "in_progress": TaskStatus.PROCESSING,
    "completed": TaskStatus.COMPLETED,
    "succeeded": TaskStatus.COMPLETED,
    "success": TaskStatus.COMPLETED,
    "failed": TaskStatus.FAILED,
    "failure": TaskStatus.FAILED,
    "error": TaskStatus.FAILED,
    "cancelled": TaskStatus.CANCELLED,
    "canceled": TaskStatus.CANCELLED,
}
"""Pending, processing, completed and failed are documented for queries, cancelled for callbacks; the others were seen
on further hosts of the API, in odd case."""


def structure_task(value: Any, _: type[TaskSnapshot]) -> TaskSnapshot:
    """A hook of cattrs: the look at a task. Raises `WrongTypeError`."""
    if not isinstance(value, dict):
        _wrong("", "an object", value)
    body = unwrapped(value)
    task_id = _task_id(body)
    status, said_status = _status(body)
    usage = _object(body, "usage")
    info = _object(body, "task_info")
    return TaskSnapshot(
        task_id,
        status,
        _progress(body),
        _links(body),
        _failure(body, status),
        _text(body, "model"),
        _amount(body, "created" if "created" in body else "created_at"),
        _amount(info, "estimated_time", ".task_info") if info else None,
        _amount(body, "duration"),
        _amount(usage, "credits_reserved", ".usage") if usage else None,
        _credits_used(body, usage),
        said_status,
        _extra(body),
    )


def _credits_used(body: Mapping[str, Any], usage: Mapping[str, Any]) -> float | None:
    if "credits_used" in usage:
        return _amount(usage, "credits_used", ".usage")
    if "cost" in usage:
        return _amount(_object(usage, "cost", ".usage"), "credits", ".usage.cost")
    # Lists of tasks have it flat.
    return _amount(body, "credits_used")


def unwrapped(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The task itself, where a host wraps it as `{"code": …, "data": {task}}`."""
    inner = body.get("data")
    if isinstance(inner, dict) and "id" not in body and "task_id" not in body and ("id" in inner or "task_id" in inner):
        return inner
    return body


def _task_id(body: Mapping[str, Any]) -> str:
    value = body.get("id", body.get("task_id"))
    if not is_task_id(value):
        if not isinstance(value, str):
            _wrong(".id", "text", value)
        raise WrongTypeError(".id", "printable ASCII without spaces expected, as of a task id")
    return str(value)


def _status(body: Mapping[str, Any]) -> tuple[TaskStatus, str]:
    said = body.get("status")
    if not isinstance(said, str):
        _wrong(".status", "text", said)
    known = _STATUSES.get(said)
    if known is not None:
        return known, said
    spelled = said.strip().lower().replace(" ", "_").replace("-", "_")
    return _STATUSES.get(spelled, TaskStatus.UNKNOWN), clean_text(said, 100)


def _progress(body: Mapping[str, Any]) -> int | None:
    value = body.get("progress")
    if value is None:
        return None
    if type(value) not in _NUMBERS:
        _wrong(".progress", "a number", value)
    return int(min(max(value, 0), 100))


def _failure(body: Mapping[str, Any], status: TaskStatus) -> TaskFailure | None:
    said = body.get("error")
    if not said:
        # Some replies about failed tasks lack `error`, or have it as null.
        return TaskFailure() if status is TaskStatus.FAILED else None
    if isinstance(said, str):
        return TaskFailure(message=clean_text(said))
    if not isinstance(said, dict):
        _wrong(".error", "an object", said)
    code, message, kind = (_word(said, name) for name in ("code", "message", "type"))
    return TaskFailure(code, message or "", kind)


def _word(said: Mapping[str, Any], name: str) -> str | None:
    value = said.get(name)
    if value is None:
        return None
    # The older generation of the API has integer codes.
    if isinstance(value, bool) or not isinstance(value, str | int):
        _wrong(f".error.{name}", "text", value)
    return clean_text(str(value))


_RESULT_FIELDS = ("results", "result_data", "output", "data", "video_url")
_LINK_FIELDS = ("url", "video_url", "download_url", "file_url", "audio_url", "image_url")
_LIST_FIELDS = ("videos", "images", "songs", "results")
_LINK = re.compile(r"https?://\S{1,8190}", re.IGNORECASE)


def _links(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The links of the first field that has any. `results` is documented; the others were seen in public clients."""
    for name in _RESULT_FIELDS:
        value = body.get(name)
        if not value:
            continue
        links = tuple(dict.fromkeys(_links_in(value, 4)))
        if links:
            return links
        # The other fields have meanings of their own where they hold no link; this one is for links only.
        if name == "results":
            raise WrongTypeError(".results", "links expected")
    return ()


def _links_in(value: Any, levels: int) -> Iterator[str]:
    if isinstance(value, str):
        if _LINK.fullmatch(value):
            yield value
    elif levels and isinstance(value, list):
        for item in value:
            yield from _links_in(item, levels - 1)
    elif levels and isinstance(value, dict):
        # One link an object: `url` and `video_url` side by side are the same video, `thumbnail_url` is none.
        name = next((name for name in (*_LINK_FIELDS, *_LIST_FIELDS) if value.get(name)), None)
        if name is not None:
            yield from _links_in(value[name], levels - 1)


_NAMED = frozenset(
    ("id", "task_id", "status", "progress", "error", "model", "created", "created_at", "duration", "credits_used")
)
_NAMED_INSIDE = {"usage": frozenset(("credits_reserved", "credits_used")), "task_info": frozenset(("estimated_time",))}
DEEPEST = 24


def _extra(body: Mapping[str, Any]) -> JSONObject:
    """What the reply says beyond the snapshot's own fields, where it said it."""
    extra = {}
    for name, value in body.items():
        if name in _NAMED:
            continue
        if type(value) not in _SCALARS:
            value = _rest(name, value)
            if value is None:
                continue
        extra[name] = value
    return JSONObject.of_frozen(extra)


def _rest(name: str, value: dict[str, Any] | list[Any]) -> Any:
    """What of a nested field is not in the snapshot yet; None for nothing."""
    named = _NAMED_INSIDE.get(name)
    if named is not None and isinstance(value, dict):
        rest = {key: inner for key, inner in value.items() if key not in named}
        if _SCALARS.issuperset(map(type, rest.values())):
            return JSONObject.of_frozen(rest) if rest else None
        return frozen_json(rest, name, DEEPEST)
    # Links that are plain text are all in the snapshot; objects say more than their link.
    if name == "results" and _TEXT.issuperset(map(type, value)):
        return None
    return frozen_json(value, name, DEEPEST)


def frozen_json(value: Any, name: str, levels: int) -> Any:
    """`value` with nothing left in it that could change; refused where it is nested beyond what later code can walk."""
    if type(value) in _SCALARS:
        return value
    if levels == 0:
        raise WrongTypeError(f".{name}", "is nested too deeply")
    if isinstance(value, list):
        return tuple([frozen_json(item, name, levels - 1) for item in value])
    return JSONObject.of_frozen({key: frozen_json(item, name, levels - 1) for key, item in value.items()})


_SCALARS = frozenset((str, int, float, bool, type(None)))
_TEXT = frozenset((str,))


# Credits


def structure_credits(value: Any, _: type[Credits]) -> Credits:
    """A hook of cattrs: the account's balance. Raises `WrongTypeError`."""
    if not isinstance(value, dict):
        _wrong("", "an object", value)
    data = _object(value, "data")
    user, token = _object(data, "user", ".data"), _object(data, "token", ".data")
    if not user and not token:
        raise WrongTypeError(".data", "the balance of `user` or `token` expected")
    account = _amount(user, "remaining_credits", ".data.user")
    # A key may have a cap of its own below (or, as in the documented example, far above) the account's balance.
    own = None if token.get("unlimited_credits") is True else _amount(token, "remaining_credits", ".data.token")
    told = [amount for amount in (account, own) if amount is not None]
    return Credits(
        remaining=min(told, default=None),
        used=_first(_amount(token, "used_credits", ".data.token"), _amount(user, "used_credits", ".data.user")),
        unlimited=not told and token.get("unlimited_credits") is True,
    )
