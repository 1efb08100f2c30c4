from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import KEY, Ended
from tests.helpers.playable import frames
from wanasync.emulator import Emulator, Trouble

Command = Callable[..., Ended]
Emulate = Callable[..., Emulator]


def prompts(*lines: str, name: str = "list.txt") -> Path:
    path = Path(name)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


class TestTheMainJob:
    def test_a_list_becomes_a_directory_of_videos(self, wanasync: Command, emulate: Emulate) -> None:
        emulator = emulate()
        ended = wanasync("run", prompts("A cat", "一只猫", "A [bold]dog[/bold]"), "--to", "out")
        assert (ended.code, ended.out) == (0, "")
        assert sorted(path.name for path in Path("out").glob("*.mp4")) == [
            "0001-a-cat.mp4",
            "0002-一只猫.mp4",
            "0003-a-bold-dog-bold.mp4",
        ]
        assert f"3 videos of list.txt → out  at {emulator.base_url}" in ended.err
        assert "✓ 3 videos in out  (" in ended.err
        assert "15 credits" in ended.err

    def test_the_same_command_again_pays_for_nothing(self, wanasync: Command, emulate: Emulate) -> None:
        emulator = emulate()
        source = prompts("A cat", "A dog")
        wanasync("run", source)
        ended = wanasync("run", source)
        assert ended.code == 0
        assert "2 from earlier runs" in ended.err
        assert len(emulator.ledger.entries) == 2

    def test_what_is_added_to_a_known_list_is_checked_and_made(self, wanasync: Command, emulate: Emulate) -> None:
        emulator = emulate()
        wanasync("run", prompts("A cat", "A dog"))
        ended = wanasync("run", prompts("A cat", "A dog", "x" * 2001))
        assert ended.code == 2
        assert "line 3, prompt" in ended.err
        ended = wanasync("run", prompts("A cat", "A dog", "A mouse"), "--json")
        assert ended.code == 0
        assert [record["resumed"] for record in sorted(ended.records, key=lambda record: record["index"])] == [
            True,
            True,
            False,
        ]
        again = wanasync("run", prompts("A cat", "A dog", "A mouse"), "--json")
        assert sorted(record["index"] for record in again.records) == [0, 1, 2]
        assert all(record["resumed"] for record in again.records)
        assert len(emulator.ledger.entries) == 3

    def test_a_task_that_does_not_end_is_left_to_the_next_run(
        self, wanasync: Command, emulate: Emulate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        emulator = emulate(trouble=Trouble.script(task=["stuck"]))
        monkeypatch.setenv("WAN_TASK_PATIENCE", "1.5")
        ended = wanasync("run", prompts("A cat"), "--json")
        assert ended.code == 1
        (pending,) = ended.records
        assert pending["state"] == "pending"
        assert pending["error"]["type"] == "TaskTimeoutError"
        assert f"wanasync fetch {pending['task_id']}" in ended.err
        assert "1 pending" in ended.err
        assert "To go on: wanasync run list.txt" in ended.err
        assert len(emulator.ledger.entries) == 1

    def test_a_file_that_is_in_the_way_is_named_before_anything_is_paid(
        self, wanasync: Command, emulate: Emulate
    ) -> None:
        emulator = emulate()
        Path("videos").mkdir()
        Path("videos/dog.mp4").write_text("somebody's own")
        source = prompts("prompt,file", "A cat,cat", "A dog,dog", name="list.csv")
        ended = wanasync("run", source, "--to", "videos")
        assert ended.code == 2
        assert "line 3, file" in ended.err
        assert not emulator.ledger.entries
        Path("videos/dog.mp4").unlink()
        for _ in range(2):
            assert wanasync("run", source, "--to", "videos").code == 0
        assert len(emulator.ledger.entries) == 2

    def test_json_gives_one_object_for_each_outcome_and_nothing_else(self, wanasync: Command, emulate: Emulate) -> None:
        emulate()
        source = prompts(
            '{"prompt": "A cat", "id": "c", "quality": "480p", "extra": {"seed": 7}, "file": "cats/one"}',
            name="x.jsonl",
        )
        (record,) = wanasync("run", source, "--json").records
        content = Path("videos/cats/one.mp4").read_bytes()
        assert record.pop("task_id").startswith("task-")
        assert record == {
            "id": "c",
            "state": "saved",
            "path": str(Path("videos/cats/one.mp4")),
            "url": None,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "credits": 2.5,
            "error": None,
            "index": 0,
            "resumed": False,
            "prompt": "A cat",
            "quality": "480p",
            "model": "wan2.5-text-to-video",
            "extra": {"seed": 7},
        }

    def test_flags_fill_in_what_lines_leave_out(self, wanasync: Command, emulate: Emulate) -> None:
        emulator = emulate()
        source = prompts("prompt,quality", "A cat,", "A dog,1080p", name="x.csv")
        flags = ("--quality", "480p", "--duration", "10", "--aspect-ratio", "1:1", "--no-prompt-extend")
        assert wanasync("run", source, *flags).code == 0
        sent = {entry.request["prompt"]: dict(entry.request) for entry in emulator.ledger.entries}
        rest = {"duration": 10, "aspect_ratio": "1:1", "prompt_extend": False, "model": "wan2.5-text-to-video"}
        assert sent["A cat"] == {"prompt": "A cat", "quality": "480p", **rest}
        assert sent["A dog"] == {"prompt": "A dog", "quality": "1080p", **rest}

    def test_verbose_has_a_line_for_each_item_and_quiet_none_at_all(self, wanasync: Command, emulate: Emulate) -> None:
        emulate()
        source = prompts("A cat")
        assert "saved       videos" in wanasync("run", source, "-v").err
        ended = wanasync("run", source, "-q")
        assert (ended.code, ended.out, ended.err) == (0, "", "")

    def test_on_an_emulator_of_its_own_without_any_key(
        self, wanasync: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("WAN_BASE_URL")
        ended = wanasync("run", prompts("A cat"), "--emulator", "--quality", "480p")
        assert ended.code == 0
        assert "on the emulator" in ended.err
        assert frames(Path("videos/0001-a-cat.mp4")) > 0

    def test_a_key_of_the_user_never_meets_the_emulator_nor_its_videos_the_provider(
        self, wanasync: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = prompts("A cat")
        assert wanasync("run", source, "--emulator", "--quality", "480p").code == 0
        monkeypatch.setenv("WAN_BASE_URL", "https://provider.invalid")
        monkeypatch.setenv("WAN_API_KEY", KEY)
        ended = wanasync("run", source, "--quality", "480p")
        assert ended.code == 2
        assert "its batch was begun at http://127.0.0.1" in ended.err
        assert "choose another directory" in ended.err


class TestProblems:
    def test_items_that_fail_are_told_with_their_reasons(self, wanasync: Command, emulate: Emulate) -> None:
        emulate(trouble=Trouble.script(task=["ok", "failed=content_policy_violation", "ok"]))
        source = prompts("A cat", "A dog", "A fox")
        ended = wanasync("run", source, "--max-concurrent", "1")
        assert ended.code == 1
        assert "✓ 2 videos in videos" in ended.err
        assert "✗ 1 failed" in ended.err
        assert "content_policy_violation" in ended.err
        records = {record["prompt"]: record for record in wanasync("run", source, "--json").records}
        (failed,) = [record for record in records.values() if record["state"] == "failed"]
        assert failed["error"]["type"] == "TaskFailedError"
        assert failed["error"]["code"] == "content_policy_violation"
        assert failed["path"] is failed["sha256"] is failed["bytes"] is None

    def test_a_lost_reply_is_told_and_not_paid_again(self, wanasync: Command, emulate: Emulate) -> None:
        emulator = emulate(task_list=False, trouble=Trouble.script(submit=["lost_reply"]))
        source = prompts("A cat")
        for _ in range(2):
            ended = wanasync("run", source)
            assert ended.code == 1
            assert "1 unknown" in ended.err
            assert "--on-unknown" in ended.err
        assert len(emulator.ledger.entries) == 1
        assert wanasync("run", source, "--on-unknown", "replay").code == 0
        assert len(emulator.ledger.entries) == 1

    def test_a_wrong_key_ends_with_3_after_one_request(
        self, wanasync: Command, emulate: Emulate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        emulator = emulate()
        monkeypatch.setenv("WAN_API_KEY", "another-key")
        ended = wanasync("run", prompts(*(f"cat {number}" for number in range(50))))
        assert ended.code == 3
        assert "the API key was refused" in ended.err
        assert "another-key" not in ended.err
        assert emulator.ledger.counts == {"credits": 1}

    def test_no_credit_ends_with_4_and_saves_what_is_under_way(self, wanasync: Command, emulate: Emulate) -> None:
        emulator = emulate(credit=12)
        ended = wanasync("run", prompts("A cat", "A dog", "A fox", "An owl"))
        assert ended.code == 4
        assert "✓ 2 videos" in ended.err
        assert "2 not started" in ended.err
        assert "no credit left" in ended.err
        assert len(emulator.ledger.entries) == 2

    def test_a_limit_ends_with_4_and_the_next_run_goes_on(self, wanasync: Command, emulate: Emulate) -> None:
        emulate()
        source = prompts("A cat", "A dog", "A fox")
        ended = wanasync("run", source, "--limit", "2")
        assert ended.code == 4
        assert "stopped at the limit of 2 submissions. To go on: wanasync run list.txt --limit 2" in ended.err
        assert wanasync("run", source, "--limit", "2").code == 0

    def test_a_budget_ends_with_4_before_it_is_passed(self, wanasync: Command, emulate: Emulate) -> None:
        emulator = emulate()
        ended = wanasync("run", prompts("A cat", "A dog", "A fox"), "--budget", "11")
        assert ended.code == 4
        assert "stopped before the budget of 11 credits could be passed" in ended.err
        assert "raise --budget" in ended.err
        assert len(emulator.ledger.entries) == 2

    def test_a_provider_out_of_reach_is_told(self, wanasync: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WAN_API_KEY", KEY)
        Path("wanasync.toml").write_text("connect_attempts = 1")
        ended = wanasync("run", prompts("A cat"))
        assert ended.code == 4
        assert "127.0.0.1 can't be reached" in ended.err


class TestBadInput:
    def test_every_bad_line_is_named_before_anything_is_sent(self, wanasync: Command, emulate: Emulate) -> None:
        emulator = emulate()
        source = prompts("prompt,quality,duration", "a,4k,5", "b,720p,5", "c,720p,7", name="x.csv")
        ended = wanasync("run", source)
        assert ended.code == 2
        assert ended.err.splitlines() == [
            "wanasync: x.csv: 2 lines can't be used; nothing was sent",
            '  line 2, quality: "4k" is not a quality of this model (480p, 720p, 1080p)',
            "  line 4, duration: 7 must be a whole number of seconds of this model (5, 10)",
        ]
        assert not emulator.ledger.counts
        assert not Path("videos").exists()

    def test_the_first_twenty_are_shown_and_the_rest_counted(self, wanasync: Command, emulate: Emulate) -> None:
        emulate()
        ended = wanasync("run", prompts(*["5"] * 25, name="x.jsonl"))
        lines = ended.err.splitlines()
        assert ended.code == 2
        assert len(lines) == 22
        assert lines[-1] == "  … and 5 more"

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("x.txt", b""),
            ("x.txt", b"caf\xe9"),
            ("x.json", b'["a",'),
            ("x.csv", b"text\na"),
            ("x.csv", b'prompt\n"a'),
            ("x.md", b"a"),
        ],
    )
    def test_ends_with_2(self, wanasync: Command, emulate: Emulate, name: str, content: bytes) -> None:
        emulator = emulate()
        Path(name).write_bytes(content)
        ended = wanasync("run", name)
        assert ended.code == 2
        assert name in ended.err
        assert not emulator.ledger.counts

    def test_markup_in_a_list_is_shown_as_it_is(self, wanasync: Command, emulate: Emulate) -> None:
        emulate()
        ended = wanasync("run", prompts('{"prompt": "x", "quality": "[red]x[/red][/]"}', name="x.jsonl"))
        assert '"[red]x[/red][/]"' in ended.err

    def test_a_directory_that_cannot_be_written_is_told_before_anything_is_sent(
        self, wanasync: Command, emulate: Emulate
    ) -> None:
        emulator = emulate()
        Path("taken").write_text("a file")
        for to in ("taken", "taken/out"):
            ended = wanasync("run", prompts("A cat"), "--to", to)
            assert (ended.code, ended.err) == (2, f"wanasync: --to {to}: taken is a file, not a directory\n")
        assert not emulator.ledger.counts

    def test_one_line_sent_to_a_wrong_address_is_told_as_that(
        self, wanasync: Command, emulate: Emulate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WAN_BASE_URL", f"{emulate().base_url}/wrong")
        ended = wanasync("run", prompts("A cat"))
        assert ended.code == 1
        assert "is it the API's address?" in ended.err

    def test_a_directory_in_use_is_told_before_anything_is_sent(self, wanasync: Command, emulate: Emulate) -> None:
        emulator = emulate(durations=20)
        source = prompts("A cat")
        other = subprocess.Popen([sys.executable, "-m", "wanasync", "run", str(source)], stderr=subprocess.PIPE)
        try:
            wait_for(lambda: bool(emulator.ledger.entries))
            ended = wanasync("run", source)
            assert ended.code == 2
            assert f"in use by process {other.pid}" in ended.err
            assert len(emulator.ledger.entries) == 1
        finally:
            other.send_signal(signal.SIGINT)
            other.communicate(timeout=20)
        assert other.returncode == 130


class TestDryRun:
    def test_says_what_would_be_sent_without_a_key_or_a_request(self, wanasync: Command) -> None:
        source = prompts("prompt,quality,duration", "A cat,,", "A dog,1080p,10", "A fox,1080p,10", name="x.csv")
        ended = wanasync("run", source, "--dry-run")
        assert (ended.code, ended.out) == (0, "")
        assert "3 requests in x.csv" in ended.err
        assert "2  wan2.5-text-to-video, 1080p, 10 s" in ended.err
        assert '{"prompt": "A cat", "model": "wan2.5-text-to-video"}' in ended.err
        assert not Path("videos").exists()

    def test_as_json_gives_each_request(self, wanasync: Command) -> None:
        ended = wanasync("run", prompts("A cat", "A dog"), "--dry-run", "--json", "--duration", "10")
        assert [record["prompt"] for record in ended.records] == ["A cat", "A dog"]
        assert {record["duration"] for record in ended.records} == {10}

    def test_finds_bad_lines(self, wanasync: Command) -> None:
        assert wanasync("run", prompts("x" * 2001), "--dry-run").code == 2

    def test_tells_of_a_batch_that_is_there(self, wanasync: Command, emulate: Emulate) -> None:
        emulate()
        source = prompts("A cat")
        wanasync("run", source)
        again = wanasync("run", source, "--dry-run").err
        assert "videos holds a batch: of this list, 1 settled; 0 submissions left." in again


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another process")
class TestInterrupts:
    def start(self, *flags: str) -> subprocess.Popen[str]:
        source = prompts(*(f"cat {number}" for number in range(30)))
        command = [sys.executable, "-m", "wanasync", "run", str(source), "--api-key", KEY, *flags]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_the_first_leaves_in_good_order_and_the_same_command_goes_on(
        self, wanasync: Command, emulate: Emulate, number: signal.Signals
    ) -> None:
        emulator = emulate(durations=4)
        process = self.start("--max-concurrent", "5")
        wait_for(lambda: len(emulator.ledger.entries) == 5)
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "interrupted; nothing is lost. To go on: wanasync run list.txt --max-concurrent 5" in err
        assert "5 go on at the provider, 25 are not submitted" in err
        assert "Traceback" not in err
        assert KEY not in err
        emulator.durations = lambda _: 0.1
        records = wanasync("run", "list.txt", "--json").records
        assert [record["state"] for record in records] == ["saved"] * 30
        assert len(emulator.ledger.entries) == 30
        assert not emulator.ledger.paid_twice()

    def test_the_second_leaves_at_once_and_loses_nothing(self, wanasync: Command, emulate: Emulate) -> None:
        # The first would wait for the reply of a submission that is on the wire.
        emulator = emulate(durations=1, task_list=False, trouble=Trouble.script(submit=["ok", "slow=30"]))
        process = self.start("--limit", "2")
        wait_for(lambda: emulator.ledger.counts["submit"] >= 1 and len(emulator.ledger.entries) == 2)
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)  # less than the reply takes
        assert process.returncode == 130
        states = [record["state"] for record in wanasync("run", "list.txt", "--limit", "1", "--json").records]
        assert sorted(set(states)) == ["not_started", "saved", "unknown"]
        assert (states.count("unknown"), states.count("saved")) == (1, 2)
        assert len(emulator.ledger.entries) == 3

    def test_an_emulated_run_finishes_what_is_under_way(self, wanasync: Command) -> None:
        source = prompts(*(f"cat {number}" for number in range(4)))
        command = [sys.executable, "-m", "wanasync", "run", str(source), "--emulator", "--quality", "480p", "-v"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        journal = Path("videos/.wanasync/journal.db")
        wait_for(journal.exists)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "finishing what the emulator has begun" in err
        again = wanasync("run", source, "--emulator", "--quality", "480p", "--json")
        assert {record["state"] for record in again.records} == {"saved"}


class TestStreams:
    def test_stdin_is_a_list(self, emulate: Emulate) -> None:
        emulate()
        command = [sys.executable, "-m", "wanasync", "run", "-", "--format", "jsonl", "--json"]
        done = subprocess.run(command, input='"A cat"\n"A dog"\n', capture_output=True, text=True, check=True)
        assert sorted(json.loads(line)["prompt"] for line in done.stdout.splitlines()) == ["A cat", "A dog"]
        assert "2 videos of stdin" in done.stderr

    def test_a_reader_that_goes_away_is_no_fault(self, emulate: Emulate) -> None:
        emulate()
        source = prompts(*(f"cat {number}" for number in range(20)))
        reading, writing = os.pipe()
        os.close(reading)
        command = [sys.executable, "-m", "wanasync", "run", str(source), "--json", "--dry-run"]
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
        os.close(writing)
        assert done.returncode == 4
        assert done.stderr == ""
