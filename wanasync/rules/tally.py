"""The counts of one run of a batch, and when it should be through."""

from __future__ import annotations

from collections import Counter

from attrs import Factory, define

from wanasync.models import OutcomeState

__all__ = ["Tally"]

FEW = 5
"""Videos from which on their pace says something about the rest."""


@define
class Tally:
    """The counts of one run, and the credits of the whole batch.

    `total` is the list's length as the caller has told it; `is_read` says that the list was read to its end.
    """

    total: int | None = None
    is_read: bool = False
    taken: int = 0
    resumed: int = 0
    retried: int = 0
    listed: int = 0
    added: int = 0
    unlisted: int = 0
    posting: int = 0
    saving: int = 0
    accepted: int = 0
    unknown: int = 0
    credits_reserved: float = 0.0
    credits_used: float = 0.0
    first_accepted_at: float | None = None
    first_saved_at: float | None = None
    saved: int = 0
    told: Counter[OutcomeState] = Factory(Counter)

    @property
    def sent(self) -> int:
        """Submissions of this run that are, or may be, paid."""
        return self.accepted + self.posting + self.unknown

    @property
    def items(self) -> int | None:
        """How many outcomes there will be, where that can be known."""
        return self.taken if self.is_read else self.total

    @property
    def is_complete(self) -> bool:
        return self.is_read and self.told.total() == self.taken

    def note_accepted(self, credits_reserved: float | None, now: float) -> None:
        self.accepted += 1
        self.credits_reserved += credits_reserved or 0.0
        if self.first_accepted_at is None:
            self.first_accepted_at = now

    def note_saved(self, now: float) -> None:
        self.saved += 1
        if self.first_saved_at is None:
            self.first_saved_at = now

    def eta(self, now: float, *, duration: float | None, following: int, is_stopped: bool) -> float | None:
        """Seconds until the last video, by the pace since the first acceptance; `duration` is what a task takes."""
        if self.items is None or duration is None or self.first_accepted_at is None:
            return None
        under_way = following + self.saving
        to_submit = 0 if is_stopped else max(self.items - self.told.total() - under_way, 0)
        elapsed = max(now - self.first_accepted_at, 1.0)
        if to_submit + under_way == 0:
            return 0.0
        by_submitting = to_submit * elapsed / self.accepted + duration
        by_saving = (to_submit + under_way) * self._seconds_a_video(now)
        return max(by_submitting, by_saving)

    def _seconds_a_video(self, now: float) -> float:
        """Between two saved ones, since the first; 0 while there are too few to tell."""
        if self.first_saved_at is None or self.saved < FEW:
            return 0.0
        return (now - self.first_saved_at) / (self.saved - 1)
