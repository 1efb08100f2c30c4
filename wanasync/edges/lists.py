"""Opens lists: files, pipes and stdin, in UTF-8 or with a byte order mark in UTF-16 and UTF-32.

A list is read twice, once to judge all of it before anything is paid for, once to work on it. What can't be read
twice is copied to a temporary file on the way.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Self, TypeVar

from attrs import Factory, define, evolve

from wanasync import __version__
from wanasync.errors import ListError, RequestValidationError
from wanasync.models import BatchItem, ListProblem
from wanasync.rules.clashes import Clashes
from wanasync.rules.lists import FORMATS, ListLine, judge, other_form, read
from wanasync.rules.listtext import MAX_LINE
from wanasync.rules.listtext import shown as text_shown
from wanasync.rules.naming import wanted_name
from wanasync.rules.records import item_key
from wanasync.rules.templates import NameTemplate

__all__ = ["RequestList"]

_SUFFIXES = {
    ".txt": "txt",
    ".text": "txt",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
}

T = TypeVar("T")

_SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class RequestList:
    """A list of requests in a file, or on stdin for `-`, read lazily and as often as needed.

    `format` is txt, csv, jsonl or json; None goes by the file's suffix (txt for stdin). `defaults` are request
    fields for lines that leave them out. A context manager; iterate over it for `BatchItem`s, one pass at a time.
    Opening raises `ListError` if the file can't be read, and if no `format` was given and what is taken for a list of
    prompts begins as one of another kind does.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        format: str | None = None,  # noqa: A002 — the word a user looks for, on the command line too
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.name: str = "stdin" if str(source) == "-" else str(source)
        self.format: str = format or _format_of(source)
        if self.format not in FORMATS:
            raise ListError(f"{self.format!r} is not a kind of list (there are {', '.join(FORMATS)})")
        self._defaults = dict(defaults or {})
        self._file = _open(source, self.name)
        if format is None and self.format == "txt":
            self._check_kind()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def check(
        self, *, shown: int = 20, to: str | os.PathLike[str] | None = None, name: NameTemplate | None = None
    ) -> int:
        """Judge every line, and that no two share an id or file. Returns how many items there are.

        With `to`, the directory of the videos, no line may want the name of a file that lies there and is not a video
        of that directory's batch. With `name`, no two lines may come to the same name by it.

        Raises `ListError` with the first `shown` problems and their count; also for a list without any item.
        """
        clashes = Clashes()
        found = _Findings(shown)
        with _strange_files(to) as is_strange:
            for line in self._lines(judge if name is None else read):
                named = line if name is None else _named(line, name, found.items)
                found.add(_of_its_own(clashes.check(named), is_strange))
        if clashes.again and not found.problems:
            items = (line for line in self._lines(read) if line.item is not None)
            for index, line in enumerate(items):
                clash = clashes.check_again(index, line)
                if clash:
                    found.add(ListLine(clash.line, None, (clash,)))
        if found.count:
            lines = "1 line" if found.bad == 1 else f"{found.bad:,} lines"
            raise ListError(f"{self.name}: {lines} can't be used", tuple(found.problems), found.count)
        if not found.items:
            raise ListError(f"{self.name}: the list is empty")
        return found.items

    def fingerprint(self) -> str:
        """The same for the same list, read with the same defaults by the same version of wanasync.

        A batch keeps it, and knows by it a list that it has read to the end before. One pass over the file.
        """
        self._file.seek(0)
        try:
            digest = hashlib.file_digest(self._file, _digest)  # type: ignore[arg-type]
        except OSError as error:
            raise self._unreadable(error) from error
        told = json.dumps([__version__, self.format, self._defaults], sort_keys=True, default=str)
        digest.update(told.encode(errors="surrogatepass"))
        return digest.hexdigest()

    def __iter__(self) -> Iterator[BatchItem]:
        """Items in the list's order. Raises `ListError` at the first bad line; `check` finds them all beforehand."""
        for line in self._lines(read):
            if line.item is None:
                raise ListError(f"{self.name}: {line.problems[0]}", line.problems, len(line.problems))
            yield line.item

    def _check_kind(self) -> None:
        try:
            first = next(self._lines(_first_prompt), None)
        except ListError:
            self.close()
            raise
        form = other_form(first) if first else None
        if form is not None:
            self.close()
            raise ListError(
                f"{self.name}: begins like a .{form} list; give its format: {form}, or txt if these are prompts"
            )

    def _lines(self, reader: Callable[[Iterable[str], str, Mapping[str, Any]], Iterator[T]]) -> Iterator[T]:
        self._file.seek(0)
        encoding = _encoding(self._file.read(4))
        self._file.seek(0)
        # Half-read lines are the CSV reader's to put together, so it gets line ends as they are.
        newline = "" if self.format == "csv" else None
        text = io.TextIOWrapper(self._file, encoding, errors="surrogateescape", newline=newline)
        try:
            yield from reader(_pieces(text), self.format, self._defaults)
        except OSError as error:
            raise self._unreadable(error) from error
        finally:
            if not self._file.closed:
                text.detach()

    def _unreadable(self, error: OSError) -> ListError:
        return ListError(f"{self.name}: can't be read: {error.strerror or error}")


def _strange_files(
    directory: str | os.PathLike[str] | None,
) -> contextlib.AbstractContextManager[Callable[[str], bool] | None]:
    if directory is None:
        return contextlib.nullcontext()
    # Not before it is needed: it brings SQLite along.
    from wanasync.edges.journal import strange_files

    return strange_files(Path(directory))


def _of_its_own(line: ListLine, is_strange: Callable[[str], bool] | None) -> ListLine:
    """The line as it was, or with the file that is in its way."""
    if is_strange is None or line.item is None or line.item.file is None:
        return line
    name = wanted_name(line.item.file)
    if not is_strange(name):
        return line
    reason = f"{text_shown(name)} is there already and is not this batch's; move it away, or name another file"
    return ListLine(line.number, None, (ListProblem(line.number, "file", reason),))


def _named(line: ListLine, template: NameTemplate, index: int) -> ListLine:
    """The line with the name that the template gives it."""
    item = line.item
    if item is None or item.file is not None:
        return line
    try:
        name = template.name(item.request, index, item.id or item_key(item.request), time.time())
    except RequestValidationError as error:
        return ListLine(line.number, None, (ListProblem(line.number, "name", str(error)),))
    return ListLine(line.number, evolve(item, file=name), line.problems)


def _digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)


@define
class _Findings:
    """What was found in a list: how much is right and wrong, and the first problems."""

    shown: int
    items: int = 0
    bad: int = 0
    count: int = 0
    problems: list[ListProblem] = Factory(list)

    def add(self, line: ListLine) -> None:
        self.items += line.item is not None
        self.bad += line.item is None
        self.count += len(line.problems)
        self.problems.extend(line.problems[: self.shown - len(self.problems)])


def _pieces(text: io.TextIOWrapper) -> Iterator[str]:
    """Lines, the overlong ones in pieces: a file that is no text may be one line of gigabytes."""
    while piece := text.readline(MAX_LINE):
        yield piece


def _first_prompt(pieces: Iterable[str], *_: object) -> Iterator[str]:
    """The lines that would be prompts."""
    return (piece for piece in pieces if piece.strip() and not piece.lstrip().startswith("#"))


def _encoding(start: bytes) -> str:
    return next((encoding for mark, encoding in _MARKS if start.startswith(mark)), "utf-8")


def _format_of(source: str | Path) -> str:
    if str(source) == "-":
        return "txt"
    suffix = Path(source).suffix.lower()
    if suffix in _SPREADSHEETS:
        raise ListError(f"{source}: is a spreadsheet; save it as CSV (UTF-8) and give that")
    form = _SUFFIXES.get(suffix)
    if form is None and Path(source).is_dir():
        raise ListError(f"{source}: is a directory, not a list")
    if form is None:
        raise ListError(f"{source}: can't tell what kind of list this is; give its format: {', '.join(FORMATS)}")
    return form


def _open(source: str | Path, name: str) -> IO[bytes]:
    try:
        if str(source) == "-":
            return _spooled(sys.stdin.buffer)
        file = Path(source).open("rb")  # noqa: SIM115 — closed by the list
        if file.seekable():
            return file
        with file:  # a named pipe, or the shell's <( … )
            return _spooled(file)
    except FileNotFoundError as error:
        raise ListError(f"{name}: there is no such file") from error
    except IsADirectoryError as error:
        raise ListError(f"{name}: is a directory, not a list") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ListError(f"{name}: can't be read: {reason}") from error


def _spooled(stream: IO[bytes]) -> IO[bytes]:
    copy = tempfile.TemporaryFile()  # noqa: SIM115 — closed by the list
    try:
        shutil.copyfileobj(stream, copy)
    except BaseException:
        copy.close()
        raise
    return copy
