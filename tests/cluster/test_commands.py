"""`wanasync cluster …`, as a user types it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.working import BATCH, hand_in, session, settled, stands, worker_process, working
from wanasync import PostgresJournal
from wanasync.cli import main
from wanasync.cluster import set_up
from wanasync.emulator import Emulator, Trouble


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "cats.txt"
    path.write_text("A cat\nA dog\nA cat\n")
    return path


@pytest.fixture
def env(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("WAN_DATABASE_URL", database)
    return database


async def run(*arguments: str) -> tuple[int, str]:
    """In a process of its own, since the emulator and the tests share this one's loop: exit code and stdout."""
    command = (sys.executable, "-m", "wanasync", "cluster", *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


def test_without_a_database_or_its_tables_it_says_what_to_do(
    prompts: Path, env: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["cluster", "submit", str(prompts)]) == 2
    assert "wanasync cluster init" in capfd.readouterr().err
    monkeypatch.delenv("WAN_DATABASE_URL")
    assert main(["cluster", "status", "cats"]) == 2
    assert "WAN_DATABASE_URL" in capfd.readouterr().err
    assert main(["cluster", "status", "cats", "--database", "postgresql://nobody@127.0.0.1:1/x"]) == 2


def test_a_bad_line_is_told_before_anything_is_written(
    tmp_path: Path, env: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["cluster", "init"]) == 0
    bad = tmp_path / "bad.csv"
    bad.write_text("prompt,quality\nA cat,720p\nA dog,4k\n")
    assert main(["cluster", "submit", str(bad), "--batch", BATCH]) == 2
    assert "line 3" in capfd.readouterr().err
    assert main(["cluster", "status", BATCH]) == 2


async def test_a_list_goes_from_hand_to_hand_until_it_is_saved(prompts: Path, env: str, tmp_path: Path) -> None:
    to = str(tmp_path / "videos")
    assert (await run("init", "-q"))[0] == 0
    code, out = await run("submit", str(prompts), "--to", to, "--batch", BATCH, "--json")
    assert (code, json.loads(out)) == (0, {"batch": BATCH, "items": 3, "added": 3, "chunks": 1, "released": 0})
    async with Emulator(durations=0.2, queue_time=0.1) as emu:
        with worker_process(env, emu) as process:
            await settled(env, 3)
            process.terminate()
            assert await asyncio.to_thread(process.wait, 30) == 0
    code, out = await run("status", BATCH)
    assert code == 0
    assert "3  saved" in out
    code, out = await run("status", BATCH, "--json")
    assert {json.loads(line)["state"] for line in out.splitlines()} == {"saved"}


async def test_unknown_items_are_told_and_settled(
    prompts: Path, env: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = str(tmp_path / "videos")
    await set_up(env)
    await hand_in(env, tmp_path / "videos", 3)
    lost = Trouble(processed_reset_submits=1.0)
    async with Emulator(durations=0.2, queue_time=0.1, task_list=False, trouble=lost) as emu:
        async with working(env, emu):
            assert (await settled(env, 3)).unknown == 3
        code, out = await run("resolve", BATCH, "--to", to, "--json")
        assert (code, [json.loads(line)["number"] for line in out.splitlines()]) == (1, [1, 2, 3])
        paid = {entry.request["prompt"]: entry.task_id for entry in emu.ledger.entries}
        found = f"2={paid['A cat, take 1']}"
        code, out = await run("resolve", BATCH, "--to", to, "--found", found, "--drop", "1", "--json")
        assert (code, [json.loads(line)["dropped"] for line in out.splitlines()]) == (1, [True, False])
        emu.trouble = Trouble()
        monkeypatch.setenv("WAN_API_KEY", emu.api_key)
        monkeypatch.setenv("WAN_BASE_URL", emu.base_url)
        assert (await run("resolve", BATCH, "--to", to, "--on-unknown", "replay"))[0] == 0
        assert (len(emu.ledger.entries), emu.ledger.paid_twice()) == (3, {})
        async with working(env, emu):
            # Neither what was found nor what was sent again waits for a task's usual time.
            status = await settled(env, 3)
            assert (status.saved, status.unknown) == (2, 1)


async def test_a_status_tells_who_works_on_it(env: str, tmp_path: Path) -> None:
    await set_up(env)
    await hand_in(env, tmp_path / "videos", 3)
    async with Emulator() as emu, session(emu) as wan:
        assert (await stands(env)).running is None
        async with wan.shared_batch(tmp_path, journal=PostgresJournal(env, BATCH)):
            assert "process" in str((await stands(env)).running)
