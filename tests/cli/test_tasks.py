from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Ended
from tests.cli.test_run import wait_for
from wanasync.emulator import Emulator, Trouble

Command = Callable[..., Ended]
Emulate = Callable[..., Emulator]


class TestGenerate:
    def test_prints_where_the_video_is(self, wanasync: Command, emulate: Emulate) -> None:
        emulate()
        ended = wanasync("generate", "A cat", "-o", "cat.mp4")
        assert (ended.code, ended.out) == (0, "cat.mp4\n")
        assert Path("cat.mp4").stat().st_size > 0

    def test_names_the_video_itself_in_a_directory(self, wanasync: Command, emulate: Emulate) -> None:
        emulate()
        ended = wanasync("generate", "A [b]cat[/b]", "-o", "new/folder", "--json", "--quality", "480p")
        (record,) = ended.records
        assert record["path"] == str(Path("new/folder/a-b-cat-b.mp4"))
        assert (record["state"], record["quality"], record["prompt"]) == ("saved", "480p", "A [b]cat[/b]")

    def test_a_name_that_is_taken_is_told_before_anything_is_paid(self, wanasync: Command, emulate: Emulate) -> None:
        emulator = emulate()
        Path("cat.mp4").write_text("mine")
        ended = wanasync("generate", "A cat", "-o", "cat.mp4")
        assert ended.code == 2
        assert "cat.mp4 exists already" in ended.err
        assert not emulator.ledger.entries

    def test_a_task_that_fails_ends_with_1_and_its_reason(self, wanasync: Command, emulate: Emulate) -> None:
        emulate(trouble=Trouble.script(task=["failed=content_policy_violation"]))
        ended = wanasync("generate", "A cat")
        assert ended.code == 1
        assert "content_policy_violation" in ended.err

    def test_a_timeout_names_the_task(self, wanasync: Command, emulate: Emulate) -> None:
        emulator = emulate(durations=60)
        ended = wanasync("generate", "A cat", "--timeout", "0.5")
        assert ended.code == 1
        assert emulator.ledger.entries[0].task_id in ended.err.splitlines()[-1]
        assert f"wanasync fetch {emulator.ledger.entries[0].task_id}" in ended.err

    @pytest.mark.skipif(sys.platform == "win32", reason="signals of another process")
    def test_ctrl_c_says_how_to_save_the_video_later(self, emulate: Emulate) -> None:
        emulator = emulate(durations=60)
        command = [sys.executable, "-m", "wanasync", "generate", "A cat"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: bool(emulator.ledger.entries))
        task_id = emulator.ledger.entries[0].task_id
        wait_for(lambda: emulator.ledger.counts["submit"] == 1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 130
        assert f"wanasync fetch {task_id}" in err or f"task {task_id} goes on" in err


class TestSubmitAndFetch:
    def test_ids_go_from_one_to_the_other(self, wanasync: Command, emulate: Emulate) -> None:
        emulator = emulate()
        submitted = wanasync("submit", "A cat", "A dog", "--quality", "480p")
        ids = submitted.out.split()
        assert ids == [entry.task_id for entry in emulator.ledger.entries]
        emulator.advance(60)
        Path("ids.txt").write_text("\ufeff# mine\n" + "\n".join([*ids, "", ids[0]]), encoding="utf-8")
        ended = wanasync("fetch", "--ids", "ids.txt", "-o", "out")
        assert ended.code == 0
        assert sorted(ended.out.split()) == sorted(str(Path("out", f"{task_id}.mp4")) for task_id in ids)
        assert len(emulator.ledger.entries) == 2

    def test_ids_are_read_from_stdin(self, wanasync: Command, emulate: Emulate) -> None:
        emulate()
        ids = wanasync("submit", "A cat").out
        command = [sys.executable, "-m", "wanasync", "fetch", "-", "--json"]
        done = subprocess.run(command, input=ids, capture_output=True, text=True, check=True)
        assert '"state":"saved"' in done.stdout

    def test_an_id_that_nobody_knows_does_not_stop_the_others(self, wanasync: Command, emulate: Emulate) -> None:
        emulator = emulate()
        known = wanasync("submit", "A cat", "--json").records[0]["task_id"]
        emulator.advance(60)
        unknown = known[:-4] + "zzzz"
        ended = wanasync("fetch", unknown, known, "--json")
        assert ended.code == 1
        assert {record["id"]: record["state"] for record in ended.records} == {unknown: "failed", known: "saved"}
        assert unknown in ended.err

    def test_a_wrong_key_ends_with_3(
        self, wanasync: Command, emulate: Emulate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        emulate()
        monkeypatch.setenv("WAN_API_KEY", "another-key")
        for command in (["submit", "A cat"], ["fetch", "task-1"], ["status", "task-1"], ["credits"], ["generate", "x"]):
            assert wanasync(*command).code == 3

    def test_no_credit_ends_with_4(self, wanasync: Command, emulate: Emulate) -> None:
        emulate(credit=1)
        assert wanasync("submit", "A cat").code == 4


class TestStatus:
    def test_of_tasks(self, wanasync: Command, emulate: Emulate) -> None:
        emulate(durations=60)
        task_id = wanasync("submit", "A cat").out.strip()
        ended = wanasync("status", task_id)
        assert ended.code == 0
        assert task_id in ended.out
        (record,) = wanasync("status", task_id, "--json").records
        assert record["status"] in ("pending", "processing")
        assert wanasync("status", task_id, "nope").code == 1

    def test_of_a_batch_reads_its_journal_only(
        self, wanasync: Command, emulate: Emulate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        emulate(trouble=Trouble.script(task=["failed=content_policy_violation"]))
        Path("x.txt").write_text("A cat\nA dog\nA fox")
        wanasync("run", "x.txt", "--limit", "2")
        monkeypatch.delenv("WAN_API_KEY")
        ended = wanasync("status", "videos")
        assert ended.code == 1
        assert "videos  3 items" in ended.out
        for line in ("1  saved", "1  waiting", "1  failed", "content_policy_violation"):
            assert line in ended.out
        states = [record["state"] for record in wanasync("status", "videos", "--json").records]
        assert sorted(states) == ["failed", "not_started", "saved"]

    def test_of_a_directory_without_a_batch(self, wanasync: Command) -> None:
        Path("empty").mkdir()
        ended = wanasync("status", "empty")
        assert ended.code == 2
        assert "empty" in ended.err


class TestCredits:
    def test_tells_the_balance(self, wanasync: Command, emulate: Emulate) -> None:
        emulate(credit=1234.5)
        assert wanasync("credits").out == "1,234.5 credits left (0 used so far)\n"
        assert wanasync("credits", "--json").records == [{"remaining": 1234.5, "used": 0.0, "unlimited": False}]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another process")
def test_the_emulator_serves_until_it_is_told_to_end(wanasync: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-u", "-m", "wanasync", "emulator", "--port", "0", "--videos", "tiny", "--limit", "100"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        for _ in range(2):
            name, _, value = server.stdout.readline().strip().removeprefix("export ").partition("=")
            monkeypatch.setenv(name, value)
        assert wanasync("submit", "A cat").code == 0
    finally:
        server.send_signal(signal.SIGINT)
        _, err = server.communicate(timeout=20)
    assert server.returncode == 0
    assert "1 task paid for" in err
