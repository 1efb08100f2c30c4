"""Where a command's words go: results to stdout, everything else to stderr.

All text is given to rich as `Text`, never as markup: prompts and server messages hold square brackets too.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from attrs import define, field
from rich.console import Console, RenderableType
from rich.text import Text

__all__ = ["Screen"]


class _LogLines(logging.Handler):
    """Warnings of the library on the screen, beside a live display rather than through it."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.say(record.getMessage(), "dim")


def _console() -> Console:
    return Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True)


@define
class Screen:
    """The terminal as one command sees it. `verbosity`: -1 quiet, 0 normal, 1 and up with a line for each item."""

    json: bool = False
    plain: bool = False
    verbosity: int = 0
    console: Console = field(factory=_console)

    @contextmanager
    def hearing_logs(self) -> Iterator[None]:
        """Show the library's log lines as long as the block lasts: warnings, with more verbosity more."""
        level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(max(self.verbosity, 0), 2)]
        logger, handler = logging.getLogger("wanasync"), _LogLines(self)
        before = logger.level
        logger.addHandler(handler)
        logger.setLevel(level)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before)

    @property
    def live(self) -> bool:
        """Whether a line may be drawn over and over: on a terminal that is not shared with JSON on stdout."""
        shared = self.json and sys.stdout.isatty()
        return (
            self.console.is_terminal and not self.console.is_dumb_terminal and not (self.plain or shared or self.quiet)
        )

    @property
    def quiet(self) -> bool:
        return self.verbosity < 0

    @property
    def ascii(self) -> bool:
        return self.console.options.ascii_only

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Show that something is done as long as the block lasts, where it can be shown."""
        if not self.live:
            yield
            return
        with self.console.status(Text(what, "dim")):
            yield

    def say(self, text: str | Text, style: str = "") -> None:
        """A line for a person, unless quiet was asked for."""
        if not self.quiet:
            self.console.print(Text(text, style) if isinstance(text, str) else text)

    def show(self, renderable: RenderableType) -> None:
        """A table or the like, for a person, unless quiet was asked for."""
        if not self.quiet:
            self.console.print(renderable, soft_wrap=False)

    def detail(self, text: str | Text, style: str = "") -> None:
        """A line for those who asked for more."""
        if self.verbosity > 0:
            self.say(text, style)

    def complain(self, text: str) -> None:
        """An error: also when quiet."""
        self.console.print(Text.assemble(("wanasync: ", "bold red"), text))

    def result(self, text: str) -> None:
        """A line of the command's result."""
        self._write(text)

    def print_result(self, renderable: RenderableType) -> None:
        """A table that is the command's result."""
        Console(markup=False, highlight=False, emoji=False).print(renderable)

    def record(self, content: Mapping[str, Any]) -> None:
        """An object of the command's result, as one line of JSON."""
        self._write(json.dumps(content, ensure_ascii=False, separators=(",", ":")))

    def _write(self, line: str) -> None:
        # Bytes, so that neither a C locale nor a half pair from a file name can stop a paid batch.
        sys.stdout.buffer.write(line.encode("utf-8", "backslashreplace") + b"\n")
        sys.stdout.buffer.flush()
