"""`wanasync run`: a list becomes a directory of videos."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import field, frozen
from rich.text import Text

from wanasync import (
    AuthenticationError,
    BatchItem,
    BatchProgress,
    ConfigError,
    Destination,
    Forecast,
    JournalError,
    ListError,
    NameTemplate,
    OutcomeState,
    RequestList,
    RequestValidationError,
    VideoRequest,
    WanError,
)
from wanasync.cli import exits, words
from wanasync.cli.connection import Connection, connected
from wanasync.cli.gallery import RunGallery
from wanasync.cli.interrupts import Interrupts, run_interruptible
from wanasync.cli.outcomes import Results, outcome_line, outcome_object, request_object
from wanasync.cli.progress import View, showing
from wanasync.cli.screen import Screen
from wanasync.cli.table import check_table, write_table

if TYPE_CHECKING:
    from wanasync import Batch, WanSession

__all__ = ["RunJob", "checked_defaults", "run", "show_problems"]

BALANCE_PATIENCE = 5.0
"""Seconds that a run waits to be told the balance."""
FORECAST_AT_MOST = 20_000
"""Longer lists are not read once more before the run, only to warn of their cost."""
SAMPLES = 3
"""Requests that a dry run shows in full."""


@frozen
class RunJob:
    """What `run` was told. `command` is the command line to go on with, without the key."""

    source: str
    destination: Destination
    connection: Connection
    command: str = "wanasync run"
    format: str | None = None
    defaults: Mapping[str, Any] = field(factory=dict)
    budget: float | None = None
    limit: int | None = None
    retry_failed: int = 0
    gallery: bool = False
    open_gallery: bool = False
    name: NameTemplate | None = None
    table: Path | None = None

    @property
    def directory(self) -> Path:
        """Where the journal is; the videos too, unless they go to an object store."""
        return self.destination.directory


def checked_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """The request fields given as flags. Raises `ConfigError` for one that no line could be right with."""
    defaults = {name: value for name, value in given.items() if value is not None}
    try:
        VideoRequest("any", **defaults)
    except RequestValidationError as error:
        # What is wrong with a field that was not given is the lines' to mend.
        if error.field in defaults:
            raise ConfigError(_flag_words(error), error.field) from error
    return defaults


def _flag_words(error: RequestValidationError) -> str:
    allowed = f" ({', '.join(map(str, error.allowed))})" if error.allowed else ""
    return f"--{error.field.replace('_', '-')} {words.clipped(str(error.value), 40)} {error.reason}{allowed}"


def run(job: RunJob, screen: Screen, *, dry: bool = False) -> int:
    """Run the whole list, or with `dry` only say what would be sent. Returns the exit code; raises `WanError`."""
    if not dry:
        job.connection.usable_config()
        _check_directory(job.directory)
    if job.table is not None:
        check_table(job.table, job.source)
    if job.source == "-" and sys.stdin.isatty():
        screen.say(f"prompts, a line each; {'Ctrl-Z and Enter' if os.name == 'nt' else 'Ctrl-D'} ends the list:", "dim")
    with RequestList(job.source, format=job.format, defaults=job.defaults) as requests:
        try:
            with screen.busy(f"reading {requests.name}"):
                total = (None if dry else _known_items(job, requests)) or requests.check(
                    to=job.directory, name=job.name
                )
        except ListError as error:
            show_problems(error, screen)
            return exits.USAGE
        if dry:
            return _show_plan(job, requests, total, screen)
        return run_interruptible(lambda interrupts: _Run(job, screen, interrupts).run(requests, total))


def _check_directory(directory: Path) -> None:
    """A file that is in the way is told at once. Raises `ConfigError`."""
    there = next((place for place in (directory, *directory.parents) if os.path.exists(place)), None)
    if there is not None and not os.path.isdir(there):
        raise ConfigError(f"--to {directory}: {there} is a file, not a directory", "to")


def _known_items(job: RunJob, requests: RequestList) -> int | None:
    """How many items the list has, where an earlier run has checked this very list and been through all of it."""
    if not (job.directory / ".wanasync").is_dir():
        return None
    try:
        return asyncio.run(_known_to(job.directory, requests))
    except JournalError:
        return None  # the run will say what is wrong with it


async def _known_to(directory: Path, requests: RequestList) -> int | None:
    from wanasync import BatchHistory

    async with BatchHistory(directory) as history:
        return await history.knows(requests)


def show_problems(error: ListError, screen: Screen) -> None:
    screen.complain(f"{error}; nothing was sent")
    for problem in error.problems:
        screen.console.print(Text(f"  {problem}"))
    if error.count > len(error.problems):
        screen.console.print(Text(f"  … and {words.number(error.count - len(error.problems))} more"))


def _show_plan(job: RunJob, requests: RequestList, total: int, screen: Screen) -> int:
    kinds: Counter[str] = Counter()
    samples: list[BatchItem] = []
    for item in requests:
        kinds[_kind(item.request)] += 1
        if len(samples) < SAMPLES:
            samples.append(item)
        if screen.json:
            screen.record({"id": item.id, "file": item.file, **request_object(item.request)})
    screen.say(f"{words.count(total, 'request')} in {requests.name}, all fine; this is what would be sent:")
    for kind, value in kinds.most_common():
        screen.say(Text.assemble((f"  {words.number(value):>7}", "bold"), f"  {kind}"))
    for item in samples:
        screen.say(f"  e.g. {words.clipped(json.dumps(request_object(item.request), ensure_ascii=False), 160)}", "dim")
    expected = Forecast(submissions=total, unpriced=total)
    if (job.directory / ".wanasync").is_dir():
        expected = asyncio.run(_forecast(job, requests))
        screen.say(_known_words(job.directory, expected))
    screen.say(_cost_words(expected))
    screen.say("Nothing was sent.")
    return exits.DONE


async def _forecast(job: RunJob, requests: Iterable[BatchItem]) -> Forecast:
    from wanasync import BatchHistory

    config, _ = job.connection.config()
    async with BatchHistory(job.directory) as history:
        return await history.forecast(requests, on_unknown=config.on_unknown, retry_failed=job.retry_failed)


def _known_words(directory: Path, expected: Forecast) -> str:
    """What of the list an earlier run has begun or finished; it is not paid for again."""
    counts = (
        (expected.settled, "settled"),
        (expected.under_way, "under way"),
        (expected.unknown, "held as unknown"),
    )
    known = ", ".join(f"{words.number(count)} {word}" for count, word in counts if count) or "none of them begun"
    return f"{directory} holds a batch: of this list, {known}; {words.count(expected.submissions, 'submission')} left."


def _cost_words(expected: Forecast) -> str:
    if not expected.submissions:
        return "They cost nothing."
    if expected.unpriced == expected.submissions:
        return "What they cost is not known: the provider tells it with its first replies."
    rest = f", and {words.number(expected.unpriced)} of kinds not seen yet" if expected.unpriced else ""
    return f"Expected to reserve {words.credits(expected.credits)} credits, as such requests did before{rest}."


def _kind(request: VideoRequest) -> str:
    said = [request.quality or "default quality", f"{request.duration} s" if request.duration else "default duration"]
    return f"{request.model}, {', '.join(said)}"


def _left_behind(progress: BatchProgress) -> str:
    """What an interrupted run leaves to the next."""
    view = View(progress)
    paid, unsent = view.making + progress.saving, view.waiting + progress.not_started
    if not paid and not unsent:
        return "  all of it was finished"
    return f"  {words.number(paid)} go on at the provider, {words.number(unsent)} are not submitted"


async def _credits_left(wan: WanSession) -> float | None:
    """What the account holds, where that is limited and the host tells it soon; a run doesn't depend on it.

    Only a refused key is raised: the submissions would be refused too.
    """
    try:
        async with asyncio.timeout(BALANCE_PATIENCE):
            balance = await wan.credits()
    except AuthenticationError:
        raise
    except (WanError, TimeoutError):
        return None
    return None if balance.unlimited else balance.remaining


class _Run:
    """One run over a checked list."""

    def __init__(self, job: RunJob, screen: Screen, interrupts: Interrupts) -> None:
        self._job = job
        self._screen = screen
        self._interrupts = interrupts
        self._results = Results()
        self._progress: BatchProgress | None = None
        self._stop_error: WanError | None = None
        self._started = time.monotonic()
        self._gallery = RunGallery(job.directory, job.command, screen, job.open_gallery) if job.gallery else None

    async def run(self, requests: Iterable[BatchItem], total: int) -> int:
        failure = None
        try:
            await self._work(requests, total)
        except WanError as error:
            if self._progress is None:
                raise
            failure = error
        except asyncio.CancelledError:
            if not self._interrupts.asked:
                raise
        code = self._end(failure)
        if self._job.table is not None and self._progress is not None:
            await self._write_table(self._job.table)
        if self._gallery is not None:
            await self._gallery.end(self._interrupts)
        return code

    async def _write_table(self, path: Path) -> None:
        from wanasync import BatchHistory

        async with BatchHistory(self._job.directory) as history:
            await write_table(history, path, self._screen)

    async def _work(self, requests: Iterable[BatchItem], total: int) -> None:
        job = self._job
        async with connected(job.connection, self._screen) as wan:
            await self._greet(wan, requests, total)
            batch = wan.batch(
                requests,
                to=job.destination,
                name=job.name,
                budget=job.budget,
                limit=job.limit,
                total=total,
                retry_failed=job.retry_failed,
            )
            async with batch:
                self._interrupts.on_first = lambda: self._interrupted(batch)
                if self._gallery is not None:
                    await self._gallery.begin()
                try:
                    async with showing(self._screen, batch, wan.statistics, job.budget):
                        await self._take_outcomes(batch)
                finally:
                    # Before the batch is left, which stops it.
                    self._progress, self._stop_error = batch.progress(), batch.stop_error

    async def _take_outcomes(self, batch: Batch) -> None:
        async for outcome in batch:
            self._results.add(outcome)
            if self._screen.json:
                self._screen.record(outcome_object(outcome))
            if self._screen.detailed:
                self._screen.say(outcome_line(outcome))

    async def _greet(self, wan: WanSession, requests: Iterable[BatchItem], total: int) -> None:
        where = "on the emulator" if self._job.connection.emulator else f"at {wan.config.base_url}"
        left = await _credits_left(wan)
        name = "stdin" if self._job.source == "-" else self._job.source
        arrow = "->" if self._screen.ascii else "→"
        if left is not None:
            where += f", {words.credits(left)} credits left"
        self._screen.say(
            Text.assemble(
                ("wanasync  ", "bold"),
                f"{words.count(total, 'video')} of {name} {arrow} {self._job.destination}",
                (f"  {where}", "dim"),
            )
        )
        if left is not None:
            await self._warn_of_cost(left, requests, total)

    async def _warn_of_cost(self, left: float, requests: Iterable[BatchItem], total: int) -> None:
        if left <= 0:
            self._screen.say("the account has no credit left: submissions will be refused", "yellow")
        elif total <= FORECAST_AT_MOST and (self._job.directory / ".wanasync").is_dir():
            with contextlib.suppress(WanError):
                expected = await _forecast(self._job, requests)
                if expected.credits > left:
                    count = words.count(expected.submissions - expected.unpriced, "submission")
                    costs = f"{words.credits(expected.credits)} credits, and the account holds {words.credits(left)}"
                    self._screen.say(f"{count} to come, expected to reserve {costs}", "yellow")

    def _interrupted(self, batch: Batch) -> bool:
        if not self._job.connection.emulator:
            return True
        # Its tasks die with the emulator: the next run would look for them in vain.
        batch.stop("interrupted")
        self._screen.say("finishing what the emulator has begun; Ctrl-C again leaves at once", "yellow")
        return False

    def _end(self, failure: WanError | None) -> int:
        job, screen, progress = self._job, self._screen, self._progress
        if progress is not None:
            self._results.show(screen, job.destination, progress, time.monotonic() - self._started)
        if failure is not None:
            screen.complain(f"{failure}. To go on: {job.command}")
            return exits.FAILED
        if progress is not None and self._interrupts.asked:
            screen.say(_left_behind(progress), "dim")
        if self._interrupts.asked or progress is None:
            screen.complain(f"interrupted; nothing is lost. To go on: {job.command}")
            return exits.INTERRUPTED
        if progress.stopped is not None:
            screen.complain(self._stop_words(progress.stopped))
        elif self._results.counts[OutcomeState.PENDING]:
            screen.say(f"To go on: {job.command}")
        return exits.of_batch(progress, self._stop_error)

    def _stop_words(self, reason: str) -> str:
        job = self._job
        match reason:
            case "limit":
                said = f"stopped at the limit of {words.count(job.limit or 0, 'submission')}"
            case "budget":
                said = f"stopped before the budget of {words.credits(job.budget or 0)} credits could be passed"
                if self._stop_error:
                    said += f": {self._stop_error}"
                return f"{said}. To go on, raise --budget"
            case "no credit":
                said = f"stopped, the account has no credit left: {self._stop_error}"
            case "key refused":
                return f"the API key was refused: {self._stop_error}"
            case "nothing at this address":
                said = f"stopped: {self._stop_error}; {words.WRONG_ADDRESS}"
            case _:
                said = f"stopped: {self._stop_error or reason}"
        return f"{said}. To go on: {job.command}"
