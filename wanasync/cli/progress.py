"""Progress of a batch on stderr: one block drawn over and over on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from attrs import Factory, define, field, frozen
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.text import Text

from wanasync import BatchProgress, GateStatistics, Statistics
from wanasync.cli import words
from wanasync.cli.screen import Screen

__all__ = ["Pace", "View", "progress_line", "showing"]

FRAME = 0.125
"""Seconds between two drawings of the block."""
LINE = 15.0
"""Seconds between two plain lines."""
PACE_OVER = 60.0
"""Seconds over which the pace is told."""


class Watched(Protocol):
    """What is looked at: a `Batch`."""

    def progress(self) -> BatchProgress: ...


@define
class Pace:
    """Videos saved a minute, over the last minute."""

    _seen: deque[tuple[float, int]] = field(factory=deque)

    def per_minute(self, now: float, saved: int) -> float | None:
        """None until there is something to tell."""
        self._seen.append((now, saved))
        while now - self._seen[0][0] > PACE_OVER:
            self._seen.popleft()
        since, before = self._seen[0]
        if saved == before or now - since < 2.0:
            return None
        return (saved - before) * 60.0 / (now - since)


@frozen
class View:
    """All that is shown of one moment. `pace` is videos a minute, `budget` credits."""

    batch: BatchProgress
    gate: GateStatistics = Factory(GateStatistics)
    pace: float | None = None
    budget: float | None = None

    @property
    def done(self) -> int:
        batch = self.batch
        return batch.saved + self.troubled + batch.not_started

    @property
    def troubled(self) -> int:
        batch = self.batch
        return batch.failed + batch.rejected + batch.unknown + batch.expired + batch.pending

    @property
    def making(self) -> int:
        return self.batch.following + self.batch.submitting

    @property
    def waiting(self) -> int:
        """Neither submitted nor settled; what has not been read from the list yet included."""
        if self.batch.total is None:
            return self.batch.planned
        return max(self.batch.total - self.done - self.making - self.batch.saving, 0)

    @property
    def saved_of_total(self) -> str:
        saved = words.number(self.batch.saved)
        return (
            f"{saved} of {words.number(self.batch.total)} saved" if self.batch.total is not None else f"{saved} saved"
        )

    @property
    def counts(self) -> list[tuple[str, str]]:
        """What else there is to count, with its style."""
        counts = [
            (self.making, "in the making", "blue"),
            (self.batch.saving, "being saved", "cyan"),
            (self.waiting, "waiting", ""),
            (self.troubled, "with problems", "red"),
            (self.batch.not_started, "not started", "dim"),
        ]
        return [(f"{words.number(value)} {word}", style) for value, word, style in counts if value]

    @property
    def gate_words(self) -> str | None:
        """Why nothing is being submitted right now, if so."""
        if self.batch.stopped:
            return f"no more submissions: {self.batch.stopped}"
        if not self.gate.paused_for or not self.waiting:
            return None
        why = f": {self.gate.why}" if self.gate.why else ""
        return f"submissions pause for {words.span(self.gate.paused_for)}{why}"

    @property
    def pace_words(self) -> str | None:
        return None if self.pace is None else f"{self.pace:.0f} a minute"

    @property
    def left_words(self) -> str | None:
        return None if self.batch.eta_seconds is None else f"about {words.span(_rounded(self.batch.eta_seconds))} left"

    @property
    def credit_words(self) -> str | None:
        batch = self.batch
        if not batch.credits_reserved and self.budget is None:
            return None
        said = f"{words.credits(batch.credits_reserved)} credits reserved, {words.credits(batch.credits_used)} used"
        return said if self.budget is None else f"{said}, budget {words.credits(self.budget)}"


def _rounded(seconds: float) -> float:
    """An estimate promises no more than it knows: to 5 s below two minutes, else to whole minutes."""
    return max(5.0, 5.0 * round(seconds / 5)) if seconds < 120 else 60.0 * round(seconds / 60)


def progress_line(view: View) -> str:
    """The moment as one plain line."""
    parts = [view.saved_of_total, *(text for text, _ in view.counts), view.pace_words, view.left_words]
    return ", ".join(part for part in parts if part)


@frozen
class Bar:
    """The whole list as one bar: what is saved, being saved, in the making, in trouble, still waiting."""

    view: View

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        view = self.view
        done, other = ("#", "-") if options.ascii_only else ("━", "─")
        parts = [
            (view.batch.saved, done, "green"),
            (view.troubled, done, "red"),
            (view.batch.saving, other, "cyan"),
            (view.making, other, "blue"),
            (view.waiting + view.batch.not_started, other, "bright_black"),
        ]
        bar = Text("  ")
        widths = shares([value for value, _, _ in parts], max(min(options.max_width - 4, 72), 10))
        for width, (_, sign, style) in zip(widths, parts, strict=True):
            bar.append(sign * width, style)
        yield bar


def shares(values: list[int], width: int) -> list[int]:
    """`width` split by `values`, whole; what is not nothing gets at least one where there is room."""
    total = sum(values)
    if total == 0:
        return [0] * (len(values) - 1) + [width]
    edges = [round(sum(values[: place + 1]) * width / total) for place in range(len(values))]
    widths = [edge - before for edge, before in zip(edges, [0, *edges], strict=False)]
    for place, value in enumerate(values):
        if value and not widths[place]:
            widest = widths.index(max(widths))
            if widths[widest] > 1:
                widths[widest] -= 1
                widths[place] += 1
    return widths


@frozen
class Block:
    """The moment as a few lines, as high as they were before, so that nothing jumps."""

    view: View

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        view = self.view
        counts = Text("  ")
        counts.append(view.saved_of_total, "bold green" if view.batch.saved else "bold")
        for text, style in view.counts:
            counts.append("   ").append(text, style)
        facts = [fact for fact in (view.pace_words, view.left_words, view.credit_words) if fact]
        sign = "" if options.ascii_only else "· "
        lines: list[Bar | Text] = [Bar(view), counts, Text("  " + f"   {sign}".join(facts), "dim")]
        if view.gate_words:
            lines.append(Text(f"  {view.gate_words}", "yellow"))
        for line in lines:
            if isinstance(line, Text):
                line.truncate(options.max_width, overflow="crop" if options.ascii_only else "ellipsis")
        yield Group(*lines)


@asynccontextmanager
async def showing(
    screen: Screen,
    batch: Watched,
    statistics: Callable[[], Statistics],
    budget: float | None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[None]:
    """Show the batch's progress as long as the block lasts."""
    pace = Pace()

    def view() -> View:
        now = statistics()
        return View(batch.progress(), now.gate, pace.per_minute(clock(), now.downloads.saved), budget)

    if screen.quiet:
        yield
        return
    drawing = _draw(screen, view) if screen.live else _write_lines(screen, view)
    task = asyncio.ensure_future(drawing)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()):
            raise error


async def _draw(screen: Screen, view: Callable[[], View]) -> None:
    # Drawn from the loop, not from rich's thread: the batch belongs to the loop.
    with Live(console=screen.console, auto_refresh=False, transient=True, redirect_stdout=False) as live:
        while True:
            live.update(Block(view()), refresh=True)
            await asyncio.sleep(FRAME)


async def _write_lines(screen: Screen, view: Callable[[], View]) -> None:
    """A line every so often where something has changed, and one at the beginning of each pause."""
    told, paused = "", False
    waited = 0.0
    while True:
        await asyncio.sleep(1.0)
        waited += 1.0
        now = view()
        if now.gate_words and not paused:
            screen.say(f"wanasync: {now.gate_words}")
        paused = bool(now.gate_words)
        line = progress_line(now)
        if waited >= LINE and line != told:
            screen.say(f"wanasync: {line}")
            told, waited = line, 0.0
