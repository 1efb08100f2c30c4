"""Which samples of a batch's pace are kept: many of the last minutes, fewer the older they are."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["DETAIL", "MOST", "superfluous"]

DETAIL = 200.0
"""Samples lie no closer than their age by this: 3 s after ten minutes, 18 s after an hour, 7 min after a day."""
MOST = 4000
"""However clocks were set: no more are kept."""


def superfluous(samples: Sequence[tuple[float, float]], now: float) -> list[float]:
    """Those to be dropped of `samples`, which are (at, run) in the order of `at`; unix seconds.

    Each run is thinned by itself, since several may go on at once. The last of each stays: it has the run's sums.
    """
    dropped: list[float] = []
    last = {run: at for at, run in samples}
    kept: dict[float, float] = {}
    latest = float("-inf")
    for at, run in samples:
        if at - kept.get(run, latest) < (now - at) / DETAIL and at != last[run]:
            dropped.append(at)
        else:
            latest = kept[run] = at
    gone = set(dropped)
    left = [at for at, _ in samples if at not in gone]
    return dropped + left[: max(len(left) - MOST, 0)]
