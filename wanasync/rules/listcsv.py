"""Lists as tables: the header and the rows of a .csv file."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from attrs import frozen

from wanasync.models import ListProblem
from wanasync.rules.listfields import COLUMN_SET, COLUMNS, ListLine, Maker, bad, unknown_name
from wanasync.rules.listtext import JSON, numbered, one_line, shown, unreadable

__all__ = ["is_header", "read_csv"]

_DELIMITERS = MappingProxyType({",": "comma", ";": "semicolon", "\t": "tab"})


def read_csv(pieces: Iterable[str], make: Maker) -> Iterator[ListLine]:
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
            yield bad(lines.start, None, _csv_reason(error))
            if header is None or "field limit" in str(error):
                return  # a quote that is never closed swallows the rest: its lines can't be judged
            continue
        if lines.reason:
            yield bad(lines.number, None, lines.reason)
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


def is_header(line: str) -> bool:
    """Whether this is the header of a table, and can't be a prompt."""
    delimiter = _delimiter(line)
    cells = line.count(delimiter) + 1
    return cells > 1 and _known_cells(line, delimiter) == cells and "prompt" in line.lower()


class _CsvLines:
    """The lines given to the CSV reader: knows where the row began and whether a line of it was unreadable."""

    def __init__(self, pieces: Iterable[str]) -> None:
        self._lines = numbered(pieces)
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


@frozen
class _Header:
    """The columns of a CSV; None for one without a name, which must stay empty."""

    columns: tuple[str | None, ...]
    delimiter: str

    def row(self, number: int, cells: list[str], make: Maker) -> ListLine:
        if len(cells) != len(self.columns):
            mark = _DELIMITERS[self.delimiter]
            hint = f"; text with a {mark} in it needs quotes around it" if len(cells) > len(self.columns) else ""
            return bad(number, None, f"has {_count(len(cells), 'cell')}, the header {len(self.columns)}{hint}")
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
        ListProblem(number, one_line(name), unknown_name("column", name))
        for name in dict.fromkeys(named)
        if name not in COLUMNS
    ]
    problems += [ListProblem(number, one_line(name), "the column is there twice") for name in _repeated(named)]
    if "prompt" not in named:
        reason = "the column is missing; the first line of a .csv list names its columns"
        if not set(named) & COLUMN_SET:
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
"""What the cells must be that can be wrong."""


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _csv_reason(error: csv.Error) -> str:
    said = str(error)
    if "unexpected end of data" in said or "field limit" in said:
        return "a quote is opened here and never closed"
    if "expected after" in said:
        return 'text goes on behind a closing quote; a quote inside quotes is written ""'
    return f"broken CSV: {said}"


def _delimiter(header: str) -> str:
    """Spreadsheets of many countries write semicolons; the header's own names decide."""
    return max(_DELIMITERS, key=lambda delimiter: _known_cells(header, delimiter))


def _known_cells(header: str, delimiter: str) -> int:
    return sum(cell.strip().strip('"').lower() in COLUMN_SET for cell in header.split(delimiter))
