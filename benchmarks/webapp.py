"""A rush on the example web applications: `python -m benchmarks.webapp`.

500 clients at once on each, of whose callbacks 5 % are lost and 20 % doubled, with a restart in the middle; then eight
videos are streamed at once, again and again. Asked is that each video is made once and arrives once; told is by how
much the loop's timers were late.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.examples.rush import APPLICATIONS, Client, rush, stage, stream_together

STREAMED = 8
MEGABYTES = 8
SECONDS = 10.0


def main() -> int:
    arguments = _arguments()
    problems = [problem for name in arguments.names for problem in asyncio.run(_measure(name, arguments.jobs))]
    return 1 if problems else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *APPLICATIONS], metavar="NAME", help=", ".join(APPLICATIONS))
    parser.add_argument("--jobs", type=int, default=500)
    arguments = parser.parse_args()
    arguments.names = arguments.names or APPLICATIONS
    return arguments


async def _measure(name: str, jobs: int) -> list[str]:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        came = await rush(name, Path(directory), jobs=jobs)
    seconds = time.monotonic() - began
    print(f"{name}: {dict(came.states)} of {jobs} in {seconds:.0f} s, {came.callbacks} callbacks, {came.polls} polls")
    print(f"  broken off and taken up again: {dict(came.broken)}; timers late by {1000 * came.lag:.0f} ms (p99)")
    with tempfile.TemporaryDirectory() as directory:
        lag = await _lag_while_streaming(name, Path(directory))
    print(f"  while {STREAMED} videos of {MEGABYTES} MB stream: {1000 * lag:.0f} ms (p99)", flush=True)
    for problem in came.problems:
        print(f"  PROBLEM: {problem}")
    return came.problems


async def _lag_while_streaming(name: str, directory: Path) -> float:
    async with stage(name, directory, clip_bytes=MEGABYTES * 1_000_000) as (app, http):
        clients = [Client(http, app.url, number) for number in range(STREAMED)]
        await asyncio.gather(*(client.video() for client in clients))
        return await stream_together(app, http, [client.path for client in clients], SECONDS)


if __name__ == "__main__":
    sys.exit(main())
