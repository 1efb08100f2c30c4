"""Where a command's words go: results to stdout, everything else to stderr.

All text is given to rich as `Text`, never as markup: prompts and server messages hold square brackets too.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from attrs import define, field
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from wanasync.config import unknown_variables

__all__ = ["Screen", "screen_for"]


class _LogLines(logging.Handler):
    """Warnings of the library on the screen, beside a live display rather than through it."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.say(record.getMessage(), "dim")


# C0 (but for the line's end), DEL and C1, which terminals act on; and what turns the direction of the text around it.
_ACTING = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class _SafeConsole(Console):
    """A console on which text is only text. Prompts, ids, journals and server messages may be a stranger's, and rich
    lets escapes pass; here is the one place where all of them come by."""

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False) -> None:
        super().__init__(stderr=stderr, soft_wrap=soft_wrap, markup=False, highlight=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=_ACTING.sub("", segment.text))


def _console() -> Console:
    return _SafeConsole(stderr=True, soft_wrap=True)


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
    def detailed(self) -> bool:
        return self.verbosity > 0

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
        if self.detailed:
            self.say(text, style)

    def complain(self, text: str) -> None:
        """An error: also when quiet."""
        self.console.print(Text.assemble(("wanasync: ", "bold red"), text))

    def result(self, text: str) -> None:
        """A line of the command's result."""
        self._write(text)

    def print_result(self, renderable: RenderableType) -> None:
        """A table that is the command's result."""
        _SafeConsole().print(renderable)

    def record(self, content: Mapping[str, Any]) -> None:
        """An object of the command's result, as one line of JSON."""
        line = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        # JSON escapes what terminals act on, but not all of it.
        self._write(_ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", line))

    def _write(self, line: str) -> None:
        # Bytes, so that neither a C locale nor a half pair from a file name can stop a paid batch.
        sys.stdout.buffer.write(line.encode("utf-8", "backslashreplace") + b"\n")
        sys.stdout.buffer.flush()


def screen_for(*, json: bool = False, plain: bool = False, quiet: bool = False, verbose: int = 0) -> Screen:
    """The screen as a command's flags want it. It begins with the variables that do nothing: who set them meant to."""
    screen = Screen(json=json, plain=plain, verbosity=-1 if quiet else verbose)
    for name, meant in unknown_variables(os.environ).items():
        hint = f": did you mean {meant}?" if meant else ""
        screen.say(f"{name} is set, but there is no such setting{hint}", "yellow")
    return screen
