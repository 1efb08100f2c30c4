"""What a running batch writes down of its pace, for those who look on from outside."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from attrs import evolve

from wanasync.edges.journal.contract import BatchJournal
from wanasync.errors import JournalError
from wanasync.models import GateStatistics, PaceSample
from wanasync.rules.tally import Tally

__all__ = ["PaceLog", "pace_sample"]

EVERY = 2.0
"""Seconds between two samples …"""
AT_ONCE = 0.25
"""… and between those that can't wait: a pause has begun."""
THIN_EVERY = 100


def pace_sample(gate: GateStatistics, tally: Tally, following: int, at: float, began: float) -> PaceSample:
    """How a batch that `began` then stands `at` that time, both in unix seconds."""
    return PaceSample(
        at=at,
        run=began,
        accepted=gate.accepted,
        refused=gate.refused,
        unknown=tally.unknown,
        saved=tally.saved,
        following=following,
        saving=tally.saving,
        paused_until=at + gate.paused_for if gate.paused_for else None,
        why=gate.why,
        requests=gate.requests,
        per=gate.per,
        concurrent=gate.concurrent,
        credits_reserved=tally.credits_reserved,
        credits_used=tally.credits_used,
    )


class PaceLog:
    """Samples, taken as things happen: where nothing does, there is nothing to tell, and no timer to wake for it.

    `look(at, run)` gives the sample of now. A sample costs the journal's next commit a row; that it can't be written
    is told by whatever else can't.
    """

    def __init__(
        self, journal: BatchJournal, clock: Callable[[], float], look: Callable[[float, float], PaceSample]
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._look = look
        self._run = clock()
        self._before = look(self._run, self._run)
        self._last = -math.inf
        self._taken = 0

    def note(self, *, urgent: bool = False) -> None:
        """Something happened. Is told with the next sample, which may be now."""
        now = self._clock()
        # A clock that was set back makes no hole.
        if not 0 <= now - self._last < (AT_ONCE if urgent else EVERY):
            self.take(now)

    def take(self, now: float | None = None) -> None:
        """Take a sample in any case."""
        self._last = self._clock() if now is None else now
        self._taken += 1
        try:
            kept = self._journal.add_sample(self._sample(), thin=self._taken % THIN_EVERY == 0)
        except JournalError:
            return
        kept.add_done_callback(_forget)

    def _sample(self) -> PaceSample:
        """The gate counts for as long as its process has it, which may have run other batches before."""
        now, before = self._look(self._last, self._run), self._before
        return evolve(now, accepted=now.accepted - before.accepted, refused=now.refused - before.refused)


def _forget(kept: asyncio.Future[None]) -> None:
    if not kept.cancelled():
        kept.exception()
