"""A download that is cut off again and again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

from tests.helpers.emulated import session_on
from wanasync.emulator import Emulator, Trouble
from wanasync.testing import START

__all__ = ["fetched_twice"]

LARGEST = 2 * 2**20


async def fetched_twice(cuts: int, directory: Path, rng: Random) -> float:
    """Bytes that were sent more than once, a cut, over a download that is cut at random places. In virtual time."""
    lengths = [rng.randrange(LARGEST) for _ in range(cuts)]
    trouble = Trouble.script(download=[f"cut={length}" for length in lengths])
    size = sum(lengths) + LARGEST
    async with (
        Emulator(epoch=START, durations=1.0, clip_bytes=size, trouble=trouble) as emu,
        session_on(emu, download_attempts=cuts + 1) as wan,
    ):
        video = await wan.generate("a cat", to=directory / "cat.mp4")
        assert video.sha256 == await asyncio.to_thread(emu.sha256, video.task_id)
        assert emu.ledger.downloads[video.task_id] == cuts + 1
        return (emu.ledger.bytes_served[video.task_id] - size) / cuts
