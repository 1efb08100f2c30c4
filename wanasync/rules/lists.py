"""Lists: from the text of a .txt, .csv, .jsonl or .json file to requests, and to a word on each line that is none.

Everything works on a stream of pieces of text, a line each (a line may come in several pieces if it is very long), and
holds one entry at a time: a million lines are never a million objects.
"""

from __future__ import annotations

import csv
import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from attrs import define, field, frozen

from wanasync.errors import RequestValidationError
from wanasync.models import BatchItem, ListProblem, VideoRequest
from wanasync.rules import catalog
from wanasync.rules.listtext import (
    JSON,
    MAX_LINE,
    JSONWindow,
    RepeatedKeyError,
    UnreadableTextError,
    one_line,
    shown,
    unreadable,
)
from wanasync.rules.naming import wanted_name

__all__ = ["COLUMNS", "FORMATS", "MAX_LINE", "ListLine", "judge", "other_form", "read"]

REQUEST_COLUMNS = (
    "prompt",
    "quality",
    "aspect_ratio",
    "duration",
    "prompt_extend",
    "model",
    "image_urls",
    "callback_url",
    "extra",
)
COLUMNS = (*REQUEST_COLUMNS, "id", "file")

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


@frozen
class ListLine:
    """One entry of a list: the line it begins on and its item, or what is wrong with it."""

    number: int
    item: BatchItem | None
    problems: tuple[ListProblem, ...] = ()


def read(pieces: Iterable[str], form: str, defaults: Mapping[str, Any] | None = None) -> Iterator[ListLine]:
    """Read a list of the given form (one of `FORMATS`), entry by entry, in its order.

    `pieces` is text decoded with `surrogateescape`, so that bytes that are no UTF-8 can be named. `defaults` are
    request fields for entries that leave them out. Nothing is raised for a bad list: every line is judged, and
    what can't be read on from ends with a line that says so.
    """
    return _lines(pieces, form, _Maker(defaults or {}))


def judge(pieces: Iterable[str], form: str, defaults: Mapping[str, Any] | None = None) -> Iterator[ListLine]:
    """As `read`, for those who only ask what is wrong: prompts that are right all come as the same item.

    It takes a third of the time for a list of prompts alone, where nothing else can be wrong with a line.
    """
    return _lines(pieces, form, _Judge(defaults or {}))


def _lines(pieces: Iterable[str], form: str, make: _Maker) -> Iterator[ListLine]:
    number = 0
    try:
        for line in FORMATS[form](pieces, make):
            number = line.number
            yield line
    except UnicodeDecodeError as error:
        yield _bad(number + 1, None, f"from here on the text is not valid {error.encoding.upper()}: {error.reason}")


# ---------------------------------------------------------------------------------------------------- the four forms


def _read_txt(pieces: Iterable[str], make: _Maker) -> Iterator[ListLine]:
    for number, text in _numbered(pieces):
        prompt = text.strip()
        if not prompt or prompt.startswith("#"):
            continue
        reason = unreadable(text)
        yield _bad(number, None, reason) if reason else make.of_prompt(number, prompt)


def _read_jsonl(pieces: Iterable[str], make: _Maker) -> Iterator[ListLine]:
    for number, text in _numbered(pieces):
        if not text.strip():
            continue
        reason = unreadable(text)
        if reason:
            yield _bad(number, None, reason)
            continue
        try:
            value = JSON.decode(text.strip())
        except json.JSONDecodeError as error:
            yield _bad(number, None, f"broken JSON: {_said(error)} (column {error.colno + _indent(text)})")
        except (RepeatedKeyError, ValueError, RecursionError) as error:
            yield _bad_value(number, error)
        else:
            yield _entry(number, value, make)


def _read_json(pieces: Iterable[str], make: _Maker) -> Iterator[ListLine]:
    window = JSONWindow(pieces)
    try:
        if window.peek() == "":
            return
        if window.peek() != "[":
            yield _bad(window.line, None, "a .json list must be one array, [ … ]; one object a line is .jsonl")
            return
        yield from _array(window, make)
    except UnicodeDecodeError:  # a ValueError too, but the text's and not the JSON's
        raise
    except json.JSONDecodeError as error:
        line, column = window.place(error.pos)
        yield _bad(line, None, f"broken JSON: {_said(error)} (column {column})")
    except UnreadableTextError as error:
        yield _bad(window.line, None, str(error))
    except (RepeatedKeyError, ValueError, RecursionError) as error:
        yield _bad_value(window.line, error)


def _array(window: JSONWindow, make: _Maker) -> Iterator[ListLine]:
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


def _entry(number: int, value: object, make: _Maker) -> ListLine:
    if isinstance(value, str):
        return make.of_prompt(number, value)
    if isinstance(value, dict):
        return make(number, value)
    return _bad(number, None, f"must be an object of fields or a prompt in quotes, not {_kind(value)}")


def _read_csv(pieces: Iterable[str], make: _Maker) -> Iterator[ListLine]:
    lines = _CsvLines(pieces)
    first = lines.first()
    if first is None:
        return
    delimiter = _delimiter(first)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    header: _Header | None = None
    while True:
        lines.begin()
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield _bad(lines.start, None, _csv_reason(error))
            if header is None or "field limit" in str(error):
                return  # a quote that is never closed swallows the rest: its lines can't be judged
            continue
        if lines.reason:
            yield _bad(lines.number, None, lines.reason)
            if lines.number == lines.start and header is None:
                return
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if header is not None:
            yield header.row(lines.start, cells, make)
            continue
        header, problems = _read_header(lines.start, cells, delimiter)
        if problems:
            yield ListLine(lines.start, None, problems)
            return


FORMATS: Mapping[str, Callable[[Iterable[str], _Maker], Iterator[ListLine]]] = MappingProxyType(
    {"txt": _read_txt, "csv": _read_csv, "jsonl": _read_jsonl, "json": _read_json}
)


# ------------------------------------------------------------------------------------------------- fields to requests


@define
class _Maker:
    """Makes an entry of an object of fields; text cells of a CSV have been given their types before."""

    defaults: Mapping[str, Any]

    def __call__(self, number: int, given: Mapping[str, Any]) -> ListLine:
        problems: list[ListProblem] = []
        fields = {name: value for name, value in given.items() if value is not None}
        for name in fields.keys() - _COLUMN_SET:
            problems.append(ListProblem(number, one_line(name), _unknown("field", name)))
            del fields[name]
        item_id = _item_id(number, fields.pop("id", None), problems)
        file = _file(number, fields.pop("file", None), problems)
        request = _request(number, {**self.defaults, **_typed(fields)}, problems)
        if problems or request is None:
            return ListLine(number, None, tuple(problems))
        return ListLine(number, BatchItem(request, id=item_id, file=file))

    def of_prompt(self, number: int, prompt: str) -> ListLine:
        """An entry that is a prompt and nothing else."""
        return self(number, {"prompt": prompt})


@define
class _Judge(_Maker):
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
            problems.append(ListProblem(number, name, f"must be {_CONTAINERS[name][1]}, not {_kind(fields[name])}"))
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
        problems.append(ListProblem(number, "id", f"must be text, not {_kind(value)}"))
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
        problems.append(ListProblem(number, "file", f"must be text, not {_kind(value)}"))
        return None
    try:
        wanted_name(value)
    except RequestValidationError as error:
        problems.append(ListProblem(number, "file", _reason(error)))
    return value


@frozen
class _Header:
    """The columns of a CSV; None for one without a name, which must stay empty."""

    columns: tuple[str | None, ...]
    delimiter: str

    def row(self, number: int, cells: list[str], make: _Maker) -> ListLine:
        if len(cells) != len(self.columns):
            mark = _DELIMITERS[self.delimiter]
            hint = f"; text with a {mark} in it needs quotes around it" if len(cells) > len(self.columns) else ""
            return _bad(number, None, f"has {_count(len(cells), 'cell')}, the header {len(self.columns)}{hint}")
        given: dict[str, Any] = {}
        problems: list[ListProblem] = []
        for place, (name, cell) in enumerate(zip(self.columns, cells, strict=True), start=1):
            if not cell.strip():
                continue
            if name is None:
                problems.append(ListProblem(number, None, f"cell {place} stands in a column without a name"))
                continue
            try:
                given[name] = _CELLS[name](cell)
            except (ValueError, RecursionError):
                problems.append(ListProblem(number, name, f"{shown(cell)} is not {_CELL_WORDS[name]}"))
                given.pop(name, None)
        line = make(number, given)
        return ListLine(number, None, (*problems, *line.problems)) if problems else line


def _read_header(number: int, cells: list[str], delimiter: str) -> tuple[_Header, tuple[ListProblem, ...]]:
    columns = tuple(re.sub(r"[\s-]+", "_", cell.strip().lower()) or None for cell in cells)
    named = [name for name in columns if name is not None]
    problems = [
        ListProblem(number, one_line(name), _unknown("column", name))
        for name in dict.fromkeys(named)
        if name not in COLUMNS
    ]
    problems += [ListProblem(number, one_line(name), "the column is there twice") for name in _repeated(named)]
    if "prompt" not in named:
        reason = "the column is missing; the first line of a .csv list names its columns"
        if not set(named) & _COLUMN_SET:
            reason += ". If this is a plain list with a prompt a line, give --format txt"
        problems.append(ListProblem(number, "prompt", reason))
    return _Header(columns, delimiter), tuple(problems)


def _repeated(names: list[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]


def _boolean_cell(cell: str) -> bool:
    word = cell.strip().lower()
    if word in ("true", "yes", "on", "1"):
        return True
    if word in ("false", "no", "off", "0"):
        return False
    raise ValueError(cell)


def _whole_cell(cell: str) -> int | float:
    text = cell.strip()
    return float(text) if re.fullmatch(r"\d+\.\d+", text, re.ASCII) else int(text)


_CELLS: Mapping[str, Callable[[str], Any]] = MappingProxyType(
    dict.fromkeys(COLUMNS, str.strip)
    | {
        "prompt": str,
        "duration": _whole_cell,
        "prompt_extend": _boolean_cell,
        "image_urls": str.split,
        "extra": JSON.decode,
    }
)
_CELL_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "duration": "a number of seconds",
        "prompt_extend": "true or false",
        "extra": "JSON",
    }
)
_COLUMN_SET = frozenset(COLUMNS)
_CONTAINERS: Mapping[str, tuple[type | tuple[type, ...], str]] = MappingProxyType(
    {"image_urls": ((list, tuple), "a list of links"), "extra": (dict, "an object of further API fields")}
)


# -------------------------------------------------------------------------------------------------------------- words


def _bad(number: int, name: str | None, reason: str) -> ListLine:
    return ListLine(number, None, (ListProblem(number, name, reason),))


def _bad_value(number: int, error: Exception) -> ListLine:
    if isinstance(error, RepeatedKeyError):
        return _bad(number, one_line(str(error)), "the field is there twice")
    if isinstance(error, RecursionError):
        return _bad(number, None, "broken JSON: nested too deeply")
    return _bad(number, None, f"broken JSON: {error}")


def _unknown(what: str, name: str) -> str:
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


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"a number ({value})"
    if isinstance(value, list):
        return "an array"
    return "an object" if isinstance(value, dict) else "text"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _said(error: json.JSONDecodeError) -> str:
    return error.msg[:1].lower() + error.msg[1:]


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip())


def _csv_reason(error: csv.Error) -> str:
    said = str(error)
    if "unexpected end of data" in said or "field limit" in said:
        return "a quote is opened here and never closed"
    if "expected after" in said:
        return 'text goes on behind a closing quote; a quote inside quotes is written ""'
    return f"broken CSV: {said}"


# ------------------------------------------------------------------------------------------------------ text to lines


def _numbered(pieces: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, from 1; what is longer than a line may be comes cut, see `unreadable`."""
    number, whole = 1, True
    for piece in pieces:
        if whole:
            yield number, piece
        whole = piece.endswith(("\n", "\r"))
        number += whole


class _CsvLines:
    """The lines given to the CSV reader: knows where the row began and whether a line of it was unreadable."""

    def __init__(self, pieces: Iterable[str]) -> None:
        self._lines = _numbered(pieces)
        self._ahead: tuple[int, str] | None = None
        self.number = 0
        self.start = 1
        self.reason: str | None = None

    def first(self) -> str | None:
        """The first line, which is still to come."""
        self._ahead = next(self._lines, None)
        return self._ahead[1] if self._ahead else None

    def begin(self) -> None:
        """The next line begins a row."""
        self.start, self.reason = self.number + 1, None

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        ahead, self._ahead = self._ahead, None
        self.number, text = ahead or next(self._lines)
        self.reason = self.reason or unreadable(text)
        return text.replace("\0", "")


_DELIMITERS = MappingProxyType({",": "comma", ";": "semicolon", "\t": "tab"})


def _delimiter(header: str) -> str:
    """Spreadsheets of many countries write semicolons; the header's own names decide."""
    return max(_DELIMITERS, key=lambda delimiter: _known_cells(header, delimiter))


def _known_cells(header: str, delimiter: str) -> int:
    return sum(cell.strip().strip('"').lower() in _COLUMN_SET for cell in header.split(delimiter))


def other_form(first: str) -> str | None:
    """The form of a list whose first line of text was taken for a prompt and is none, as far as can be told.

    A list on stdin, or with a wrong suffix, would have its fields bought as prompts.
    """
    text = first.strip()
    if text.startswith("{") and text.endswith("}") and text[1:].lstrip().startswith('"'):
        return "jsonl"
    if text == "[" or (text.startswith("[") and text[1:].lstrip().startswith(("{", '"'))):
        return "json"
    delimiter = _delimiter(text)
    cells = text.count(delimiter) + 1
    is_header = cells > 1 and _known_cells(text, delimiter) == cells and "prompt" in text.lower()
    return "csv" if is_header else None
