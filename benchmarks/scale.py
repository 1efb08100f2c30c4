"""A long list: `python -m benchmarks.scale`; a million lines with `--items 1000000 --keep`.

`wanasync run` as a user calls it, interpreter and all, on a server that notes when submissions come in:

- start: the whole list is judged before its first line is submitted; memory is what it takes more than for one line.
- resume: all but the last 100 items are saved, as a journal and a million files tell. Until the first and the last of
  those are submitted, and until all outcomes are told (the server lets the last 100 tasks fail at once).
- size: the journal of that batch, prompts and all.

Making the finished batch takes most of the time: for a million lines some ten minutes, and 2 GB of disk.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from benchmarks.journal import size
from benchmarks.results import Figure, Report, Target, at_most, figure
from wanasync.edges.journal import CHUNK, Journal
from wanasync.edges.lists import RequestList
from wanasync.engine.reading import LIST, as_planned
from wanasync.rules.known_list import KnownList
from wanasync.rules.lifecycle import ItemEvent
from wanasync.rules.records import ItemRecord

LEFT = 100
USUAL, MILLION = 100_000, 1_000_000
PATIENCE = 900.0
"""Seconds after which a run is given up."""

WORDS = (
    "a slow camera moves over an old harbour at dawn while fishing boats leave and gulls circle above the quiet water "
    "neon rain glass tower forest river dancer robot piano storm street cat lantern snow market train desert whale "
    "close-up handheld cinematic golden hour wide shot macro drone watercolour"
)


def write_list(path: Path, count: int) -> Path:
    """Prompts of about 110 characters, each its own."""
    rng, words = random.Random(25), WORDS.split()
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{' '.join(rng.choices(words, k=17))} {number}\n" for number in range(count))
    return path


# The server


@define
class Provider:
    """Accepts every submission, and tells of every task that it failed."""

    port: int = 0
    submitted: list[float] = field(factory=list)
    came: threading.Condition = field(factory=threading.Condition)

    def post(self) -> dict[str, Any]:
        with self.came:
            self.submitted.append(time.perf_counter())
            self.came.notify_all()
            number = len(self.submitted)
        return _task(f"task-unified-{1_757_000_000 + number}-bench", "pending", task_info={"estimated_time": 1})

    def get(self, path: str) -> dict[str, Any]:
        error = {"code": "content_policy_violation", "message": "as all tasks of this server do"}
        return _task(path.rpartition("/")[2], "failed", error=error)

    def wait_for(self, count: int) -> bool:
        with self.came:
            return self.came.wait_for(lambda: len(self.submitted) >= count, PATIENCE)


def _task(task_id: str, status: str, **fields: Any) -> dict[str, Any]:
    return {"id": task_id, "created": int(time.time()), "model": "wan2.5-text-to-video", "status": status, **fields}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Runs that are measured only to their start are killed, and their connections cut."""


@contextlib.contextmanager
def serving() -> Iterator[Provider]:
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._reply(200, provider.post())

        def do_GET(self) -> None:
            is_task = "/tasks/" in self.path
            self._reply(200, provider.get(self.path)) if is_task else self._reply(404, {"error": {"message": "no"}})

        def _reply(self, status: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    provider.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# The runs


@frozen
class Moment:
    """What a run has taken until then: seconds, CPU seconds, and MB of memory at most. NaN where only Linux tells."""

    seconds: float
    cpu: float
    memory: float


@define
class Run:
    """A `wanasync run` under way."""

    process: subprocess.Popen[bytes]
    provider: Provider
    started: float

    def until_submitted(self, count: int) -> Moment:
        if not self.provider.wait_for(count):
            raise TimeoutError(f"{len(self.provider.submitted)} of {count} submissions came in {PATIENCE:.0f} s")
        return Moment(self.provider.submitted[count - 1] - self.started, self._cpu(), self._memory())

    def until_ended(self) -> Moment:
        last = Moment(0.0, 0.0, 0.0)
        while self.process.poll() is None:
            last = Moment(time.perf_counter() - self.started, self._cpu(), self._memory())
            if last.seconds > PATIENCE:
                raise TimeoutError(f"the run did not end in {PATIENCE:.0f} s")
            time.sleep(0.05)
        return last

    def _cpu(self) -> float:
        with contextlib.suppress(OSError, IndexError), open(f"/proc/{self.process.pid}/stat") as file:
            user, system = file.read().rpartition(")")[2].split()[11:13]
            return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
        return math.nan

    def _memory(self) -> float:
        with contextlib.suppress(OSError, StopIteration), open(f"/proc/{self.process.pid}/status") as file:
            return int(next(line for line in file if line.startswith("VmHWM")).split()[1]) / 1e3
        return math.nan


@contextlib.contextmanager
def running(source: Path, directory: Path) -> Iterator[Run]:
    with serving() as provider:
        environment = {
            **os.environ,
            "WAN_API_KEY": "sk-benchmark",
            "WAN_BASE_URL": f"http://127.0.0.1:{provider.port}",
        }
        command = [sys.executable, "-m", "wanasync", "run", str(source), "--to", str(directory), "--quiet"]
        started = time.perf_counter()
        process = subprocess.Popen(command, env=environment)
        try:
            yield Run(process, provider, started)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()


def until_first(source: Path, directory: Path) -> Moment:
    with running(source, directory) as run:
        return run.until_submitted(1)


async def finish_all_but(left: int, source: Path, directory: Path) -> int:
    """A batch of the list of which `left` items are not begun, the others saved. Returns how many items it has."""
    count = 0
    with RequestList(source) as requests:
        total = requests.check()
        mark = requests.fingerprint()
        async with await Journal.open(directory, now=time.time) as journal:
            entries = enumerate(requests)
            while chunk := [as_planned(index, item) for index, item in itertools.islice(entries, CHUNK)]:
                records = await journal.plan(chunk)
                done = records[: max(total - left - count, 0)]
                await asyncio.gather(*(save(journal, record) for record in done))
                for record in done:
                    (directory / record.file).touch()
                count += len(records)
            await journal.set_meta(LIST, KnownList(mark, count, is_whole=True).to_json())
    return count


async def save(journal: Journal, record: ItemRecord) -> None:
    """All that is written down of an item that went well, with fields as long as a provider's."""
    task_id = f"task-unified-{1_757_000_000 + record.seq}-7cvnl5zw"
    link = f"https://cdn.example/videos/{record.seq:032x}.mp4"
    sha256 = random.Random(record.seq).randbytes(32).hex()
    await journal.record(record.key, ItemEvent.SUBMIT)
    await journal.record(record.key, ItemEvent.ACCEPTED, task_id=task_id, credits_reserved=4.5, estimated_time=120)
    await journal.record(
        record.key, ItemEvent.LINKED, links=(link,), link_deadline=time.time() + 86400, credits_used=4.5
    )
    await journal.record(record.key, ItemEvent.SAVED, bytes=0, sha256=sha256)


def measure(*, items: int = USUAL, directory: str | None = None, quick: bool = False) -> Report:
    items = 1000 if quick else items
    with tempfile.TemporaryDirectory(dir=directory, prefix="wanasync-scale-") as name:
        figures = list(_figures(Path(name), items))
    notes = ["Memory above idle is above that of the same command with one line."]
    return Report("scale", f"A list of {items:,} lines", figures, notes, quick=quick)


def _figures(root: Path, items: int) -> Iterator[Figure]:
    case = f"{items:,} lines"
    source, one_line = write_list(root / "list.txt", items), write_list(root / "one.txt", 1)
    idle = until_first(one_line, root / "one")
    yield from _moment("one line", "start: to the first submission", idle)
    start = until_first(source, root / "start")
    yield from _moment(case, "start: to the first submission", start, idle, 15)
    started = time.perf_counter()
    assert asyncio.run(finish_all_but(LEFT, source, root / "resume")) == items
    journal = "journal: all planned, all but the last 100 saved"
    yield figure(case, journal, "s", [time.perf_counter() - started])
    yield figure(case, journal, "MB on disk", [size(root / "resume")], _aim(case, 150))
    with running(source, root / "resume") as run:
        yield from _moment(case, "resume: to the first submission", run.until_submitted(1), idle, 3)
        yield from _moment(case, "resume: to the last submission", run.until_submitted(LEFT), idle)
        yield from _moment(case, "resume: until all is told", run.until_ended(), idle)


def _moment(
    case: str, subject: str, moment: Moment, idle: Moment | None = None, seconds: float | None = None
) -> Iterator[Figure]:
    yield figure(case, subject, "s", [moment.seconds], _aim(case, seconds))
    yield figure(case, subject, "CPU s", [moment.cpu])
    if idle is not None:
        yield figure(case, subject, "MB of memory above idle", [moment.memory - idle.memory], _aim(case, 100))


def _aim(case: str, most: float | None) -> Target | None:
    """The targets are for a million lines."""
    return at_most(most) if most is not None and case == f"{MILLION:,} lines" else None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=USUAL, help="lines of the list")
    parser.add_argument("--directory", help="on the disk to be measured")
    parser.add_argument("--keep", action="store_true", help="write the figures to benchmarks/results/scale.json")
    given = vars(parser.parse_args(arguments))
    keep = given.pop("keep")
    report = measure(**given)
    print(report)
    if keep:
        print(f"written: {os.path.relpath(report.save())}")


if __name__ == "__main__":
    main()
