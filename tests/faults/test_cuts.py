"""Downloads that are cut off: what has come is not fetched again. `python -m benchmarks.save` tries a hundred cuts."""

from __future__ import annotations

from pathlib import Path
from random import Random

from tests.helpers.cuts import fetched_twice
from wanasync.testing import virtual_time


@virtual_time
async def test_a_cut_costs_less_than_a_megabyte(tmp_path: Path) -> None:
    assert await fetched_twice(8, tmp_path, Random(1)) <= 2**20
