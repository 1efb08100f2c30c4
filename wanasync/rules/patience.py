"""How long a batch waits for a task."""

from __future__ import annotations

__all__ = ["patience_left"]

LAST_LOOKS = 600.0
"""Seconds that each run gives a task, however long ago it was submitted: time for several looks."""


def patience_left(submitted_at: float | None, now: float, patience: float) -> float:
    """Seconds from `now` for which a task is waited for; `patience` counts from its submission.

    Never more than `patience`: a clock that was set back must not make anybody wait for ever.
    """
    left = (now if submitted_at is None else submitted_at) + patience - now
    return min(max(left, LAST_LOOKS), patience)
