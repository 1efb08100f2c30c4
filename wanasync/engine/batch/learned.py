"""What was learned of the provider's limits and prices, kept in the journal for the next run."""

from __future__ import annotations

from wanasync.engine.batch.run import Run
from wanasync.engine.gate import AnyGate
from wanasync.rules.budget import BLIND, PRICES
from wanasync.rules.pacing import PaceRecord

__all__ = ["Learned"]

PACE = "pace"


class Learned:
    """Knows what is kept, so that only what has changed is written."""

    def __init__(self, run: Run, gate: AnyGate) -> None:
        self._run = run
        self._gate = gate
        self._kept: dict[str, str] = {}

    async def recall(self) -> None:
        for name in (PACE, PRICES, BLIND):
            self._kept[name] = await self._run.journal.get_meta(name) or ""
        pace = PaceRecord.from_json(self._kept[PACE])
        if pace is not None:
            self._gate.teach(pace)
        self._run.budget.recall_prices(self._kept[PRICES])
        self._run.budget.blind = bool(self._kept[BLIND])

    async def keep_pace(self) -> None:
        await self._keep(PACE, self._gate.learned().to_json())

    async def keep_prices(self) -> None:
        budget = self._run.budget
        await self._keep(PRICES, budget.prices_json())
        await self._keep(BLIND, "yes" if budget.blind else "")

    async def _keep(self, name: str, text: str) -> None:
        if self._kept.get(name) != text:
            self._kept[name] = text
            await self._run.journal.set_meta(name, text)
