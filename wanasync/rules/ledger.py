"""The money of a batch that several processes work on: one account for all of them.

It is kept beside the items and changed in the same transaction, so that no process needs to know of the others: a
submission that could pass the cap is refused its claim. While a refusal may still make room, it is one for now; else
it stops the batch for all, until its owner raises the cap.

What a submission may cost is learned as in `rules.budget`: what is on the wire, or of unknown outcome, is held at the
largest reservation seen of its kind; a kind never seen is sent alone.
"""

from __future__ import annotations

import json
import math
from collections import Counter

from attrs import Factory, define, evolve, frozen

from wanasync.errors import BudgetExceededError, JournalError
from wanasync.rules.budget import Budget, Kind, kind_of
from wanasync.rules.lifecycle import ItemState
from wanasync.rules.records import ItemRecord

__all__ = ["BUDGET", "LIMIT", "HeldBackError", "Ledger", "Terms"]

BUDGET, LIMIT = "budget", "limit"
"""Why a ledger stops its batch."""

_HELD = frozenset({ItemState.UNKNOWN, ItemState.RESUBMITTING})
"""May be paid for already."""
_TURNED_AWAY = frozenset({ItemState.PLANNED, ItemState.REJECTED})


@define(eq=False, slots=False)
class HeldBackError(JournalError):
    """A submission that the ledger has no room for: nothing was claimed.

    `stopped` is why nothing more is submitted until the terms are raised; None where there may be room in a moment.
    """

    stopped: str | None = None
    reason: BudgetExceededError | None = None


@frozen
class Terms:
    """What may be spent on a batch: `budget` in credits, `limit` in submissions; `stopped` once one is reached."""

    budget: float | None = None
    limit: int | None = None
    stopped: str | None = None


@define
class Ledger:
    """The account of one batch. `most` is the number of submissions (see `sent`) at which the limit is reached."""

    terms: Terms = Terms()
    most: int | None = None
    spent: float = 0.0
    sent: int = 0
    """Submissions that are, or may be, paid, since there is a ledger."""
    blind: bool = False
    """A task was made whose cost nobody knows: no cap can be kept."""
    _prices: dict[Kind, float] = Factory(dict)
    _posted: Counter[Kind] = Factory(Counter)
    _lost: Counter[Kind] = Factory(Counter)

    def allow(self, budget: float | None, limit: int | None) -> None:
        """New terms. None leaves the budget as it is, and infinity lifts it; the limit counts from now on."""
        cap = self.terms.budget if budget is None else budget
        self.terms = Terms(None if cap == math.inf else cap, limit)
        self.most = None if limit is None else self.sent + limit

    def recall_prices(self, text: str) -> None:
        """Take over what the journal keeps of prices (see `Budget.prices_json`)."""
        known = Budget()
        known.recall_prices(text)
        self._prices.update(known.prices)

    def add(self, record: ItemRecord) -> None:
        """An item as it stands, for an account that is begun late."""
        self._put(record, 1)

    def move(self, before: ItemRecord, after: ItemRecord) -> None:
        """An item takes a step. Raises `HeldBackError` where that is a submission which there is no room for."""
        if after.state is ItemState.SUBMITTING and before.state is not ItemState.SUBMITTING:
            self._admit(after)
            self.sent += 1
        elif after.state in _TURNED_AWAY and before.state in (ItemState.SUBMITTING, ItemState.UNKNOWN):
            self.sent -= 1
        self._put(before, -1)
        self._learn(before, after)
        self._put(after, 1)

    def _put(self, record: ItemRecord, sign: int) -> None:
        if record.state is ItemState.SUBMITTING:
            self._posted[kind_of(record.request)] += sign
        elif record.state in _HELD:
            self._lost[kind_of(record.request)] += sign
        elif record.state not in (*_TURNED_AWAY, ItemState.FAILED):
            self.spent += sign * self._cost(record)

    def _cost(self, record: ItemRecord) -> float:
        known = record.credits_reserved if record.credits_used is None else record.credits_used
        return self._prices.get(kind_of(record.request), 0.0) if known is None else known

    def _learn(self, before: ItemRecord, after: ItemRecord) -> None:
        if after.state is not ItemState.ACCEPTED or before.state not in (ItemState.SUBMITTING, *_HELD):
            return
        kind = kind_of(after.request)
        if after.credits_reserved is not None:
            self._prices[kind] = max(after.credits_reserved, self._prices.get(kind, 0.0))
        elif kind not in self._prices:
            self.blind = True

    # Whether a submission may go out

    def _admit(self, record: ItemRecord) -> None:
        price = self._prices.get(kind_of(record.request))
        if self.terms.stopped is not None:
            self._hold_back(self.terms.stopped, price)
        if self.most is not None and self.sent >= self.most:
            self._hold_back(None if self._posted.total() else LIMIT)
        if self.terms.budget is not None:
            self._admit_cost(price, self.terms.budget)

    def _admit_cost(self, price: float | None, cap: float) -> None:
        settled, is_alone = self.spent + self._sum(self._lost), not self._posted.total()
        is_unpriced = any(count and kind not in self._prices for kind, count in self._lost.items())
        if self.blind or settled + (price or 0.0) > cap or (price is None and settled >= cap):
            self._hold_back(BUDGET, price)
        if not is_alone and (price is None or is_unpriced or settled + self._sum(self._posted) + price > cap):
            self._hold_back(None)
        if is_unpriced:
            # It may cost anything, and no reply is to come that tells.
            self._hold_back(BUDGET)

    def _sum(self, held: Counter[Kind]) -> float:
        return sum(count * self._prices.get(kind, 0.0) for kind, count in held.items())

    def _hold_back(self, stopped: str | None, price: float | None = None) -> None:
        self.terms = evolve(self.terms, stopped=stopped)
        committed = self.spent + self._sum(self._lost)
        reason = BudgetExceededError(self.terms.budget or 0.0, committed, price or 0.0) if stopped == BUDGET else None
        words = f"held back by the batch's {stopped}" if stopped else "held back until others are answered"
        raise HeldBackError(words, None, stopped, reason)

    # How it is kept

    def to_json(self) -> str:
        held = (self._prices, self._posted, self._lost)
        lists = [[[*kind, value] for kind, value in table.items() if value] for table in held]
        return json.dumps([round(self.spent, 6), self.sent, self.most, self.blind, *lists])

    @classmethod
    def from_json(cls, terms: Terms, text: str) -> Ledger:
        """What `to_json` has made. Raises `ValueError` for anything else."""
        try:
            spent, sent, most, blind, *lists = json.loads(text)
            tables = [{(model, quality, duration): v for model, quality, duration, v in table} for table in lists]
            prices, posted, lost = tables
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"no ledger: {error}") from error
        return cls(terms, most, spent, sent, blind, prices, Counter(posted), Counter(lost))
