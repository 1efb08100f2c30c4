"""Batch after batch, each killed at random moments until its end, against a provider with troubles of its own."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from attrs import Factory, define

from tests.crash.harness import KILLED, Nursery, World
from wanasync.emulator import FixedWindow, Trouble

__all__ = ["Result", "marathon"]

ITEMS = 12
KILLS_A_BATCH = 25
TROUBLE = Trouble(
    lost_reply_submits=0.05,
    html_502_submits=0.03,
    throttled_submits=(0.05, 1),
    http_503_submits=0.03,
    cut_downloads=0.2,
    html_502_polls=0.05,
    no_length_downloads=0.1,
    failed_tasks=(0.05, "content_policy_violation"),
)


@define
class Result:
    """What came of it. `unknown` counts the items that held runs told as unknown, before any were replayed."""

    batches: int = 0
    kills: int = 0
    lives: int = 0
    items: int = 0
    unknown: int = 0
    told: Counter[str] = Factory(Counter)
    seconds: float = 0.0


async def marathon(
    nursery: Nursery, directory: Path, *, kills: int, rng: Random, report: Callable[[Result], None] = lambda _: None
) -> Result:
    """Kill at least so many times; raises AssertionError for the first thing that does not hold."""
    result, began = Result(), time.monotonic()
    while result.kills < kills:
        place = directory / f"batch-{result.batches}"
        place.mkdir()
        await _batch(nursery, place, rng, result, min(KILLS_A_BATCH, kills - result.kills))
        result.seconds = time.monotonic() - began
        report(result)
    return result


async def _batch(nursery: Nursery, place: Path, rng: Random, result: Result, kills: int) -> None:
    prompts = [f"cat {number}" for number in range(ITEMS)]
    # Slow enough, in tasks and bytes, that a batch sees many kills before it is through; and in limits and replies,
    # that many of them find submissions on the wire.
    options: dict[str, Any] = {
        "durations": (1.0, 20.0),
        "estimated_time": 5,
        "latency": 1.0,
        "limiter": FixedWindow(2, per=10),
    }
    options |= {"clip_bytes": 200_000, "bandwidth": 50_000.0, "trouble": TROUBLE, "seed": rng.randrange(2**32)}
    options["task_list"] = rng.random() < 0.5
    # Every other host ignores idempotency keys: there, whatever is sent once more is paid once more.
    replays = result.batches % 2 == 0
    async with World(nursery, place, prompts, idempotency=replays, **options) as world:
        for _ in range(kills):
            config = {"on_unknown": rng.choice(["hold", "replay"]) if replays else "hold"}
            if await world.run(after=rng.uniform(0.0, 0.4), config=config) != KILLED:
                break
            result.kills += 1
        world.emu.trouble = Trouble()
        await world.run()
        await world.check()
        result.unknown += world.states().count("unknown")
        if replays:
            await world.run(config={"on_unknown": "replay"})
            await world.check()
        assert set(world.states()) <= {"saved", "failed"} | (set() if replays else {"unknown"}), world.told
        result.told.update(world.states())
        result.batches += 1
        result.items += ITEMS
        result.lives += world.lives
        await asyncio.sleep(0)
