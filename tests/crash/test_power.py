"""The power is cut: nothing that was relied on may be among what is gone.

A batch runs on a disk that knows what was synced (`tests.crash.disk`). After each step that changes what a power cut
would leave, what would be left is held against what the run has done by then; and from some of these moments a second
run goes on, on what was left.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import pytest
from attrs import define, field

from tests.crash.disk import SURVIVALS, Disk, restore
from tests.helpers.emulated import session_on
from tests.security.fuzz_journals import memory
from wanasync import APIConnectionError, BatchItem, OutcomeState, VideoRequest
from wanasync.edges import part
from wanasync.edges.journal import FOLDER
from wanasync.edges.journal.store import DATABASE, Store
from wanasync.edges.transport import StreamReply, Transport
from wanasync.emulator import Emulator
from wanasync.rules.calls import Call, CallKind
from wanasync.rules.lifecycle import ItemState
from wanasync.rules.records import ItemRecord
from wanasync.rules.replies import Reply
from wanasync.testing import START, run

CLIP = 900_000
"""Bytes of a video: more than a download gathers before it writes."""

BATCH = Path("new/folders/videos")
ITEMS = [BatchItem(VideoRequest(f"a {name}"), id=name, file=f"{name}/video.mp4") for name in ("cat", "dog", "hen")]
"""Each in a folder of its own, whose name must be safe too."""


@define(eq=False)
class Machine:
    """A batch on a disk, and what it has done that can't be undone: what was sent, by what it was sent for."""

    emu: Emulator
    folder: Path
    cut: str | None = None
    fault: str | None = None
    moments: Counter[str] = field(factory=Counter)
    problems: list[str] = field(factory=list)
    keys: set[str] = field(factory=set)
    tasks: set[str] = field(factory=set)
    links: set[str] = field(factory=set)
    left: dict[str, Mapping[str, bytes]] = field(factory=dict)
    off: asyncio.Event = field(factory=asyncio.Event)
    is_on: bool = True
    disk: Disk = field(init=False)
    _loop: asyncio.AbstractEventLoop = field(factory=asyncio.get_running_loop)

    def __attrs_post_init__(self) -> None:
        self.disk = Disk(self.folder, self.happened)

    def happened(self, what: str) -> None:
        self.moments[what] += 1
        name = f"{what} {self.moments[what]}"
        if name == self.fault:
            raise OSError(errno.EIO, "as though killed here")
        if self.cut is None:
            for survival in SURVIVALS:
                left = self.disk.left(survival)
                self.problems += [f"{name}, {survival}: {problem}" for problem in self.amiss(left)]
        elif name == self.cut:
            self.is_on = False
            self.left = {survival: self.disk.left(survival) for survival in SURVIVALS}
            self._loop.call_soon_threadsafe(self.off.set)

    def amiss(self, left: Mapping[str, bytes]) -> Iterator[str]:
        """What the run relied on, and would be gone."""
        records = records_in(left)
        intents = {record.idempotency_key for record in records if record.state is not ItemState.PLANNED}
        yield from (f"{key} was sent, and no intent is left" for key in self.keys - intents)
        yield from (f"{task} was asked for, and is not known" for task in self.tasks - {r.task_id for r in records})
        # The journal forgets the links of what is saved.
        known = {link for record in records for link in record.links}
        saved = [record.task_id or "" for record in records if record.state is ItemState.SAVED]
        wanted = {link for link in self.links if not any(task in link for task in saved)}
        yield from (f"{link} was fetched, and is not known" for link in wanted - known)
        for record in records:
            content = left.get(str(BATCH / record.file))
            if record.state is ItemState.SAVED and digest(content or b"") != record.sha256:
                yield f"{record.file} is said to be saved, and is not what was saved"
        for name, content in left.items():
            if is_video(name) and digest(content) not in self.made():
                yield f"{name} is no whole video"

    def made(self) -> set[str]:
        return {self.emu.sha256(entry.task_id) for entry in self.emu.ledger.entries}

    # What is watched.

    @contextlib.contextmanager
    def installed(self) -> Iterator[Self]:
        with pytest.MonkeyPatch.context() as patch:
            self.disk.install(patch)
            for name in ("run", "_open", "close"):
                patch.setattr(Store, name, self._committing(getattr(Store, name)))
            patch.setattr(part.Part, "writelines", self._writing(part.Part.writelines))
            patch.setattr(Transport, "send", self._sending(Transport.send))
            patch.setattr(Transport, "stream", self._streaming(Transport.stream))
            yield self
        self.disk.close()

    def _committing(self, operation: Any) -> Any:
        def watched(store: Store, *arguments: Any) -> Any:
            was_durable = is_durable(store)
            result = operation(store, *arguments)
            if not store.directory.is_relative_to(self.folder):
                return result
            if was_durable or is_durable(store):
                self._sync_journal(store.path)
            self.happened("commit")
            return result

        return watched

    def _sync_journal(self, database: Path) -> None:
        """The contents only: many a SQLite is built not to sync the names of its files."""
        for path in (database, database.with_name(f"{DATABASE}-wal")):
            if path.exists():
                self.disk.sync_file(path)

    def _writing(self, writelines: Any) -> Any:
        def watched(part: Any, lines: Any) -> None:
            writelines(part, lines)
            self.happened("written")

        return watched

    def _sending(self, send: Any) -> Any:
        async def watched(transport: Transport, call: Call) -> Reply:
            self._check_power()
            match call.kind:
                case CallKind.SUBMIT:
                    self.keys.add(dict(call.headers)["Idempotency-Key"])
                case CallKind.QUERY:
                    self.tasks.add(call.url.rpartition("/")[2])
                case CallKind.BATCH_QUERY:
                    self.tasks.update(json.loads(call.body or b"")["task_ids"])
            self.happened(str(call.kind))
            self._check_power()
            return await send(transport, call)  # type: ignore[no-any-return]

        return watched

    def _streaming(self, stream: Any) -> Any:
        @contextlib.asynccontextmanager
        async def watched(transport: Transport, link: str, headers: Mapping[str, str]) -> AsyncIterator[StreamReply]:
            self._check_power()
            self.links.add(link)
            self.happened("fetch")
            async with stream(transport, link, headers) as reply:
                self._check_power()
                yield reply

        return watched

    def _check_power(self) -> None:
        if not self.is_on:
            raise APIConnectionError("the power is off")


def is_durable(store: Store) -> bool:
    """Whether SQLite syncs each commit before it returns, which its documents promise for these settings."""
    if store._connection is None:
        return False
    ((mode,),) = store._db.execute("PRAGMA journal_mode").fetchall()
    ((level,),) = store._db.execute("PRAGMA synchronous").fetchall()
    return mode in ("wal", "delete", "truncate", "persist") and level >= 2


def records_in(left: Mapping[str, bytes]) -> list[ItemRecord]:
    """What the journal would say; nothing where there is none."""
    journal = {name: content for name, content in left.items() if FOLDER in Path(name).parts}
    if not any(content for name, content in journal.items() if name.endswith(DATABASE)):
        return []
    folder = Path(tempfile.mkdtemp(dir=memory()))
    try:
        restore(journal, folder)
        store = Store(folder / BATCH, read_only=False)
        store.open(START)
        try:
            (records,) = store.run([lambda: store.slice(None, 0)])
        finally:
            store.close()
        return list(records)
    finally:
        shutil.rmtree(folder)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def is_video(name: str) -> bool:
    return name.endswith(".mp4") and not Path(name).name.startswith(".")


@contextlib.asynccontextmanager
async def machine(folder: Path, cut: str | None = None) -> AsyncIterator[Machine]:
    folder.mkdir(exist_ok=True)
    async with Emulator(epoch=START, durations=20.0, clip_bytes=CLIP, task_list=False) as emu:
        yield Machine(emu, folder, cut)


async def batch_on(emu: Emulator, folder: Path) -> Counter[OutcomeState]:
    async with session_on(emu) as wan, wan.batch(ITEMS, folder / BATCH) as batch:
        return Counter([outcome.state async for outcome in batch])


async def until_the_cut(watched: Machine) -> None:
    running = asyncio.ensure_future(batch_on(watched.emu, watched.folder))
    waiting = asyncio.ensure_future(watched.off.wait())
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    for task in (running, waiting):
        task.cancel()
    await asyncio.wait({running, waiting})


def test_nothing_relies_on_what_is_not_synced(tmp_path: Path) -> None:
    async def whole_run() -> None:
        async with machine(tmp_path) as watched:
            with watched.installed():
                assert await batch_on(watched.emu, tmp_path) == {OutcomeState.SAVED: 3}
        assert watched.problems == []
        assert watched.moments["submit"] == watched.moments["fetch"] == watched.moments["synced .part"] == 3
        assert watched.moments["commit"] >= 12

    run(whole_run())


def test_a_video_that_an_earlier_run_left_is_made_safe_before_it_is_called_saved(tmp_path: Path) -> None:
    """That run was killed between the renaming and the syncing of the name."""

    async def two_lives() -> None:
        async with machine(tmp_path) as watched:
            watched.fault = "replace 1"
            with watched.installed():
                assert await batch_on(watched.emu, tmp_path) == {OutcomeState.SAVED: 2, OutcomeState.PENDING: 1}
                assert await batch_on(watched.emu, tmp_path) == {OutcomeState.SAVED: 3}
        assert watched.problems == []
        assert watched.moments["fetch"] == 3

    run(two_lives())


@pytest.mark.parametrize("survival", SURVIVALS)
@pytest.mark.parametrize(
    "cut",
    [
        "mkdir 3",
        "commit 1",
        "submit 1",
        "submit 3",
        "batch_query 1",
        "fetch 1",
        "written 1",
        "synced .part 1",
        "replace 1",
        "synced dog 1",
        "unlink 3",
        "commit 4",
        "commit 8",
        "commit 12",
    ],
)
def test_a_run_goes_on_after_a_power_cut(cut: str, survival: str, tmp_path: Path) -> None:
    """At the end each item is saved once and paid once, or was lost with its reply and is told."""

    async def two_lives() -> None:
        async with machine(tmp_path / "before", cut) as watched:
            emu = watched.emu
            with watched.installed():
                await until_the_cut(watched)
            assert watched.left, f"the run never came to {cut}: {watched.moments}"
            restore(watched.left[survival], tmp_path / "after")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(part, "_boot", lambda: "another")
                told = await batch_on(emu, tmp_path / "after")
            assert told.total() == 3
            assert set(told) <= {OutcomeState.SAVED, OutcomeState.UNKNOWN}
            assert emu.ledger.paid_twice() == {}
            assert len(emu.ledger.entries) <= 3
            # What was sent before the cut and had no recorded reply.
            assert told[OutcomeState.UNKNOWN] <= (3 if cut.startswith("submit") else 0)
            for path in (tmp_path / "after" / BATCH).rglob("[!.]*.mp4"):
                assert digest(path.read_bytes()) in watched.made()

    run(two_lives())
