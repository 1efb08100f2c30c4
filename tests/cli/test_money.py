"""What the command line tells of money, and of what may be lost of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import Ended
from tests.cli.test_run import prompts
from wanasync.emulator import Emulator, Trouble

Command = Callable[..., Ended]
Emulate = Callable[..., Emulator]


class TestBalance:
    def test_the_first_line_tells_what_the_account_holds(self, wanasync: Command, emulate: Emulate) -> None:
        emulator = emulate(credit=37.5)
        ended = wanasync("run", prompts("A cat"))
        assert f"at {emulator.base_url}, 37.5 credits left" in ended.err.splitlines()[0]

    def test_an_empty_account_is_warned_of(self, wanasync: Command, emulate: Emulate) -> None:
        emulate(credit=0)
        ended = wanasync("run", prompts("A cat"))
        assert "the account has no credit left: submissions will be refused" in ended.err
        assert ended.code == 4

    def test_too_little_for_the_list_is_warned_of_and_spent_all_the_same(
        self, wanasync: Command, emulate: Emulate
    ) -> None:
        emulator = emulate(credit=12)
        wanasync("run", prompts("A cat"))
        ended = wanasync("run", prompts("A cat", "A dog", "A fox"))
        assert "3 videos of list.txt" in ended.err
        assert "2 submissions to come, expected to reserve 10 credits, and the account holds 7" in ended.err
        assert len(emulator.ledger.entries) == 2
        assert ended.code == 4

    def test_a_host_that_does_not_tell_is_no_obstacle(self, wanasync: Command, emulate: Emulate) -> None:
        emulate(trouble=Trouble(http_404_credits=1.0))
        ended = wanasync("run", prompts("A cat"))
        assert ended.code == 0
        assert "credits left" not in ended.err


class TestDryRun:
    def test_prices_are_those_that_replies_told(self, wanasync: Command, emulate: Emulate) -> None:
        emulate()
        first = prompts("A cat", "A dog")
        assert "What they cost is not known" in wanasync("run", first, "--dry-run").err
        wanasync("run", first)
        more = prompts("prompt,quality", "A cat,", "A dog,", "A fox,", "A hen,", "A cow,1080p", name="more.csv")
        told = wanasync("run", more, "--dry-run").err
        assert "of this list, 2 settled; 3 submissions left." in told
        assert "Expected to reserve 10 credits, as such requests did before, and 1 of kinds not seen yet." in told


class TestFailedTasks:
    def test_are_tried_again_when_asked_for(self, wanasync: Command, emulate: Emulate) -> None:
        emulator = emulate(trouble=Trouble.script(task=["failed=service_error"]))
        source = prompts("A cat", "A dog")
        assert wanasync("run", source).code == 1
        ended = wanasync("run", source, "--retry-failed", "1")
        assert ended.code == 0
        assert "1 failed task tried again" in ended.err
        assert len(emulator.ledger.entries) == 3


class TestUnknown:
    def test_are_told_everywhere_and_resolved_when_asked_for(self, wanasync: Command, emulate: Emulate) -> None:
        emulator = emulate(task_list=False, trouble=Trouble.script(submit=["ok", "lost_reply"]))
        source = prompts("A cat", "A dog")
        ended = wanasync("run", source, "--json")
        assert ended.code == 1
        assert sorted(record["state"] for record in ended.records) == ["saved", "unknown"]
        assert "1 unknown" in ended.err
        assert wanasync("run", source).code == 1
        assert wanasync("run", source, "--on-unknown", "replay").code == 0
        assert len(emulator.ledger.entries) == 2


class TestChangedLists:
    def test_what_left_the_list_is_told(self, wanasync: Command, emulate: Emulate) -> None:
        emulate()
        wanasync("run", prompts("A cat", "A dog", "A fox"))
        assert "2 items of earlier runs not in the list any more" in wanasync("run", prompts("A cat")).err


class TestFetchRecent:
    def test_saves_what_the_provider_lists_and_only_once(self, wanasync: Command, emulate: Emulate) -> None:
        emulator = emulate(trouble=Trouble.script(task=["ok", "failed"]))
        wanasync("submit", "A cat", "A dog", "A fox")
        time.sleep(0.5)  # all have ended
        for found in (2, 0):
            ended = wanasync("fetch", "--recent", "1", "--to", "out")
            assert ended.code == 0
            assert f"{found} videos of recent tasks" in ended.err
        assert len(list(Path("out").glob("task-*.mp4"))) == 2
        assert len(emulator.ledger.entries) == 3

    def test_what_is_older_is_left(self, wanasync: Command, emulate: Emulate) -> None:
        emulate(epoch=1_500_000_000.0)
        wanasync("submit", "A cat")
        assert "0 videos of recent tasks" in wanasync("fetch", "--recent", "24", "--to", "out").err

    def test_a_host_without_a_list_is_told(self, wanasync: Command, emulate: Emulate) -> None:
        emulate(task_list=False)
        ended = wanasync("fetch", "--recent", "24")
        assert ended.code == 1
        assert "no list of recent tasks" in ended.err
