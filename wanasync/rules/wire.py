"""JSON to records and back.

What a reply says is read strictly (see `bodies`): a field of the wrong type is a `ResponseFormatError` that names its
place. The one exception is where money hangs on the reply: see `salvaged_snapshot`.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import cattrs
from cattrs.errors import ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn

from wanasync.errors import RequestValidationError, ResponseFormatError
from wanasync.models import Credits, TaskSnapshot, VideoRequest
from wanasync.rules.bodies import (
    DEEPEST,
    WrongTypeError,
    frozen_json,
    is_task_id,
    structure_credits,
    structure_task,
    unwrapped,
)

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
    if len(fields) == 1:
        # A prompt alone, as in most lists of a million: an object takes the encoder ten times as long.
        return f'{{"prompt":{_to_canonical(fields["prompt"])}}}'
    return _to_canonical(fields)


# Made once: `json.dumps` makes one at each call that asks for anything but its defaults.
_to_canonical = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode


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
    except WrongTypeError as error:
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
        except WrongTypeError as error:
            if kept is body and isinstance(body, dict):
                kept = dict(unwrapped(body))
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
        with contextlib.suppress(WrongTypeError):  # what is nested too deeply can't be kept
            kept[name] = frozen_json(value, name, DEEPEST)
    return {name: value for name, value in kept.items() if value is not None}


def credits(body: object) -> Credits:  # noqa: A001 - the API's word
    """The balance that `GET /v1/credits` tells. Raises `ResponseFormatError`."""
    try:
        return _converter.structure(body, Credits)
    except WrongTypeError as error:
        raise ResponseFormatError(str(error)) from error


# The converter comes last: cattrs looks the hooks up when it is asked for them.


def _as_it_is(value: Any, _: type) -> Any:
    """No coercion: cattrs' own `bool("false")` is True, and each field's rule is the model's to judge."""
    return value


def _make_converter() -> cattrs.Converter:
    # A field with a converter of its own (`image_urls`, `extra`) is left to it.
    converter = cattrs.Converter(detailed_validation=False, prefer_attrib_converters=True, forbid_extra_keys=True)
    for primitive in (str, int, float, bool):
        converter.register_structure_hook(primitive, _as_it_is)
    converter.register_structure_hook(TaskSnapshot, structure_task)
    converter.register_structure_hook(Credits, structure_credits)
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
