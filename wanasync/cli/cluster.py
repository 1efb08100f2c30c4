"""`wanasync cluster …`: what the commands do."""

from __future__ import annotations

import os
from pathlib import Path

from attrs import field, frozen

from wanasync import (
    BatchHistory,
    ConfigError,
    ItemStatus,
    ListError,
    OutcomeState,
    PostgresJournal,
    RequestList,
    SharedLimit,
    SharedList,
)
from wanasync.cli import exits, words
from wanasync.cli.connection import Connection, connected
from wanasync.cli.interrupts import Interrupts
from wanasync.cli.outcomes import outcome_object, problem_table
from wanasync.cli.run import show_problems
from wanasync.cli.screen import Screen
from wanasync.cli.status import PROBLEMS, first_of, summary_of

__all__ = ["Place", "Work", "init", "resolve", "status", "submit", "work"]

SUBMIT_PATIENCE = 60.0


@frozen
class Place:
    """Which database, and which batch in it. `patience` is how long one that is away is waited for, in seconds."""

    dsn: str = field(repr=False)
    batch: str | None = None
    patience: float = SUBMIT_PATIENCE

    @classmethod
    def of(cls, given: str | None, batch: str | None = None) -> Place:
        """Raises `ConfigError`."""
        dsn = given or os.environ.get("WAN_DATABASE_URL", "").strip()
        if not dsn:
            raise ConfigError("no database: set WAN_DATABASE_URL, or pass --database", "database")
        return cls(dsn, batch)

    def journal(self, batch: str | None = None) -> PostgresJournal:
        return PostgresJournal(self.dsn, batch or self.batch, patience=self.patience)

    def limit(self) -> SharedLimit:
        return SharedLimit(self.dsn, patience=self.patience)


async def init(place: Place, role: str | None, screen: Screen) -> int:
    from wanasync.cluster import set_up

    await set_up(place.dsn, role=role)
    screen.say("the tables are there, in the schemas wanasync and wanasync_queue")
    if role is None:
        screen.say("to grant a role what workers need, and no more: wanasync cluster init --role NAME", "dim")
    else:
        screen.say(f"the role {role} may use them, and may not change them or remove what was paid for")
    return exits.DONE


async def submit(place: Place, requests: RequestList, to: Path, screen: Screen) -> int:
    """Hand a list in. A bad line is told before anything is written."""
    from wanasync.cluster import ProcrastinateQueue, submit

    directory = os.path.abspath(to)  # noqa: ASYNC240 - asks the disk for nothing
    batch = place.batch or directory
    with requests:
        try:
            with screen.busy(f"reading {requests.name}"):
                requests.check(to=to)
        except ListError as error:
            show_problems(error, screen)
            return exits.USAGE
        with screen.busy("handing in"):
            async with ProcrastinateQueue(place.dsn, patience=place.patience) as queue:
                made = await submit(requests, directory, batch, queue, place.journal(batch))
    if screen.json:
        screen.record({"batch": batch, "items": made.items, "added": made.added, "chunks": made.chunks})
    else:
        known = made.items - made.added
        known_words = f", {words.number(known)} of them known" if known else ""
        handed = f"{words.count(made.items, 'item')}{known_words}, {words.count(made.chunks, 'chunk')} handed in"
        screen.result(f"{batch}: {handed}")
    return exits.DONE


@frozen
class Work:
    """What `worker` was told, beside the connection. Seconds, where it is a time."""

    only: str | None = None
    to: Path | None = None
    rescue_after: float = 30.0
    retry_failed: int = 0
    patience: float = 3600.0


async def work(place: Place, job: Work, connection: Connection, screen: Screen, interrupts: Interrupts) -> int:
    """Work off chunks until a signal comes; the second one leaves at once."""
    from wanasync.cluster import ProcrastinateQueue, Worker
    from wanasync.cluster.engine import SAVE, WORK

    lanes = {None: (WORK, SAVE), "save": (SAVE,), "submit": (WORK,)}
    if job.only not in lanes:
        raise ConfigError(f"--only must be submit or save, not {job.only!r}", "only")
    place = Place(place.dsn, patience=job.patience)
    queue = ProcrastinateQueue(place.dsn, rescue_after=job.rescue_after, patience=job.patience)
    async with connected(connection, screen, shared_limit=place.limit()) as wan, queue:
        worker = Worker(
            wan,
            queue,
            place.journal,
            until="made" if job.only == "submit" else "saved",
            lanes=lanes[job.only],
            to=job.to,
            beat_every=job.rescue_after / 3,
            retry_failed=job.retry_failed,
        )

        def drain() -> bool:
            screen.say("draining: what is on the wire is finished, the rest goes to other workers", "yellow")
            worker.drain()
            return False

        interrupts.on_first = drain
        screen.say(f"working off what is in {_where(place)} for {wan.config.base_url}")
        await worker.run()
        screen.say(f"drained; {words.count(worker.ended, 'chunk')} brought to an end here")
    return exits.DONE


def _where(place: Place) -> str:
    from wanasync.cluster.schema import label

    return label(place.dsn)


async def status(place: Place, screen: Screen) -> int:
    """1 where an item has no video and will get none by itself."""
    async with _history(place) as history:
        stands = await history.status()
        if screen.json:
            async for outcome in history.outcomes():
                screen.record(outcome_object(outcome))
        else:
            screen.print_result(summary_of(stands, place.batch or "the batch"))
            problems = await first_of(history.outcomes(PROBLEMS))
            if problems:
                screen.print_result(problem_table(problems))
    return exits.FAILED if any((stands.failed, stands.rejected, stands.unknown, stands.expired)) else exits.DONE


def _history(place: Place) -> BatchHistory:
    if place.batch is None:
        raise ConfigError("which batch? give its name, or the directory it was submitted with", "batch")
    return BatchHistory(place.batch, journal=place.journal())


async def resolve(
    place: Place, found: list[str], drop: list[int], connection: Connection, screen: Screen, *, to: Path
) -> int:
    """Tell the unknown items, after settling those named; with `--on-unknown`, submit the others again."""
    from wanasync.cluster import ProcrastinateQueue
    from wanasync.cluster.submitting import hand_in

    if place.batch is None:
        raise ConfigError("which batch? give its name, or the directory it was submitted with", "batch")
    directory = os.path.abspath(to)  # noqa: ASYNC240 - asks the disk for nothing
    async with (
        SharedList(to, journal=place.journal()) as items,
        ProcrastinateQueue(place.dsn, patience=place.patience) as queue,
    ):
        settled = [await items.found(number, task) for number, task in map(_pair, found)]
        for number in drop:
            await items.drop(number)
        if connection.on_unknown in ("replay", "resubmit"):
            settled += await _send_again(place, items, to, connection, screen)
        await hand_in([item.number for item in settled], directory, place.batch, queue)
        left = [item async for item in items.unknown()]
    for item in left:
        _tell_unknown(item, screen)
    if not screen.json:
        screen.say(f"{words.number(len(settled))} settled, {words.number(len(left))} unknown")
    return exits.DONE if all(map(_is_dropped, left)) else exits.FAILED


async def _send_again(
    place: Place, items: SharedList, to: Path, connection: Connection, screen: Screen
) -> list[ItemStatus]:
    """Submit what is unknown again, with its key; what is accepted is for the workers to follow."""
    unknown = [item async for item in items.unknown() if not _is_dropped(item)]
    async with (
        connected(connection, screen, shared_limit=place.limit()) as wan,
        wan.shared_batch(to, journal=place.journal(), until="accepted") as batch,
    ):
        settled = []
        for item in unknown:
            told = await batch.work_off(item.number, item.number)
            if not told[OutcomeState.UNKNOWN]:
                settled.append(item)
        return settled


def _pair(text: str) -> tuple[int, str]:
    number, _, task_id = text.partition("=")
    if not number.isascii() or not number.isdecimal() or not task_id:
        raise ConfigError(f"--found must be NUMBER=TASK, not {text!r}", "found")
    return int(number), task_id


def _is_dropped(item: ItemStatus) -> bool:
    return item.error_code == "dropped"


def _tell_unknown(item: ItemStatus, screen: Screen) -> None:
    if screen.json:
        told = {"number": item.number, "id": item.id, "error": item.error_message, "submitted_at": item.submitted_at}
        screen.record({**told, "dropped": _is_dropped(item)})
    else:
        prompt = words.clipped(item.request.prompt, 36) if item.request else item.id
        screen.result(f"{item.number:>9}  {prompt}  {item.error_message or ''}")
