"""What a run with a list would come to, from its directory's journal."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from attrs import evolve

from wanasync.edges.journal import CHUNK
from wanasync.edges.journal.contract import BatchJournal
from wanasync.engine.reading import Requests, as_planned, chunks
from wanasync.errors import RequestValidationError
from wanasync.models import Forecast
from wanasync.rules.budget import PRICES, Budget
from wanasync.rules.failures import may_try_again
from wanasync.rules.lifecycle import ItemState
from wanasync.rules.outcomes import Next, next_step
from wanasync.rules.records import ItemRecord, PlannedItem, item_key

__all__ = ["forecast"]


async def forecast(journal: BatchJournal, requests: Requests, *, on_unknown: str, retry_failed: int) -> Forecast:
    """Raises `JournalError`, and what the list raises. Entries that are no requests count as nothing."""
    budget = Budget()
    budget.recall_prices(await journal.get_meta(PRICES) or "")
    found = Forecast()
    async for item, record in _matched(journal, requests):
        step = _step(record, on_unknown, retry_failed)
        if step in (Next.SUBMIT, Next.RESUBMIT):
            found = _with_submission(found, budget.price(item.request))
        elif step in (Next.FOLLOW, Next.SAVE):
            found = evolve(found, under_way=found.under_way + 1)
        elif step is Next.LOOK_UP:
            found = evolve(found, unknown=found.unknown + 1)
        else:
            found = evolve(found, settled=found.settled + 1)
    return found


def _with_submission(found: Forecast, price: float | None) -> Forecast:
    return evolve(
        found,
        submissions=found.submissions + 1,
        credits=found.credits + (price or 0.0),
        unpriced=found.unpriced + (price is None),
    )


def _step(record: ItemRecord | None, on_unknown: str, retry_failed: int) -> Next:
    if record is None:
        return Next.SUBMIT
    if record.state is ItemState.FAILED and may_try_again(record.error_code, record.attempt, retry_failed):
        return Next.SUBMIT
    return next_step(record.state, on_unknown)


async def _matched(journal: BatchJournal, requests: Requests) -> AsyncIterator[tuple[PlannedItem, ItemRecord | None]]:
    """Each item of the list with its row, as planning would match them."""
    keys = _Keys()
    index = 0
    async for chunk in chunks(requests, CHUNK):
        keyed: list[tuple[PlannedItem, str]] = []
        for place, entry in enumerate(chunk, index):
            with contextlib.suppress(RequestValidationError):
                item = as_planned(place, entry)
                keyed.append((item, keys.of(item)))
        index += len(chunk)
        rows = await journal.find([key for _, key in keyed])
        for item, key in keyed:
            yield item, rows.get(key)


class _Keys:
    """The keys of a list's items: for each repetition of the same content another one."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._repeated: dict[str, int] = {}

    def of(self, item: PlannedItem) -> str:
        number = int(item.key, 16)
        if item.item_id is not None or number not in self._seen:
            self._seen.add(number)
            return item.key
        self._repeated[item.key] = self._repeated.get(item.key, 1) + 1
        return item_key(item.request, None, self._repeated[item.key])
