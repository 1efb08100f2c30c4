"""How late an event loop's timers come while it works."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["late_while", "p99"]


async def late_while(work: Coroutine[Any, Any, object], step: float = 0.002) -> list[float]:
    """Seconds by which each of a row of short sleeps was late, until `work` is done."""
    loop, late = asyncio.get_running_loop(), list[float]()
    working = asyncio.ensure_future(work)
    while not working.done():
        due = loop.time() + step
        await asyncio.sleep(step)
        late.append(loop.time() - due)
    await working
    return late


def p99(late: list[float]) -> float:
    return sorted(late)[int(len(late) * 0.99)]
