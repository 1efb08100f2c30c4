"""A provider that remembers everything, and a batch whose process dies again and again.

async with World(nursery, tmp_path, prompts) as world:
    assert await world.run(kill="after accepted 1") == KILLED
    await world.run()
    await world.check()
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs

from tests.crash.child import SPEED, Order
from wanasync.edges.journal import FOLDER, Journal
from wanasync.emulator import Emulator
from wanasync.rules.lifecycle import ItemState
from wanasync.rules.records import ItemRecord

__all__ = ["KILLED", "Nursery", "World"]

KILLED = -signal.SIGKILL
EPOCH = 1_800_000_000.0
ROOT = Path(__file__).parents[2]


class Nursery:
    """Where children come from, one at a time. Bound to no loop, so that many tests can share one."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.crash.nursery"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            pass

    async def raise_child(self, order: Order) -> int:
        """The exit code of a child; negative where a signal ended it."""
        return await asyncio.to_thread(self._ask, order.to_json())

    def _ask(self, order: str) -> int:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise AssertionError("the nursery has died")
        return int(answer)


class World:
    """One batch and its provider, over the lives of many processes.

    After each life it looks at what stands in the directory; `check` then holds the whole story against the
    provider's ledger.
    """

    def __init__(self, home: Nursery, directory: Path, prompts: Sequence[str], **emulator: Any) -> None:
        options: dict[str, Any] = {
            "durations": 1.0,
            "queue_time": 0.1,
            "speed": SPEED,
            "epoch": EPOCH,
            "task_list": False,
        }
        self.directory = directory / "videos"
        self.prompts = list(prompts)
        self.emu = Emulator(**options | emulator)
        self.told: dict[str, dict[str, Any]] = {}
        self.lives = 0
        self._nursery = home
        self._report = directory / "told.jsonl"
        self._finished: dict[str, tuple[str, int]] = {}

    async def __aenter__(self) -> Self:
        await self.emu.__aenter__()
        self._epoch = self.emu.clock.now() - time.time() * SPEED
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.emu.__aexit__(kind, error, trace)

    def order(self, **options: Any) -> Order:
        base = Order(
            base_url=self.emu.base_url,
            api_key=self.emu.api_key,
            epoch=self._epoch,
            directory=str(self.directory),
            told=str(self._report),
            prompts=self.prompts,
        )
        return attrs.evolve(base, **options)

    async def run(self, kill: str | None = None, after: float | None = None, **options: Any) -> int:
        """One life: a run to its end, or to its death. Returns the exit code, `KILLED` where it was killed."""
        code = await self._nursery.raise_child(self.order(kill=kill, after=after, **options))
        self.lives += 1
        self._look_at_files()
        if code not in (KILLED, 0, 1):
            raise AssertionError(f"the child ended with {code}; it was to be killed at {kill or after}")
        if code != KILLED:
            self._read_report()
        return code

    def _read_report(self) -> None:
        told = [json.loads(line) for line in self._report.read_text().splitlines()]
        self.told = {outcome["prompt"]: outcome for outcome in told}
        assert len(told) == len(self.told), f"told twice: {Counter(outcome['prompt'] for outcome in told)}"

    def _look_at_files(self) -> None:
        """Each video under its final name, with how often it had been asked for by then."""
        for path in self.directory.glob("*.mp4"):
            if path.name not in self._finished:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                task_id = self._tasks_by_digest().get(digest)
                assert task_id is not None, f"{path.name} is no video of the provider's"
                self._finished[path.name] = task_id, self.emu.ledger.downloads[task_id]

    def _tasks_by_digest(self) -> dict[str, str]:
        return {self.emu.sha256(entry.task_id): entry.task_id for entry in self.emu.ledger.entries}

    def forget(self, path: Path) -> None:
        """A saved file is taken away on purpose."""
        path.unlink()
        del self._finished[path.name]

    def states(self) -> list[str]:
        """What the last run that ended told of each item."""
        return [self.told[prompt]["state"] for prompt in self.prompts]

    def saved_files(self) -> list[Path]:
        return sorted(self.directory.glob("*.mp4"))

    # What must hold.

    async def check(self, *, tasks_per_item: int = 1) -> None:
        """After a run that came to its end: each item saved once and paid once, or told otherwise."""
        self._look_at_files()
        records = await self._records()
        assert set(self.told) == set(self.prompts)
        by_prompt = {record.request.prompt: record for record in records}
        for prompt, told in self.told.items():
            self._check_item(prompt, told, by_prompt[prompt], tasks_per_item)
        self._check_downloads()
        self._check_directory()
        self._check_journal(records)

    def _check_item(self, prompt: str, told: dict[str, Any], record: ItemRecord, tasks_per_item: int) -> None:
        entries = [entry for entry in self.emu.ledger.entries if entry.request["prompt"] == prompt]
        charged = [entry for entry in entries if entry.status not in ("failed", "cancelled")]
        story = f"{prompt}: told {told}, paid {entries}, journal {record}"
        assert len(charged) <= 1, f"paid twice: {story}"
        assert len(entries) <= tasks_per_item, f"submitted twice: {story}"
        match told["state"]:
            case "saved":
                (entry,) = charged
                assert (told["task_id"], record.task_id, record.state) == (entry.task_id,) * 2 + (ItemState.SAVED,), (
                    story
                )
                assert told["sha256"] == record.sha256 == self.emu.sha256(entry.task_id), story
                assert hashlib.sha256(Path(told["path"]).read_bytes()).hexdigest() == record.sha256, story
            case "unknown":
                assert record.state is ItemState.UNKNOWN, story
                assert all(entry.idempotency_key == record.idempotency_key for entry in entries), story
            case "failed":
                assert [entry.status for entry in entries][-1] == "failed", story
                assert not charged, story
            case "rejected" | "not_started":
                assert not charged, f"paid and not told: {story}"
            case "expired":
                assert record.task_id in {entry.task_id for entry in entries}, story
            case other:
                raise AssertionError(f"a finished run leaves nothing {other}: {story}")

    def _check_downloads(self) -> None:
        """No video that stood under its name was fetched again."""
        for name, (task_id, count) in self._finished.items():
            now = self.emu.ledger.downloads[task_id]
            assert now == count, f"{name} was finished, and fetched {now - count} times after that"

    def _check_directory(self) -> None:
        saved = {Path(told["path"]).name for told in self.told.values() if told["state"] == "saved"}
        assert {path.name for path in self.directory.glob("*.mp4")} == saved
        if len(saved) == len(self.prompts):
            assert {path.name for path in self.directory.iterdir()} == saved | {FOLDER}, "something was left behind"

    def _check_journal(self, records: Sequence[ItemRecord]) -> None:
        database = self.directory / FOLDER / "journal.db"
        with contextlib.closing(sqlite3.connect(database)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        tasks = [record.task_id for record in records if record.task_id]
        assert len(tasks) == len(set(tasks)), "a task is two items'"
        keys = {entry.task_id: entry.idempotency_key for entry in self.emu.ledger.entries}
        assert all(keys[record.task_id] == record.idempotency_key for record in records if record.task_id)
        assert not [record for record in records if record.state in (ItemState.SUBMITTING, ItemState.RESUBMITTING)]

    async def _records(self) -> list[ItemRecord]:
        async with await Journal.open(self.directory, now=time.time, read_only=True) as journal:
            records = [record async for record in journal.iter_items()]
            counts = {state: count for state, count in (await journal.counts()).items() if count}
            assert counts == Counter(record.state for record in records)
            return records
