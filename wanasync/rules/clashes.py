"""Clashes between the lines of a list: ids and file names that two of them would have."""

from __future__ import annotations

from array import array
from hashlib import blake2b

from attrs import define, field

from wanasync.models import BatchItem, ListProblem
from wanasync.rules.lists import ListLine
from wanasync.rules.listtext import shown
from wanasync.rules.naming import file_name, name_key, wanted_name

__all__ = ["Clashes"]


def _flat(size: int) -> array[int]:
    return array("Q", bytes(8 * size))


@define
class _FirstLines:
    """On which line a hash (not 0, at most 64 bits) was first seen.

    A flat open-addressed table, 16 bytes a slot: a set of a million strings would be the million objects that reading
    lazily avoids. That any two of a million lines share a hash by chance happens once in 20 million lists.
    """

    _marks: array[int] = field(factory=lambda: _flat(1024))
    _lines: array[int] = field(factory=lambda: _flat(1024))
    _count: int = 0

    def first(self, mark: int, line: int) -> int | None:
        """The line `mark` was seen on before; otherwise remember `line`."""
        slot = self._slot(mark)
        if self._marks[slot]:
            return self._lines[slot]
        self._marks[slot], self._lines[slot] = mark, line
        self._count += 1
        if self._count * 3 > len(self._marks) * 2:
            self._grow()
        return None

    def find(self, mark: int) -> int | None:
        """The line `mark` was seen on."""
        slot = self._slot(mark)
        return self._lines[slot] if self._marks[slot] else None

    def _slot(self, mark: int) -> int:
        marks, last = self._marks, len(self._marks) - 1
        slot = mark & last
        while marks[slot] and marks[slot] != mark:
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        old = zip(self._marks, self._lines, strict=True)
        self._marks, self._lines = _flat(2 * len(self._marks)), _flat(2 * len(self._lines))
        for mark, line in old:
            if mark:
                slot = self._slot(mark)
                self._marks[slot], self._lines[slot] = mark, line


class Clashes:
    """Ids and file names that more than one line of a list would have.

    All lines go through `check`, in their order; and, where `again` says so, through `check_again`.
    """

    def __init__(self) -> None:
        self._ids = _FirstLines()
        self._files = _FirstLines()
        self._wanted = self._made = 0

    @property
    def again(self) -> bool:
        """Whether a name that somebody wants could be one that is made for another line."""
        return bool(self._wanted and self._made)

    def check(self, line: ListLine) -> ListLine:
        """The line as it was, or with what it shares with an earlier one."""
        if line.item is None:
            return line
        clashes = (self._id_clash(line.number, line.item), self._file_clash(line.number, line.item))
        problems = tuple(filter(None, clashes))
        return ListLine(line.number, None, problems) if problems else line

    def check_again(self, index: int, line: ListLine) -> ListProblem | None:
        """What another line wants of the item at `index` (from 0), which wants no name."""
        if line.item is None or line.item.file is not None:
            return None
        name = file_name(line.item.request.prompt, index, line.item.id)
        wanted_on = self._files.find(name_key(name) or 1)
        if wanted_on is None:
            return None
        return ListProblem(wanted_on, "file", f"{shown(name)} is what the video of line {line.number} is called")

    def _id_clash(self, number: int, item: BatchItem) -> ListProblem | None:
        if item.id is None:
            return None
        first = self._ids.first(_mark(item.id), number)
        return ListProblem(number, "id", f"{shown(item.id)} stands on line {first} too") if first is not None else None

    def _file_clash(self, number: int, item: BatchItem) -> ListProblem | None:
        if item.file is None:
            self._made += 1
            return None
        self._wanted += 1
        first = self._files.first(name_key(wanted_name(item.file)) or 1, number)
        return (
            ListProblem(number, "file", f"{shown(item.file)} is the file of line {first} too")
            if first is not None
            else None
        )


def _mark(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") or 1
