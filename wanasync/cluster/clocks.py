"""How long something took, though the process may have been frozen, or its machine asleep, meanwhile."""

from __future__ import annotations

import time

__all__ = ["clocks", "seconds_since"]


def clocks() -> tuple[float, ...]:
    """What every clock says that only goes on. One of them may stand still while the machine sleeps."""
    asleep = (time.clock_gettime(time.CLOCK_BOOTTIME),) if hasattr(time, "CLOCK_BOOTTIME") else ()
    return time.monotonic(), *asleep


def seconds_since(begun: tuple[float, ...]) -> float:
    """The longest time that any clock tells."""
    return max(now - then for now, then in zip(clocks(), begun, strict=True))
