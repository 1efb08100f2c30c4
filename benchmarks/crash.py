"""Batches killed with SIGKILL at random moments, held against the provider's ledger: `python -m benchmarks.crash`.

Each batch of twelve items is run by one process after another, each killed after 0 to 0.4 s, against an emulator that
loses replies, refuses, fails and cuts. Then it is run to its end: each item must be saved once and paid once, or told
otherwise, and no video that stood under its name may have been fetched again. A second run with `on_unknown="replay"`
must then save what was unknown. The first thing that does not hold ends it with what is known of it.

The kills at each step of the journal are tests: `tests/crash/test_crash.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
from pathlib import Path

from tests.crash.harness import Nursery
from tests.crash.marathon import Result, marathon


def report(result: Result) -> None:
    told = ", ".join(f"{count} {state}" for state, count in sorted(result.told.items()))
    print(
        f"{result.kills} kills in {result.batches} batches, {result.lives} processes, {result.seconds:.0f} s: "
        f"{result.items} items, {result.unknown} of them unknown before replay; in the end {told}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="wanasync-crash-") as directory, Nursery() as nursery:
        result = asyncio.run(marathon(nursery, Path(directory), kills=options.kills, rng=rng, report=report))
    print(f"done: {result.kills} kills, nothing paid twice, nothing paid and not told, nothing fetched twice")


if __name__ == "__main__":
    main()
