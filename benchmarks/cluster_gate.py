"""One limit for many processes: `python -m benchmarks.cluster_gate`.

First in virtual time, up to 100 processes against limits that nobody told them: the rule itself, with a network and a
database that answers one at a time in between. Then on a PostgreSQL of the benchmark's own (Debian's package
`postgresql`): processes that run a batch each against the emulator, whose ledger tells what they made of its limit; and
gates alone, what a place costs there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator

from benchmarks.results import Figure, Report, at_least, at_most, figure
from tests.helpers.pacing_simulation import Bucket, Concurrent, FixedWindow, Scenario, SlidingWindow
from tests.helpers.postgres import running
from tests.helpers.shared_simulation import Cluster, measure_shared
from wanasync.emulator import Emulator, limiters
from wanasync.engine.shared_gate import SharedGate, SharedLimit
from wanasync.models import Limits

SCENARIOS = {
    "fixed 60 / 60 s": Scenario(lambda rng: FixedWindow(60, 60.0, phase=rng.uniform(0, 60)), hint="exact"),
    "sliding 60 / 60 s": Scenario(lambda _: SlidingWindow(60), hint="exact"),
    "bucket 1 / s, 10 at once": Scenario(lambda _: Bucket(1.0, 10), hint="exact"),
    "20 unfinished tasks": Scenario(lambda _: Concurrent(20), hint="exact"),
    "sliding 600 / 60 s": Scenario(lambda _: SlidingWindow(600), hint="exact", tasks=6000),
}
PROCESSES = (1, 2, 4, 10, 100)
TARGETED = {2, 4}
"""Of so many processes the targets speak."""


def simulated(seeds: int, *, quick: bool) -> Iterator[Figure]:
    for name, scenario in list(SCENARIOS.items())[: 1 if quick else None]:
        for processes in PROCESSES[: 2 if quick else None]:
            runs = [measure_shared(Cluster(scenario, processes), seed) for seed in range(seeds)]
            subject = f"wanasync, {processes} processes"
            use, refusals = (at_least(95), at_most(2)) if processes in TARGETED else (None, None)
            yield figure(name, subject, "% of the limit", [100 * run.utilisation for run in runs], use)
            yield figure(name, subject, "% refused", [100 * run.refused_share for run in runs], refusals)
            yield figure(name, subject, "questions a place", [run.questions / len(run.accepted_at) for run in runs])


LIMIT, PER = 60, 10.0


async def share(dsn: str, processes: int, tasks: int) -> tuple[float, float]:
    """Per cent of the emulator's limit that processes used from the first full window on, and that were refused."""
    async with Emulator(durations=0.3, limiter=limiters.SlidingWindow(LIMIT, PER)) as emu:
        with tempfile.TemporaryDirectory() as folder:
            told = [
                run_batch(dsn, emu.base_url, emu.api_key, f"{folder}/{number}", str(tasks // processes))
                for number in range(processes)
            ]
            assert all(states == {"saved": tasks // processes} for states in await asyncio.gather(*told))
        times = sorted(entry.created for entry in emu.ledger.entries)
        refused = emu.ledger.refused["submit"]
        assert emu.ledger.paid_twice() == {}
    used = (len(times) - LIMIT) / (times[-1] - times[0]) / (LIMIT / PER)
    return 100 * used, 100 * refused / (refused + len(times))


async def run_batch(*arguments: str) -> dict[str, int]:
    command = (sys.executable, "-m", "tests.postgres.sharer", *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    shown, _ = await process.communicate()
    states: dict[str, int] = json.loads(shown)["states"]
    return states


def shared(tasks: int) -> Iterator[Figure]:
    case = f"PostgreSQL, emulator: sliding {LIMIT} / {PER:.0f} s"
    with running() as server:
        for processes in sorted(TARGETED):
            used, refused = asyncio.run(share(server.new_database(), processes, tasks))
            subject = f"wanasync, {processes} processes"
            yield figure(case, subject, "% of the limit", [used], at_least(95))
            yield figure(case, subject, "% refused", [refused], at_most(2))


async def places(dsn: str, gates: int, waiters: int, seconds: float) -> tuple[float, float]:
    """Places a second and milliseconds of the client's CPU for each, nothing being sent in between."""
    granted = 0

    async def submit(gate: SharedGate, number: int) -> None:
        nonlocal granted
        while time.perf_counter() < end:
            gate.accepted(await gate.admit(), f"{number}-{granted}")
            granted += 1

    limit = SharedLimit(dsn)
    known = Limits(requests=1_000_000, per=1.0)
    opened = [
        await limit.open("https://provider.example", f"key {gates} {waiters}", limits=known) for _ in range(gates)
    ]
    try:
        began, cpu = time.perf_counter(), time.process_time()
        end = began + seconds
        await asyncio.gather(*(submit(gate, number) for gate in opened for number in range(waiters)))
        took, used = time.perf_counter() - began, time.process_time() - cpu
    finally:
        for gate in opened:
            await gate.close()
    return granted / took, 1000 * used / granted


def real(rounds: int, seconds: float) -> Iterator[Figure]:
    with running() as server:
        for gates, waiters in ((1, 1), (2, 1), (2, 200), (4, 200)):
            case = f"PostgreSQL, {gates} gates, {waiters} waiting in each"
            runs = [asyncio.run(places(server.new_database(), gates, waiters, seconds)) for _ in range(rounds)]
            yield figure(case, "wanasync", "places a second", [rate for rate, _ in runs])
            yield figure(case, "wanasync", "ms CPU a place", [cpu for _, cpu in runs])


def measure(*, quick: bool = False, seeds: int = 3) -> Report:
    figures = [
        *simulated(1 if quick else seeds, quick=quick),
        *shared(2 * LIMIT if quick else 12 * LIMIT),
        *real(1 if quick else 3, 0.3 if quick else 3.0),
    ]
    return Report("cluster_gate", "One limit for many processes", figures, quick=quick)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster_gate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each simulation")
    parser.add_argument("--quick", action="store_true", help="only show that it works")
    given = parser.parse_args()
    report = measure(quick=given.quick, seeds=given.seeds)
    print(report)
    if not given.quick:
        print(f"written: {report.save()}")


if __name__ == "__main__":
    main()
