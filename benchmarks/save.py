"""Saving videos, beside `curl --parallel` followed by `openssl dgst -sha256`: `python -m benchmarks.save`.

nginx, with a configuration of its own, hands out one 8 MB file under many names, over TLS too; both sides write each
name to a directory of their own and know each file's sha256 at the end. Rounds alternate, figures are medians. The
final fsync is left out on our side, as curl makes none, and its cost is shown by itself. (Not `sha256sum`: where it is
built without OpenSSL it is four times slower than what Python's hashlib uses, which would flatter us.) A process of its
own tells its memory and how late its loop comes; what is fetched twice after a cut is counted by the emulator.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import resource
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from unittest.mock import patch

from attrs import frozen

from benchmarks.file_server import MEGABYTE, file_server, nginx
from benchmarks.lag import late_while, p99
from benchmarks.results import Figure, Report, Target, at_least, at_most, figure
from tests.helpers.cuts import fetched_twice
from wanasync.config import Config
from wanasync.edges.transport import Transport
from wanasync.engine.saver import Saver
from wanasync.models import TaskSnapshot, TaskStatus
from wanasync.testing import run


@frozen
class Measure:
    """Seconds on the clock and on the processors, for one round; peak memory where it was taken."""

    seconds: float
    cpu: float


THROUGHPUT = {1: at_least(0.7), 8: at_least(1.1), 32: at_least(0.95)}
"""Targets for the throughput divided by curl's, by the number of parallel downloads."""
CPU = {8: at_most(1.35)}


def measure(
    *,
    parallel: Sequence[int] = (1, 8, 32),
    files: int = 32,
    megabytes: float = 8,
    rounds: int = 7,
    cuts: int = 100,
    directory: Path | None = None,
    quick: bool = False,
) -> Report:
    if quick:
        parallel, files, megabytes, rounds, cuts = (4,), 4, 1, 1, 5
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        here = Path(folder)
        if nginx() is None:
            print("skipped all that is measured beside curl: nginx is not installed")
        else:
            figures += _beside_curl(here, parallel, files, megabytes, rounds)
        figures += _cuts(here, cuts, min(rounds, 3))
    return Report(
        "save", f"Saving {files} files of {megabytes:g} MB from nginx, beside curl and openssl", figures, quick=quick
    )


def _beside_curl(here: Path, parallel: Sequence[int], files: int, megabytes: float, rounds: int) -> Iterator[Figure]:
    (here / "server").mkdir()
    with file_server(here / "server", int(megabytes * MEGABYTE)) as server:
        for count in parallel:
            measures = _take_turns(here, server.links(files), count, rounds)
            yield from _compare(f"{count} parallel", measures, files * megabytes, THROUGHPUT.get(count), CPU.get(count))
        count = 8 if 8 in parallel else parallel[0]
        yield from _behaviour(server.links(files), here, count, rounds)
        with _trusting(server.authority):
            measures = _take_turns(here, server.links(files, tls=True), count, rounds)
        yield from _compare(f"{count} parallel, TLS", measures, files * megabytes, at_least(0.85), None)


@contextmanager
def _trusting(authority: Path) -> Iterator[None]:
    """For curl, which reads it from the environment, and for aiohttp, which makes its context when it is imported."""
    context = ssl.create_default_context(cafile=str(authority))
    with (
        patch.dict(os.environ, {"CURL_CA_BUNDLE": str(authority)}),
        patch("aiohttp.connector._SSL_CONTEXT_VERIFIED", context),
    ):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parallel", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--files", type=int, default=32)
    parser.add_argument("--megabytes", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--directory", type=Path, default=None, help="where to write; a temporary directory by default")
    print(measure(**vars(parser.parse_args())))


def _take_turns(directory: Path, links: list[str], parallel: int, count: int) -> dict[str, list[Measure]]:
    contenders: dict[str, Callable[[Path], Measure]] = {
        "curl": lambda to: _curl(links, to, parallel),
        "wanasync": lambda to: _wanasync(links, to, parallel, sync=False),
        "wanasync with fsync": lambda to: _wanasync(links, to, parallel, sync=True),
    }
    rounds: dict[str, list[Measure]] = {name: [] for name in contenders}
    for number in range(count + 1):
        for name, contender in contenders.items():
            measure = _in_fresh(directory / "out", contender)
            if number:  # the first round warms the caches up
                rounds[name].append(measure)
    return rounds


def _compare(
    case: str, rounds: dict[str, list[Measure]], megabytes: float, throughput: Target | None, cpu: Target | None
) -> Iterator[Figure]:
    curl = rounds["curl"]
    for name, measures in rounds.items():
        yield figure(case, name, "MB/s", [megabytes / measure.seconds for measure in measures])
        if name == "curl":
            continue
        faster = [theirs.seconds / ours.seconds for theirs, ours in zip(curl, measures, strict=True)]
        dearer = [ours.cpu / theirs.cpu for theirs, ours in zip(curl, measures, strict=True)]
        is_like = name == "wanasync"
        yield figure(case, name, "throughput ÷ curl", faster, throughput if is_like else None)
        yield figure(case, name, "CPU ÷ curl", dearer, cpu if is_like else None)


def _in_fresh(directory: Path, contender: Callable[[Path], Measure]) -> Measure:
    directory.mkdir()
    try:
        return contender(directory)
    finally:
        shutil.rmtree(directory)
        os.sync()


def _curl(links: list[str], directory: Path, parallel: int) -> Measure:
    names = [str(directory / link.rpartition("/")[2]) for link in links]
    outputs = [part for link, name in zip(links, names, strict=True) for part in ("-o", name, link)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(["curl", "-sf", "--no-progress-meter", "-Z", "--parallel-max", str(parallel), *outputs], check=True)
    subprocess.run(["openssl", "dgst", "-sha256", *names], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Measure(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _wanasync(links: list[str], directory: Path, parallel: int, *, sync: bool) -> Measure:
    with patch("os.fsync", os.fsync if sync else os.fstat):
        start, cpu = time.perf_counter(), time.process_time()
        asyncio.run(_save_all(links, directory, parallel))
        return Measure(time.perf_counter() - start, time.process_time() - cpu)


async def _save_all(links: list[str], directory: Path, parallel: int) -> None:
    config = Config(api_key="none-is-needed", base_url="http://127.0.0.1", max_downloads=parallel)
    deadline = time.time() + 3600
    async with Transport(config) as transport:
        saver = Saver(transport, _never_renewed, config, clock=time.time)
        async with asyncio.TaskGroup() as group:
            for number, link in enumerate(links):
                snapshot = TaskSnapshot(f"task-{number}", TaskStatus.COMPLETED, links=(link,))
                group.create_task(saver.save(snapshot, directory / link.rpartition("/")[2], deadline=deadline))
        await saver.close()


async def _never_renewed(task_id: str) -> TaskSnapshot:
    raise AssertionError(f"the link of {task_id} died")


# --- what one process is like meanwhile ------------------------------------------------------------------------------


@frozen
class _Behaviour:
    """Bytes at the peak beyond the idle process; seconds by which the loop came late, at rest and while it saved."""

    memory: float
    at_rest: list[float]
    saving: list[float]


def _observe(links: list[str], directory: Path, parallel: int, answer: Connection) -> None:
    """In a process of its own."""
    answer.send(asyncio.run(_observed(links, directory, parallel)))


async def _observed(links: list[str], directory: Path, parallel: int) -> _Behaviour:
    await _save_all(links[:1], directory / "first", 1)  # what is loaded and made once for all
    at_rest = await late_while(asyncio.sleep(1.0))
    idle = _forget_peak()
    saving = await late_while(_save_all(links, directory / "all", parallel))
    return _Behaviour(_memory("VmHWM") - idle, at_rest, saving)


def _forget_peak() -> float:
    """Let the peak of our memory count from now; what we have."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(line: str) -> float:
    (found,) = (words for words in Path("/proc/self/status").read_text().splitlines() if words.startswith(line))
    return int(found.split()[1]) * 1024.0


def _in_a_process(links: list[str], directory: Path, parallel: int) -> _Behaviour:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    directory.mkdir()
    process = context.Process(target=_observe, args=(links, directory, parallel, theirs))
    process.start()
    try:
        observed: _Behaviour = ours.recv()
    finally:
        process.join()
        shutil.rmtree(directory)
    return observed


def _behaviour(links: list[str], directory: Path, parallel: int, rounds: int) -> Iterator[Figure]:
    observed = [_in_a_process(links, directory / "observed", parallel) for _ in range(rounds)]
    case = f"{parallel} parallel"
    memory = [each.memory / 2**20 for each in observed]
    yield figure(case, "wanasync", "MiB beyond the idle process", memory, at_most(4 + 1.5 * parallel))
    yield figure(case, "wanasync", "loop lag p99, ms", [p99(each.saving) * 1e3 for each in observed], at_most(20))
    yield figure("nothing to do", "wanasync", "loop lag p99, ms", [p99(each.at_rest) * 1e3 for each in observed])


def _cuts(directory: Path, cuts: int, rounds: int) -> Iterator[Figure]:
    twice = []
    for number in range(rounds):
        folder = directory / f"cuts-{number}"
        twice.append(run(fetched_twice(cuts, folder, Random(number))) / 2**20)
        shutil.rmtree(folder)
    yield figure(f"{cuts} cuts", "wanasync", "MiB fetched twice, a cut", twice, at_most(1))


if __name__ == "__main__":
    main()
