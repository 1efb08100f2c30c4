"""Saving videos, beside `curl --parallel` followed by `openssl dgst -sha256`: `python -m benchmarks.save`.

A server in its own process hands out one 8 MB file under many names; both sides write each name to a directory of
their own and know each file's sha256 at the end. Rounds alternate, figures are medians. The final fsync is left out
on our side, as curl makes none, and its cost is shown by itself. (Not `sha256sum`: where it is built without OpenSSL
it is four times slower than what Python's hashlib uses, which would flatter us.)
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import resource
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from unittest.mock import patch

from attrs import frozen

from benchmarks.results import Figure, Report, at_least, at_most, figure
from wanasync.config import Config
from wanasync.edges.transport import Transport
from wanasync.engine.saver import Saver
from wanasync.models import TaskSnapshot, TaskStatus

MEGABYTE = 1_000_000


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
    directory: Path | None = None,
    quick: bool = False,
) -> Report:
    if quick:
        parallel, files, megabytes, rounds = (4,), 4, 1, 1
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(dir=directory) as folder, _server(Path(folder), megabytes) as port:
        for count in parallel:
            links = [f"http://127.0.0.1:{port}/{number}.mp4" for number in range(files)]
            measures = _take_turns(Path(folder), links, count, rounds)
            figures += _compare(f"{count} parallel", measures, files * megabytes, count)
    return Report("save", f"Saving {files} files of {megabytes:g} MB, beside curl and openssl", figures, quick=quick)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parallel", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--files", type=int, default=32)
    parser.add_argument("--megabytes", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=7)
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


def _compare(case: str, rounds: dict[str, list[Measure]], megabytes: float, parallel: int) -> Iterator[Figure]:
    curl = rounds["curl"]
    for name, measures in rounds.items():
        yield figure(case, name, "MB/s", [megabytes / measure.seconds for measure in measures])
        if name == "curl":
            continue
        faster = [theirs.seconds / ours.seconds for theirs, ours in zip(curl, measures, strict=True)]
        dearer = [ours.cpu / theirs.cpu for theirs, ours in zip(curl, measures, strict=True)]
        is_like = name == "wanasync"
        yield figure(case, name, "throughput ÷ curl", faster, THROUGHPUT.get(parallel) if is_like else None)
        yield figure(case, name, "CPU ÷ curl", dearer, CPU.get(parallel) if is_like else None)


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


# --- the server ----------------------------------------------------------------------------------------------------


@contextmanager
def _server(directory: Path, megabytes: float) -> Iterator[int]:
    video = directory / "video.mp4"
    video.write_bytes(_film(int(megabytes * MEGABYTE)))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(video, theirs), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def _film(size: int) -> bytes:
    """The outer structure of an MP4, around noise."""
    boxes = [(b"ftyp", b"isom\0\0\0\0isom"), (b"moov", bytes(1000))]
    head = b"".join(struct.pack(">I4s", 8 + len(body), kind) + body for kind, body in boxes)
    return head + struct.pack(">I4s", size - len(head), b"mdat") + os.urandom(size - len(head) - 8)


def _serve(video: Path, announce: Connection) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    announce.send(listener.getsockname()[1])
    while True:
        client, _ = listener.accept()
        threading.Thread(target=_answer, args=(client, video), daemon=True).start()


def _answer(client: socket.socket, video: Path) -> None:
    size = video.stat().st_size
    head = f'HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nETag: "one"\r\nContent-Length: {size}\r\n\r\n'.encode()
    with client, video.open("rb") as file:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        while _request(client):
            client.sendall(head)
            file.seek(0)
            client.sendfile(file)


def _request(client: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        try:
            more = client.recv(65536)
        except ConnectionError:
            return b""
        if not more:
            return b""
        received += more
    return received


if __name__ == "__main__":
    main()
