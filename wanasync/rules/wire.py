"""JSON to records and back.

What a reply says is read strictly: a field of the wrong type is a `ResponseFormatError` that names its place, a field
without a name here is kept in `extra`. The one exception is where money hangs on the reply: see `salvaged_snapshot`.

Every shape of results that public clients were seen to accept is read, since hosts of this API differ.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NoReturn

import attrs
import cattrs
from cattrs.errors import ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn

from wanasync.errors import RequestValidationError, ResponseFormatError
from wanasync.models import Credits, JSONObject, TaskFailure, TaskSnapshot, TaskStatus, VideoRequest
from wanasync.rules.text import clean_text

__all__ = [
    "credits",
    "is_task_id",
    "read_json",
    "request_body",
    "request_from_json",
    "request_to_json",
    "salvaged_snapshot",
    "task_snapshot",
]


# Requests


def request_body(request: VideoRequest) -> dict[str, Any]:
    """What is posted for `request`. Fields that were not given are left to the provider's defaults."""
    body: dict[str, Any] = {"model": request.model, **request.fields(), **request.extra}
    if request.image_urls:
        body["image_urls"] = list(request.image_urls)
    return body


def request_to_json(request: VideoRequest) -> str:
    """`request` as one line of canonical JSON: equal requests give equal text."""
    fields = _converter.unstructure(request, VideoRequest)
    return json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def request_from_json(text: str) -> VideoRequest:
    """The request that `request_to_json` wrote. Raises `RequestValidationError`."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestValidationError("request", text, f"is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise RequestValidationError("request", text, "must be an object in JSON")
    try:
        return _converter.structure(fields, VideoRequest)
    except (TypeError, KeyError, ForbiddenExtraKeysError) as error:
        raise RequestValidationError("request", text, f"has missing, unknown or malformed fields: {error}") from error


# Replies


def read_json(data: bytes) -> Any:
    """The JSON value in `data`. Raises `ResponseFormatError`.

    NaN and infinities, which JSON does not have and some servers write, are read as null, so that nothing that has
    been read can spoil what is written from it.
    """
    try:
        return _decoder.decode(data.decode().removeprefix("\ufeff"))
    except RecursionError as error:
        raise ResponseFormatError("$: is nested too deeply") from error
    except ValueError as error:
        raise ResponseFormatError(f"$: {_not_json(data)}") from error


def _not_json(data: bytes) -> str:
    start = data[:256].strip().lower()
    if not start:
        return "is empty"
    if start.startswith(b"<"):
        return "is HTML or XML, not JSON"
    return "is not JSON, or cut short"


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _no_number(_: str) -> None:
    return None


_decoder = json.JSONDecoder(parse_float=_finite, parse_constant=_no_number)


def task_snapshot(body: object) -> TaskSnapshot:
    """The look at a task that `body` (a query's, a submission's or a callback's) gives.

    Raises `ResponseFormatError`, its reason starting with the place: `$.progress: …`.
    """
    try:
        return _structure_snapshot(body, TaskSnapshot)
    except _WrongTypeError as error:
        raise ResponseFormatError(str(error)) from error


def salvaged_snapshot(body: object) -> TaskSnapshot:
    """As `task_snapshot`, but only the id has to be right: what else is of the wrong type is moved to `extra`.

    For replies on which money hangs: losing a paid task's id over a malformed `progress` would be the worst trade.
    A status that can't be read becomes UNKNOWN. Raises `ResponseFormatError` where there is no usable id.
    """
    aside: dict[str, Any] = {}
    kept = body
    while True:
        try:
            snapshot = _structure_snapshot(kept, TaskSnapshot)
            break
        except _WrongTypeError as error:
            if kept is body and isinstance(body, dict):
                kept = dict(_unwrapped(body))
            name = error.field
            if not isinstance(kept, dict) or name in ("", "id") or name in aside:
                raise ResponseFormatError(str(error)) from error
            aside[name] = kept.pop(name, None)
            if name == "status":
                kept["status"] = ""
    return attrs.evolve(snapshot, extra={**snapshot.extra, **_readable(aside)}) if aside else snapshot


def _readable(aside: Mapping[str, Any]) -> dict[str, Any]:
    kept = {}
    for name, value in aside.items():
        with contextlib.suppress(_WrongTypeError):  # what is nested too deeply can't be kept
            kept[name] = _frozen(value, name, _DEEPEST)
    return {name: value for name, value in kept.items() if value is not None}


def credits(body: object) -> Credits:  # noqa: A001 - the API's word
    """The balance that `GET /v1/credits` tells. Raises `ResponseFormatError`."""
    try:
        return _converter.structure(body, Credits)
    except _WrongTypeError as error:
        raise ResponseFormatError(str(error)) from error


_TASK_ID = re.compile(r"[!-~]{1,256}", re.ASCII)


def is_task_id(value: object) -> bool:
    """Whether `value` can be a task's id.

    Documented ids look like `task-unified-1757169743-7cvnl5zw`; any printable ASCII passes, since an id that is
    refused is a paid video lost. Dots alone would change a URL's path.
    """
    return isinstance(value, str) and _TASK_ID.fullmatch(value) is not None and value not in (".", "..")


class _WrongTypeError(Exception):
    """A place in a reply that is not as documented. `field` is the top-level field it lies in, "" for the whole."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"${path}: {reason}")
        self.field = re.split(r"[.\[]", path.lstrip("."), maxsplit=1)[0]


def _kind(value: object) -> str:
    """What JSON calls the type of `value`."""
    names = {dict: "an object", list: "an array", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _wrong(path: str, expected: str, value: object) -> NoReturn:
    raise _WrongTypeError(path, f"{expected} expected, not {_kind(value)}")


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
        raise _WrongTypeError(f"{path}.{name}", "a number of at least 0 and of sane size expected")
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


def _structure_task(value: Any, _: type[TaskSnapshot]) -> TaskSnapshot:
    if not isinstance(value, dict):
        _wrong("", "an object", value)
    body = _unwrapped(value)
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


def _unwrapped(body: Mapping[str, Any]) -> Mapping[str, Any]:
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
        raise _WrongTypeError(".id", "printable ASCII without spaces expected, as of a task id")
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
            raise _WrongTypeError(".results", "links expected")
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
_DEEPEST = 24


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
        return _frozen(rest, name, _DEEPEST)
    # Links that are plain text are all in the snapshot; objects say more than their link.
    if name == "results" and _TEXT.issuperset(map(type, value)):
        return None
    return _frozen(value, name, _DEEPEST)


def _frozen(value: Any, name: str, levels: int) -> Any:
    """`value` with nothing left in it that could change; refused where it is nested beyond what later code can walk."""
    if type(value) in _SCALARS:
        return value
    if levels == 0:
        raise _WrongTypeError(f".{name}", "is nested too deeply")
    if isinstance(value, list):
        return tuple([_frozen(item, name, levels - 1) for item in value])
    return JSONObject.of_frozen({key: _frozen(item, name, levels - 1) for key, item in value.items()})


_SCALARS = frozenset((str, int, float, bool, type(None)))
_TEXT = frozenset((str,))


# Credits


def _structure_credits(value: Any, _: type[Credits]) -> Credits:
    if not isinstance(value, dict):
        _wrong("", "an object", value)
    data = _object(value, "data")
    user, token = _object(data, "user", ".data"), _object(data, "token", ".data")
    if not user and not token:
        raise _WrongTypeError(".data", "the balance of `user` or `token` expected")
    account = _amount(user, "remaining_credits", ".data.user")
    # A key may have a cap of its own below (or, as in the documented example, far above) the account's balance.
    own = None if token.get("unlimited_credits") is True else _amount(token, "remaining_credits", ".data.token")
    told = [amount for amount in (account, own) if amount is not None]
    return Credits(
        remaining=min(told, default=None),
        used=_first(_amount(token, "used_credits", ".data.token"), _amount(user, "used_credits", ".data.user")),
        unlimited=not told and token.get("unlimited_credits") is True,
    )


# The converter comes last: cattrs looks the hooks up when it is asked for them.


def _as_it_is(value: Any, _: type) -> Any:
    """No coercion: cattrs' own `bool("false")` is True, and each field's rule is the model's to judge."""
    return value


def _make_converter() -> cattrs.Converter:
    # A field with a converter of its own (`image_urls`, `extra`) is left to it.
    converter = cattrs.Converter(detailed_validation=False, prefer_attrib_converters=True, forbid_extra_keys=True)
    for primitive in (str, int, float, bool):
        converter.register_structure_hook(primitive, _as_it_is)
    converter.register_structure_hook(TaskSnapshot, _structure_task)
    converter.register_structure_hook(Credits, _structure_credits)
    converter.register_structure_hook(
        VideoRequest,
        make_dict_structure_fn(
            VideoRequest, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=False
        ),
    )
    converter.register_unstructure_hook(
        VideoRequest, make_dict_unstructure_fn(VideoRequest, converter, _cattrs_omit_if_default=True)
    )
    return converter


_converter = _make_converter()
# Looked up once: a reply is structured thousands of times a second.
_structure_snapshot: Callable[[object, type[TaskSnapshot]], TaskSnapshot] = _converter.get_structure_hook(TaskSnapshot)
