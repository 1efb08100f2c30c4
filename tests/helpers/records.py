"""What tests of journals plan, and what they hold the journals' own sums against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from wanasync.edges.journal.contract import BatchJournal
from wanasync.models import VideoRequest
from wanasync.rules.lifecycle import ItemState
from wanasync.rules.records import ItemRecord, PlannedItem, Totals


def items(prompts: Iterable[str]) -> list[PlannedItem]:
    return [PlannedItem(index, VideoRequest(prompt)) for index, prompt in enumerate(prompts)]


async def everything(journal: BatchJournal) -> list[ItemRecord]:
    return [record async for record in journal.iter_items()]


def tally_of(records: Iterable[ItemRecord]) -> tuple[dict[ItemState, int], Totals]:
    """Counts and totals worked out from the records themselves."""
    records = list(records)
    counts = Counter(record.state for record in records)
    totals = Totals(
        round(sum(record.credits_reserved or 0 for record in records), 6),
        round(sum(record.credits_used or 0 for record in records), 6),
        round(sum(record.committed for record in records), 6),
    )
    return {state: counts[state] for state in ItemState}, totals
