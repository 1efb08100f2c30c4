"""One entry of a list: from an object of fields to a request, or a word on each field that is wrong."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from attrs import define, field, frozen

from wanasync.errors import RequestValidationError
from wanasync.models import BatchItem, ListProblem, VideoRequest
from wanasync.rules import catalog
from wanasync.rules.listtext import one_line, shown
from wanasync.rules.naming import wanted_name

__all__ = ["COLUMNS", "COLUMN_SET", "Judge", "ListLine", "Maker", "bad", "kind_of", "unknown_name"]

COLUMNS = (
    "prompt",
    "quality",
    "aspect_ratio",
    "duration",
    "prompt_extend",
    "model",
    "image_urls",
    "callback_url",
    "extra",
    "id",
    "file",
)
COLUMN_SET = frozenset(COLUMNS)

MAX_ID = 200
"""Characters in an item's id."""

# What people call these fields elsewhere, where spelling alone would not lead to ours.
_SYNONYMS: Mapping[str, str] = MappingProxyType(
    {
        "text": "prompt",
        "description": "prompt",
        "caption": "prompt",
        "resolution": "quality",
        "size": "quality",
        "ratio": "aspect_ratio",
        "aspect": "aspect_ratio",
        "seconds": "duration",
        "length": "duration",
        "image": "image_urls",
        "image_url": "image_urls",
        "webhook": "callback_url",
        "name": "file",
        "output": "file",
        "path": "file",
    }
)
_CONTAINERS: Mapping[str, tuple[type | tuple[type, ...], str]] = MappingProxyType(
    {"image_urls": ((list, tuple), "a list of links"), "extra": (dict, "an object of further API fields")}
)


@frozen
class ListLine:
    """One entry of a list: the line it begins on and its item, or what is wrong with it."""

    number: int
    item: BatchItem | None
    problems: tuple[ListProblem, ...] = ()


@define
class Maker:
    """Makes an entry of an object of fields; text cells of a CSV have been given their types before."""

    defaults: Mapping[str, Any]

    def __call__(self, number: int, given: Mapping[str, Any]) -> ListLine:
        problems: list[ListProblem] = []
        fields = {name: value for name, value in given.items() if value is not None}
        for name in fields.keys() - COLUMN_SET:
            problems.append(ListProblem(number, one_line(name), unknown_name("field", name)))
            del fields[name]
        item_id = _item_id(number, fields.pop("id", None), problems)
        file = _file(number, fields.pop("file", None), problems)
        request = _request(number, {**self.defaults, **_typed(fields)}, problems)
        if problems or request is None:
            return ListLine(number, None, tuple(problems))
        return ListLine(number, BatchItem(request, id=item_id, file=file))

    def of_prompt(self, number: int, prompt: str) -> ListLine:
        """An entry that is a prompt and nothing else."""
        if self.defaults.keys() & _CONTAINERS:
            return self(number, {"prompt": prompt})
        try:
            return ListLine(number, BatchItem(VideoRequest(**{**self.defaults, "prompt": prompt})))
        except RequestValidationError:
            # What is wrong with it, all of it, in words.
            return self(number, {"prompt": prompt})


@define
class Judge(Maker):
    """Makes nothing of prompts that are right, once the defaults have been found to be."""

    _stand_in: BatchItem | None = field(init=False, default=None)

    def of_prompt(self, number: int, prompt: str) -> ListLine:
        if self._stand_in is not None and _is_right(prompt, self._stand_in.request.model):
            return ListLine(number, self._stand_in)
        line = super().of_prompt(number, prompt)
        self._stand_in = self._stand_in or line.item
        return line


def _is_right(prompt: str, model: str) -> bool:
    try:
        catalog.check_prompt(model, prompt)
    except RequestValidationError:
        return False
    return True


def _typed(fields: dict[str, Any]) -> dict[str, Any]:
    duration = fields.get("duration")
    # JSON knows no whole numbers: many writers, spreadsheets among them, spell 5 as 5.0.
    if isinstance(duration, float) and duration.is_integer():
        fields["duration"] = int(duration)
    return fields


def _request(number: int, fields: dict[str, Any], problems: list[ListProblem]) -> VideoRequest | None:
    """The request, or None after noting every rule that is broken, not the first one only."""
    stand_in = {"prompt": "."}
    if "prompt" not in fields:
        problems.append(ListProblem(number, "prompt", "is missing"))
        fields |= stand_in
    for name in _CONTAINERS.keys() & fields.keys():
        if not isinstance(fields[name], _CONTAINERS[name][0]):
            problems.append(ListProblem(number, name, f"must be {_CONTAINERS[name][1]}, not {kind_of(fields[name])}"))
            del fields[name]
    blamed: set[str] = set()
    while True:
        try:
            return VideoRequest(**fields)
        except RequestValidationError as error:
            if error.field in blamed:
                return None
            problems.append(ListProblem(number, error.field, _reason(error)))
            blamed.add(error.field)
            # Without its model the other fields can't be judged.
            if error.field not in fields or error.field == "model":
                return None
            del fields[error.field]
            fields = {**stand_in, **fields}


def _item_id(number: int, value: object, problems: list[ListProblem]) -> str | None:
    if value is None:
        return None
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str):
        problems.append(ListProblem(number, "id", f"must be text, not {kind_of(value)}"))
    elif not text.strip() or not text.isprintable() or len(text) > MAX_ID:
        reason = f"must be 1 to {MAX_ID} printable characters, not {shown(text)}"
        problems.append(ListProblem(number, "id", reason))
    else:
        return text
    return None


def _file(number: int, value: object, problems: list[ListProblem]) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        problems.append(ListProblem(number, "file", f"must be text, not {kind_of(value)}"))
        return None
    try:
        wanted_name(value)
    except RequestValidationError as error:
        problems.append(ListProblem(number, "file", _reason(error)))
    return value


def bad(number: int, name: str | None, reason: str) -> ListLine:
    return ListLine(number, None, (ListProblem(number, name, reason),))


def unknown_name(what: str, name: str) -> str:
    word = re.sub(r"[\s-]+", "_", name.strip().lower())
    near = [_SYNONYMS[word]] if word in _SYNONYMS else difflib.get_close_matches(word, COLUMNS, n=1)
    if near:
        return f"no such {what}; did you mean {near[0]}?"
    return f"no such {what} (there are {', '.join(COLUMNS)})"


def _reason(error: RequestValidationError) -> str:
    reason = f"{shown(error.value)} {error.reason}"
    if error.allowed:
        reason += f" ({', '.join(_json_word(value) for value in error.allowed)})"
    return reason


def _json_word(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def kind_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"a number ({value})"
    if isinstance(value, list):
        return "an array"
    return "an object" if isinstance(value, dict) else "text"
