"""`wanasync status`: where a batch stands, from its journal alone, or how tasks do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from rich.text import Text

from wanasync import BatchStatus, ConfigError, Outcome, OutcomeState
from wanasync.cli import exits, words
from wanasync.cli.batches import BatchPlace, find_batch
from wanasync.cli.connection import Connection
from wanasync.cli.outcomes import SHOWN, outcome_object, problem_table
from wanasync.cli.screen import Screen
from wanasync.cli.table import write_table
from wanasync.cli.tasks import statuses

__all__ = ["PROBLEMS", "first_of", "status", "summary_of", "tell_batch"]

PROBLEMS = (OutcomeState.FAILED, OutcomeState.REJECTED, OutcomeState.UNKNOWN, OutcomeState.EXPIRED)

_COUNTS = (
    ("saved", "saved", "green"),
    ("following", "in the making", "blue"),
    ("submitting", "being submitted", "blue"),
    ("saving", "made, not saved yet", "cyan"),
    ("planned", "waiting", ""),
    ("failed", "failed", "red"),
    ("rejected", "rejected", "red"),
    ("unknown", "unknown: sent, but the reply was lost", "yellow"),
    ("expired", "expired: made, but the links died", "red"),
)


async def status(
    targets: Sequence[str],
    connection: Connection,
    screen: Screen,
    table: Path | None = None,
    database: str | None = None,
) -> int:
    """Tell of each batch and each task. 1 where something is wrong with one of them."""
    found = {target: await find_batch(target, database) for target in targets}
    batches = [batch for batch in found.values() if batch is not None]
    task_ids = [target for target, batch in found.items() if batch is None]
    for target in task_ids:
        if database is not None or Path(target).name != target:
            raise ConfigError(f"there is no {'batch' if database is not None else 'directory'} {target}")
    if table is not None and (task_ids or len(batches) != 1):
        raise ConfigError("--table is for the items of one batch: give its directory alone", "table")
    if task_ids and connection.config()[0].api_key is None:
        raise ConfigError(f"no directory {task_ids[0]}; to ask for a task of this id, set WAN_API_KEY", "api_key")
    codes = [await tell_batch(batch, screen, table) for batch in batches]
    if task_ids:
        codes.append(await statuses(task_ids, connection, screen))
    return max(codes)


async def tell_batch(batch: BatchPlace, screen: Screen, table: Path | None = None) -> int:
    """Tell where a batch stands. 1 where an item has no video and will get none by itself, 4 where it was stopped."""
    async with batch.history() as history:
        if table is not None:
            await write_table(history, table, screen)
        stands = await history.status()
        if screen.json:
            async for outcome in history.outcomes():
                screen.record(outcome_object(outcome))
        else:
            screen.print_result(summary_of(stands, batch.shared or str(stands.directory)))
            problems = await first_of(history.outcomes(PROBLEMS))
            if problems:
                screen.print_result(problem_table(problems))
    if any((stands.failed, stands.rejected, stands.unknown, stands.expired)):
        return exits.FAILED
    return exits.DONE if stands.stopped is None else exits.STOPPED


async def first_of(outcomes: AsyncIterator[Outcome], limit: int = SHOWN) -> list[Outcome]:
    found: list[Outcome] = []
    async for outcome in outcomes:
        found.append(outcome)
        if len(found) == limit:
            break
    return found


def summary_of(status: BatchStatus, name: str) -> Text:
    text = Text.assemble((name, "bold"), f"  {words.count(status.items, 'item')}")
    text.append(f", {status.running} is working on it" if status.running else "", "dim")
    for name, word, style in _COUNTS:
        value = getattr(status, name)
        if value:
            text.append(f"\n{words.number(value):>9}  ").append(word, style)
    if status.credits_reserved:
        reserved, used = words.credits(status.credits_reserved), words.credits(status.credits_used)
        text.append(f"\n           {reserved} credits reserved, {used} used", "dim")
    if status.stopped is not None:
        text.append(f"\n{_stop_words(status)}", "yellow")
    return text


def _stop_words(status: BatchStatus) -> str:
    if status.stopped == "budget":
        said = f"stopped before the budget of {words.credits(status.budget or 0)} credits could be passed"
        return f"{said}. To go on, hand it in again with a higher --budget"
    return f"stopped at the limit of {words.count(status.limit or 0, 'submission')}. To go on, hand it in again"
