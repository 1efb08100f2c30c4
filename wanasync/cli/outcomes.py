"""Outcomes as JSON objects, as lines and as the summary at a batch's end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from attrs import Factory, define
from rich.table import Table
from rich.text import Text

from wanasync import (
    BatchProgress,
    Destination,
    NotFoundError,
    Outcome,
    OutcomeState,
    SavedVideo,
    VideoRequest,
    WanError,
)
from wanasync.cli import words
from wanasync.cli.screen import Screen

__all__ = [
    "Results",
    "error_object",
    "outcome_line",
    "outcome_object",
    "problem_table",
    "request_object",
    "video_object",
]

SHOWN = 20
"""Problems that are listed one by one."""

STYLES = {
    OutcomeState.SAVED: "green",
    OutcomeState.FAILED: "red",
    OutcomeState.REJECTED: "red",
    OutcomeState.UNKNOWN: "yellow",
    OutcomeState.EXPIRED: "red",
    OutcomeState.PENDING: "yellow",
    OutcomeState.NOT_STARTED: "dim",
}

MEANINGS = {
    OutcomeState.FAILED: "the provider could not make them; not charged. --retry-failed tries its own faults again",
    OutcomeState.REJECTED: "refused when submitted; not charged",
    OutcomeState.UNKNOWN: "sent, but the reply was lost; they may be paid for and are not sent again, see --on-unknown",
    OutcomeState.EXPIRED: "made, but the links died before they were saved",
    OutcomeState.PENDING: "paid for and not saved yet; the next run goes on with them",
    OutcomeState.NOT_STARTED: "not submitted; the next run goes on with them",
}


def request_object(request: VideoRequest | None) -> dict[str, Any]:
    if request is None:
        return {}
    extra = {"extra": request.extra} if request.extra else {}
    return {**request.fields(), "model": request.model, **extra}


def error_object(error: WanError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    code = getattr(error, "code", None) or getattr(getattr(error, "failure", None), "code", None)
    return {"type": type(error).__name__, "code": code, "message": str(error)}


def outcome_object(outcome: Outcome) -> dict[str, Any]:
    """What `--json` prints for an item."""
    video = outcome.video
    return {
        "id": outcome.id,
        "state": outcome.state.value,
        "task_id": outcome.task_id,
        "path": str(video.path) if video and not video.url else None,
        "url": video.url if video else None,
        "bytes": video.bytes if video else None,
        "sha256": video.sha256 if video else None,
        "credits": outcome.credits,
        "error": error_object(outcome.error),
        "index": outcome.index,
        "resumed": outcome.resumed,
        **request_object(outcome.request),
    }


def video_object(video: SavedVideo) -> dict[str, Any]:
    """What `--json` prints for a video that belongs to no batch."""
    return {
        "id": video.task_id,
        "state": OutcomeState.SAVED.value,
        "task_id": video.task_id,
        "path": None if video.url else str(video.path),
        "url": video.url,
        "bytes": video.bytes,
        "sha256": video.sha256,
        "credits": video.credits,
        "error": None,
    }


def outcome_line(outcome: Outcome) -> Text:
    """An item in one line: what became of it, which it is, and the file or the reason."""
    state = f"{_words(outcome.state):<11} "
    if outcome.video:
        rest = f"{outcome.video.location}  {words.size(outcome.video.bytes)}"
    elif outcome.state is OutcomeState.NOT_STARTED:
        rest = outcome.id  # thousands may end alike; the reason is told once, at the end
    else:
        rest = f"{outcome.id}  {_reason(outcome)}"
    return Text.assemble((state, STYLES[outcome.state]), rest)


def _words(state: OutcomeState) -> str:
    return state.value.replace("_", " ")


def _reason(outcome: Outcome) -> str:
    return str(outcome.error) if outcome.error else MEANINGS.get(outcome.state, "")


def _notes(progress: BatchProgress) -> Iterator[str]:
    if progress.retried:
        yield f"  {words.count(progress.retried, 'failed task')} tried again"
    if progress.unlisted:
        yield f"  {words.count(progress.unlisted, 'item')} of earlier runs not in the list any more; their videos stay"


@define
class Results:
    """What is kept of a run's outcomes for the summary: sums, and the first problems."""

    bytes: int = 0
    earlier: int = 0
    counts: Counter[OutcomeState] = Factory(Counter)
    problems: list[Outcome] = Factory(list)

    def add(self, outcome: Outcome) -> None:
        self.counts[outcome.state] += 1
        if outcome.video:
            self.bytes += outcome.video.bytes
            self.earlier += outcome.resumed
        elif outcome.state is not OutcomeState.NOT_STARTED and len(self.problems) < SHOWN:
            self.problems.append(outcome)

    def show(self, screen: Screen, place: Destination, progress: BatchProgress, seconds: float) -> None:
        """The end of a run, for a person."""
        screen.say(self._videos(screen, place, progress, seconds))
        for line in self._others(screen):
            screen.say(line)
        for note in _notes(progress):
            screen.say(note, "dim")
        if self.problems:
            screen.show(problem_table(self.problems))
            unlisted = sum(self.counts.values()) - self.counts[OutcomeState.SAVED] - len(self.problems)
            unlisted -= self.counts[OutcomeState.NOT_STARTED]
            if unlisted > 0:
                screen.say(f"  and {words.number(unlisted)} more", "dim")
            if not self.counts[OutcomeState.SAVED] and all(map(_is_not_there, self.problems)):
                screen.say(f"  {words.WRONG_ADDRESS}", "yellow")

    def _videos(self, screen: Screen, place: Destination, progress: BatchProgress, seconds: float) -> Text:
        saved = self.counts[OutcomeState.SAVED]
        facts = [words.size(self.bytes)] if saved else []
        if progress.credits_used:
            facts.append(f"{words.credits(progress.credits_used)} credits")
        facts.append(words.span(seconds))
        if self.earlier:
            facts.append(f"{words.number(self.earlier)} from earlier runs")
        mark = ("* " if screen.ascii else "✓ ") if saved else "  "
        return Text.assemble(
            (mark, "bold green"),
            (words.count(saved, "video"), "bold green" if saved else "bold"),
            " in ",
            (str(place), "bold"),
            (f"  ({', '.join(facts)})", "dim"),
        )

    def _others(self, screen: Screen) -> Iterator[Text]:
        later = (OutcomeState.PENDING, OutcomeState.NOT_STARTED)
        for state, meaning in MEANINGS.items():
            if self.counts[state]:
                mark = ("· " if state in later else "✗ ") if not screen.ascii else "- "
                named = f"{mark}{words.number(self.counts[state])} {_words(state)}"
                yield Text.assemble((named, f"bold {STYLES[state]}"), (f"  {meaning}", "dim"))


def _is_not_there(outcome: Outcome) -> bool:
    return outcome.state is OutcomeState.REJECTED and isinstance(outcome.error, NotFoundError)


def problem_table(problems: Iterable[Outcome]) -> Table:
    """Items without a video, and why."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=36)
    table.add_column(overflow="fold")
    for outcome in problems:
        prompt = words.clipped(outcome.request.prompt, 36) if outcome.request else outcome.id
        table.add_row(Text(f"  {_words(outcome.state)}", STYLES[outcome.state]), Text(prompt), _reason(outcome))
    return table
