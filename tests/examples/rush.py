"""A rush on one of the example applications: many clients at once, callbacks lost and doubled, a restart in the middle.

The emulator calls the application back over https. Each client sends its request until it is taken, reads the events
until its video is there, and fetches it; what breaks off is taken up again, as browsers do.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import ssl
import statistics
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Self

import aiohttp
import trustme
from attrs import define, field

from tests.helpers.postgres import free_port
from wanasync.emulator import Emulator, Trouble

__all__ = ["APPLICATIONS", "Application", "Client", "Rush", "rush", "stage", "stream_together"]

APPLICATIONS = ("fastapi", "aiohttp")
SERVE = Path(__file__).with_name("serve.py")
SECRET = "a secret of sixteen bytes and more"
BROKEN = (aiohttp.ClientError, TimeoutError, OSError)


@define(eq=False)
class Application:
    """The process of an application, and how its loop fared."""

    name: str
    emulator: Emulator
    videos: Path
    certificate: Path
    port: int = field(factory=free_port)
    late: list[tuple[float, Sequence[float]]] = field(factory=list)
    _process: asyncio.subprocess.Process | None = None
    _reading: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    async def start(self) -> Self:
        settings = {
            "WAN_API_KEY": self.emulator.api_key,
            "WAN_BASE_URL": self.emulator.base_url,
            "PUBLIC_URL": self.url,
            "CALLBACK_SECRET": SECRET,
            "VIDEOS": str(self.videos),
        }
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, str(SERVE), self.name, str(self.port), str(self.certificate),
            stdout=asyncio.subprocess.PIPE, env={**os.environ, **settings}, limit=2**20,
        )  # fmt: skip
        self._reading = asyncio.create_task(self._read())
        return self

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            told = json.loads(line)
            self.late.append((told["at"], told["late"]))

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and wait for the end; the exit code."""
        assert self._process is not None
        assert self._reading is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        code = await self._process.wait()
        await self._reading
        return code

    def lag(self, since: float, quantile: int = 99) -> float:
        """Seconds by which a timer was late at most in so many of a hundred times, since then."""
        late = [each for at, sample in self.late if at >= since for each in sample]
        return statistics.quantiles(late, n=100)[quantile - 1]


@define(eq=False)
class Client:
    """One user, who does not give up."""

    http: aiohttp.ClientSession
    url: str
    number: int
    broken: Counter[str] = field(factory=Counter)
    path: str = ""
    """Of the video, once it is there."""

    async def video(self) -> tuple[str, str]:
        """The state its job ended in, and the video's sha256 in hexadecimal as it arrived."""
        job = await self._again("start", self._start)
        last = ""
        while job["state"] not in ("saved", "failed", "rejected", "expired"):
            try:
                async for seen, news in self._events(job["id"], last):
                    last, job = seen, news
            except BROKEN:
                self.broken["events"] += 1
                await asyncio.sleep(0.2)
        self.path = job["video"]
        return job["state"], await self._again("video", lambda: self._fetch(self.path))

    async def _again(self, what: str, operation: Any) -> Any:
        while True:
            try:
                return await operation()
            except BROKEN:
                self.broken[what] += 1
                await asyncio.sleep(0.2)

    async def _start(self) -> Any:
        key = str(uuid.uuid5(uuid.NAMESPACE_URL, str(self.number)))
        wish = {"prompt": f"video number {self.number}"}
        async with self.http.post(f"{self.url}/jobs", json=wish, headers={"Idempotency-Key": key}) as reply:
            reply.raise_for_status()
            return await reply.json()

    async def _events(self, job_id: str, last: str) -> AsyncIterator[tuple[str, Any]]:
        headers = {"Last-Event-ID": last} if last else {}
        async with self.http.get(f"{self.url}/jobs/{job_id}/events", headers=headers) as reply:
            reply.raise_for_status()
            async for line in reply.content:
                name, _, value = line.decode().rstrip().partition(": ")
                if name == "id":
                    last = value
                if name == "data":
                    yield last, json.loads(value)

    async def _fetch(self, path: str) -> str:
        """In two ranges, as a player would."""
        body = b""
        for wanted in ("bytes=0-999", "bytes=1000-"):
            async with self.http.get(self.url + path, headers={"Range": wanted}) as reply:
                if reply.status != 206:
                    raise aiohttp.ClientPayloadError(f"{reply.status} instead of 206")
                body += await reply.read()
        return hashlib.sha256(body).hexdigest()


@define
class Rush:
    """What came of it. `problems` are sentences; none is what we want."""

    states: Counter[str]
    broken: Counter[str]
    callbacks: int
    polls: int
    lag: float
    problems: list[str]


@asynccontextmanager
async def stage(name: str, directory: Path, **options: Any) -> AsyncIterator[tuple[Application, aiohttp.ClientSession]]:
    """An application on an emulator that calls it back, and a client that trusts it; `options` are the emulator's."""
    authority = trustme.CA()
    certificate = directory / "certificate.pem"
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    calling_back: dict[str, Any] = {"local_callbacks": True, "callback_ssl": trusting}
    emulator = Emulator(durations=(1.0, 4.0), queue_time=0.5, **calling_back, **options)
    connector = aiohttp.TCPConnector(ssl=trusting, limit=0)
    async with emulator, aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(60)) as http:
        app = await Application(name, emulator, directory / "videos", certificate).start()
        try:
            yield app, http
        finally:
            await app.stop()


async def rush(
    name: str, directory: Path, *, jobs: int, clip_bytes: int = 20_000, restart: int = signal.SIGTERM
) -> Rush:
    """`jobs` clients at once; a third in, the application is ended by `restart` and started anew."""
    broken: Counter[str] = Counter()
    began = time.time()
    trouble = Trouble(lost_callbacks=0.05, duplicate_callbacks=0.2)
    async with stage(name, directory, clip_bytes=clip_bytes, trouble=trouble) as (app, http):
        clients = [Client(http, app.url, number, broken) for number in range(jobs)]
        waiting = [asyncio.create_task(client.video()) for client in clients]
        for first in islice(asyncio.as_completed(waiting), jobs // 3):
            await first
        await app.stop(restart)
        await app.start()
        got = await asyncio.gather(*waiting)
        ledger = app.emulator.ledger
        problems = list(_problems(app, [sha for _, sha in got]))
        states = Counter(state for state, _ in got)
        polls = ledger.counts["query"] + ledger.counts["batch"]
        return Rush(states, broken, ledger.counts["callback"], polls, app.lag(began), problems)


def _problems(app: Application, got: Sequence[str]) -> list[str]:
    entries = app.emulator.ledger.entries
    saved = sorted(app.videos.glob("*.mp4"))
    made = Counter(app.emulator.sha256(entry.task_id) for entry in entries)
    problems = [f"paid twice: {prompt}" for prompt in app.emulator.ledger.paid_twice()]
    if len(entries) != len(got):
        problems.append(f"{len(entries)} tasks for {len(got)} jobs")
    if len(saved) != len(got):
        problems.append(f"{len(saved)} files for {len(got)} jobs")
    if made != Counter(got):
        problems.append("what the clients got is not what was made")
    if app.emulator.ledger.key_leaks:
        problems.append("the key was sent to the video host")
    return problems


async def stream_together(app: Application, http: aiohttp.ClientSession, paths: Sequence[str], seconds: float) -> float:
    """Stream these videos at once, again and again; the 99th percentile of the loop's lag meanwhile, in seconds."""
    began = time.time()

    async def stream(path: str) -> None:
        while time.time() < began + seconds:
            async with http.get(app.url + path) as reply:
                async for _ in reply.content.iter_chunked(2**16):
                    pass

    await asyncio.gather(*map(stream, paths))
    return app.lag(began)
