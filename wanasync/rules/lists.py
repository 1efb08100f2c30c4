"""Lists: from the text of a .txt, .csv, .jsonl or .json file to requests, and to a word on each line that is none.

Everything works on a stream of pieces of text, a line each (a line may come in several pieces if it is very long), and
holds one entry at a time: a million lines are never a million objects. What an entry's fields come to stands in
`listfields`, the header and rows of a table in `listcsv`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from wanasync.rules.listcsv import is_header, read_csv
from wanasync.rules.listfields import COLUMNS, Judge, ListLine, Maker, bad, kind_of
from wanasync.rules.listtext import (
    JSON,
    MAX_LINE,
    JSONWindow,
    RepeatedKeyError,
    UnreadableTextError,
    numbered,
    one_line,
    unreadable,
)

__all__ = ["COLUMNS", "FORMATS", "MAX_LINE", "ListLine", "judge", "other_form", "read"]


def read(pieces: Iterable[str], form: str, defaults: Mapping[str, Any] | None = None) -> Iterator[ListLine]:
    """Read a list of the given form (one of `FORMATS`), entry by entry, in its order.

    `pieces` is text decoded with `surrogateescape`, so that bytes that are no UTF-8 can be named. `defaults` are
    request fields for entries that leave them out. Nothing is raised for a bad list: every line is judged, and
    what can't be read on from ends with a line that says so.
    """
    return _lines(pieces, form, Maker(defaults or {}))


def judge(pieces: Iterable[str], form: str, defaults: Mapping[str, Any] | None = None) -> Iterator[ListLine]:
    """As `read`, for those who only ask what is wrong: prompts that are right all come as the same item.

    It takes a third of the time for a list of prompts alone, where nothing else can be wrong with a line.
    """
    return _lines(pieces, form, Judge(defaults or {}))


def other_form(first: str) -> str | None:
    """The form of a list whose first line of text was taken for a prompt and is none, as far as can be told.

    A list on stdin, or with a wrong suffix, would have its fields bought as prompts.
    """
    text = first.strip()
    if text.startswith("{") and text.endswith("}") and text[1:].lstrip().startswith('"'):
        return "jsonl"
    if text == "[" or (text.startswith("[") and text[1:].lstrip().startswith(("{", '"'))):
        return "json"
    return "csv" if is_header(text) else None


def _lines(pieces: Iterable[str], form: str, make: Maker) -> Iterator[ListLine]:
    number = 0
    try:
        for line in FORMATS[form](pieces, make):
            number = line.number
            yield line
    except UnicodeDecodeError as error:
        yield bad(number + 1, None, f"from here on the text is not valid {error.encoding.upper()}: {error.reason}")


def _read_txt(pieces: Iterable[str], make: Maker) -> Iterator[ListLine]:
    for number, text in numbered(pieces):
        prompt = text.strip()
        if not prompt or prompt.startswith("#"):
            continue
        reason = unreadable(text)
        yield bad(number, None, reason) if reason else make.of_prompt(number, prompt)


def _read_jsonl(pieces: Iterable[str], make: Maker) -> Iterator[ListLine]:
    for number, text in numbered(pieces):
        if not text.strip():
            continue
        reason = unreadable(text)
        if reason:
            yield bad(number, None, reason)
            continue
        try:
            value = JSON.decode(text.strip())
        except json.JSONDecodeError as error:
            yield bad(number, None, f"broken JSON: {_said(error)} (column {error.colno + _indent(text)})")
        except (RepeatedKeyError, ValueError, RecursionError) as error:
            yield _bad_value(number, error)
        else:
            yield _entry(number, value, make)


def _read_json(pieces: Iterable[str], make: Maker) -> Iterator[ListLine]:
    window = JSONWindow(pieces)
    try:
        if window.peek() == "":
            return
        if window.peek() != "[":
            yield bad(window.line, None, "a .json list must be one array, [ … ]; one object a line is .jsonl")
            return
        yield from _array(window, make)
    except UnicodeDecodeError:  # a ValueError too, but the text's and not the JSON's
        raise
    except json.JSONDecodeError as error:
        line, column = window.place(error.pos)
        yield bad(line, None, f"broken JSON: {_said(error)} (column {column})")
    except UnreadableTextError as error:
        yield bad(window.line, None, str(error))
    except (RepeatedKeyError, ValueError, RecursionError) as error:
        yield _bad_value(window.line, error)


def _array(window: JSONWindow, make: Maker) -> Iterator[ListLine]:
    window.take()
    if window.peek() == "]":
        window.take()
    else:
        while True:
            number = _first_line(window)
            yield _entry(number, window.value(), make)
            mark = window.peek()
            if mark not in (",", "]"):
                window.fail("Expecting ',' or ']'")
            window.take()
            if mark == "]":
                break
    if window.peek():
        window.fail("Extra data after the array")


def _first_line(window: JSONWindow) -> int:
    window.peek()
    return window.line


def _entry(number: int, value: object, make: Maker) -> ListLine:
    if isinstance(value, str):
        return make.of_prompt(number, value)
    if isinstance(value, dict):
        return make(number, value)
    return bad(number, None, f"must be an object of fields or a prompt in quotes, not {kind_of(value)}")


FORMATS: Mapping[str, Callable[[Iterable[str], Maker], Iterator[ListLine]]] = MappingProxyType(
    {"txt": _read_txt, "csv": read_csv, "jsonl": _read_jsonl, "json": _read_json}
)


def _bad_value(number: int, error: Exception) -> ListLine:
    if isinstance(error, RepeatedKeyError):
        return bad(number, one_line(str(error)), "the field is there twice")
    if isinstance(error, RecursionError):
        return bad(number, None, "broken JSON: nested too deeply")
    return bad(number, None, f"broken JSON: {error}")


def _said(error: json.JSONDecodeError) -> str:
    return error.msg[:1].lower() + error.msg[1:]


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip())
