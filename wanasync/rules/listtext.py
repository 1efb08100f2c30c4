"""The text of lists: what can't be read as text at all, and a JSON array read value by value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

__all__ = [
    "JSON",
    "MAX_LINE",
    "JSONWindow",
    "RepeatedKeyError",
    "UnreadableTextError",
    "numbered",
    "one_line",
    "shown",
    "unreadable",
]

MAX_LINE = 1 << 20
"""Characters in one line, or in one object of a .json list. What is longer is hardly a list of prompts."""

_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


def unreadable(text: str) -> str | None:
    """Why a line can't be read as text; None if it can."""
    if len(text) >= MAX_LINE and not text.endswith("\n"):
        return f"is longer than {MAX_LINE:,} characters; is this a list?"
    if "\0" in text:
        return "holds NUL bytes; is this a list? It must be UTF-8 text, or UTF-16 with a byte order mark"
    if text.isascii():
        return None
    found = _ESCAPED_BYTE.search(text)
    if found is None:
        return None
    place = len(text[: found.start()].encode("utf-8", "surrogateescape")) + 1
    value = ord(found.group()) - 0xDC00
    return f"byte {place} of the line, 0x{value:02X}, is not UTF-8; save the list as UTF-8"


def shown(value: object) -> str:
    """The value as the list spells it, fit for a line of a terminal."""
    text = one_line(json.dumps(value, ensure_ascii=False, default=str))
    return f"{text}{text[0]}" if text.endswith("…") and text[0] == '"' else text


def one_line(text: str, limit: int = 60) -> str:
    """Without anything that would act on a terminal, cut where it is long."""
    text = "".join(sign if sign.isprintable() else "?" for sign in text[: limit + 1])
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


class RepeatedKeyError(ValueError):
    """An object has a key twice; which of the two was meant can't be told."""


class UnreadableTextError(ValueError):
    """What was read is no text; says why."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise RepeatedKeyError(next(name for name in names if names.count(name) > 1))
    return content


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _integer(digits: str) -> int:
    if len(digits) > 100:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


JSON = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant, parse_int=_integer)
"""As strict as the standard: no key twice, no NaN."""

_SPACE = re.compile(r"[ \t\r\n]*")
_STEP = 1 << 16


class JSONWindow:
    """The part of a JSON text under the reader: pieces are added behind, what was read is dropped in front.

    The standard library decodes whole texts only; a million objects would be a million objects at once.
    """

    def __init__(self, pieces: Iterable[str]) -> None:
        self._pieces = iter(pieces)
        self._text = ""
        self._at = 0
        self._line_start = 0  # index in `_text`; negative when the line began before the window
        self.line: int = 1

    def peek(self) -> str:
        """The next character that is no space, where the reader then stands; empty at the end of the text."""
        while True:
            found = _SPACE.match(self._text, self._at)
            self._advance(found.end() if found else self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self) -> None:
        """Go over the character that `peek` gave."""
        self._advance(self._at + 1)

    def value(self) -> Any:
        """Go over the next JSON value. Raises `json.JSONDecodeError` (placed in the window) or `ValueError`."""
        self.peek()
        while True:
            try:
                value, end = JSON.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                # Broken, or not all there yet; told apart by reading on.
                if len(self._text) - self._at > MAX_LINE or not self._more():
                    raise
                continue
            # A number at the very end may have further digits.
            if end == len(self._text) and self._more():
                continue
            self._advance(end)
            return value

    def fail(self, message: str) -> NoReturn:
        raise json.JSONDecodeError(message, self._text, self._at)

    def place(self, position: int) -> tuple[int, int]:
        """Line and column, from 1, of an index in the window."""
        line = self.line + self._text.count("\n", self._at, position)
        start = self._text.rfind("\n", self._at, position) + 1 if line > self.line else self._line_start
        return line, position - start + 1

    def _advance(self, end: int) -> None:
        newlines = self._text.count("\n", self._at, end)
        if newlines:
            self.line += newlines
            self._line_start = self._text.rfind("\n", self._at, end) + 1
        self._at = end

    def _more(self) -> bool:
        added: list[str] = []
        size = 0
        for piece in self._pieces:
            # MAX_LINE bounds an object here, not a line: an array may stand on one line.
            reason = unreadable(piece[-(MAX_LINE - 1) :] if len(piece) >= MAX_LINE else piece)
            if reason:
                self._advance(len(self._text))
                self.line += sum(text.count("\n") for text in added)
                raise UnreadableTextError(reason)
            added.append(piece)
            size += len(piece)
            if size >= _STEP:
                break
        if not added:
            return False
        self._text = self._text[self._at :] + "".join(added)
        self._line_start -= self._at
        self._at = 0
        return True


def numbered(pieces: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, from 1; what is longer than a line may be comes cut, see `unreadable`."""
    number, whole = 1, True
    for piece in pieces:
        if whole:
            yield number, piece
        whole = piece.endswith(("\n", "\r"))
        number += whole
