"""`wanasync cluster …`: what the commands do."""

from __future__ import annotations

import os
from pathlib import Path

from attrs import field, frozen

from wanasync import (
    ConfigError,
    Destination,
    ItemStatus,
    ListError,
    OutcomeState,
    PostgresJournal,
    RequestList,
    SharedLimit,
    SharedList,
)
from wanasync.cli import exits, words
from wanasync.cli.batches import BatchPlace
from wanasync.cli.connection import Connection, connected
from wanasync.cli.interrupts import Interrupts
from wanasync.cli.run import show_problems
from wanasync.cli.screen import Screen
from wanasync.cli.status import tell_batch

__all__ = ["Place", "Terms", "Work", "init", "resolve", "status", "submit", "work"]

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


@frozen
class Terms:
    """What all workers may spend on a batch: credits, and submissions from now on. None for what is not said."""

    budget: float | None = None
    limit: int | None = None


async def submit(place: Place, requests: RequestList, terms: Terms, to: str, screen: Screen) -> int:
    """Hand a list in. A bad line is told before anything is written."""
    from wanasync.cluster import ProcrastinateQueue, submit

    destination = Destination.of(to)
    where = _absolute(destination)
    batch = place.batch or where
    with requests:
        try:
            with screen.busy(f"reading {requests.name}"):
                requests.check(to=destination.directory)
        except ListError as error:
            show_problems(error, screen)
            return exits.USAGE
        with screen.busy("handing in"):
            async with ProcrastinateQueue(place.dsn, patience=place.patience) as queue:
                made = await submit(
                    requests, where, batch, queue, place.journal(batch), budget=terms.budget, limit=terms.limit
                )
    if screen.json:
        told = {"items": made.items, "added": made.added, "chunks": made.chunks, "released": made.released}
        screen.record({"batch": batch, **told})
    else:
        known = made.items - made.added
        known_words = f", {words.number(known)} of them known" if known else ""
        handed = f"{words.count(made.items, 'item')}{known_words}, {words.count(made.chunks, 'chunk')} handed in"
        go_on = f"; {words.count(made.released, 'chunk')} released" if made.released else ""
        screen.result(f"{batch}: {handed}{go_on}")
    return exits.DONE


def _absolute(destination: Destination) -> str:
    """As every machine understands it."""
    return destination.url or os.path.abspath(destination.directory)


@frozen
class Work:
    """What `worker` was told, beside the connection. Seconds, where it is a time."""

    only: str | None = None
    to: Path | None = None
    state: Path | None = None
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
            state=job.state,
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
    """1 where an item has no video and will get none by itself, 4 where its budget or limit has stopped it."""
    return await tell_batch(BatchPlace(None, place.journal()), screen)


async def resolve(
    place: Place, found: list[str], drop: list[int], connection: Connection, screen: Screen, *, to: str | None
) -> int:
    """Tell the unknown items, after settling those named; with `--on-unknown`, submit the others again."""
    from wanasync.cluster import ProcrastinateQueue
    from wanasync.cluster.submitting import hand_in

    if place.batch is None or not await place.journal().is_there():
        raise ConfigError(f"there is no batch {place.batch!r}", "batch")
    async with (
        SharedList(to or ".", journal=place.journal()) as items,
        ProcrastinateQueue(place.dsn, patience=place.patience) as queue,
    ):
        destination = Destination.of(to or await items.place() or "videos")
        settled = [await items.found(number, task) for number, task in map(_pair, found)]
        for number in drop:
            await items.drop(number)
        if connection.on_unknown in ("replay", "resubmit"):
            settled += await _send_again(place, items, destination, connection, screen)
        await hand_in([item.number for item in settled], _absolute(destination), place.batch, queue)
        left = [item async for item in items.unknown()]
    for item in left:
        _tell_unknown(item, screen)
    if not screen.json:
        screen.say(f"{words.number(len(settled))} settled, {words.number(len(left))} unknown")
    return exits.DONE if all(map(_is_dropped, left)) else exits.FAILED


async def _send_again(
    place: Place, items: SharedList, to: Destination, connection: Connection, screen: Screen
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
