from __future__ import annotations

import asyncio
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from wanasync import BatchProgress, DownloadStatistics, GateStatistics, Statistics
from wanasync.cli.progress import Block, Pace, View, progress_line, shares, showing
from wanasync.cli.screen import Screen
from wanasync.testing import virtual_time

HALFWAY = BatchProgress(
    total=200,
    planned=20,
    submitting=2,
    following=39,
    saving=9,
    saved=128,
    failed=2,
    unknown=1,
    credits_reserved=900,
    credits_used=640,
    eta_seconds=231,
)
PAUSED = GateStatistics(state="paused", paused_for=41.6, why="the provider asked for 60 s (429)")


def console(**options: object) -> Console:
    return Console(**{"file": io.StringIO(), "width": 100, "markup": False, "highlight": False, **options})  # type: ignore[arg-type]


def drawn(view: View, **options: object) -> list[str]:
    target = console(**options)
    target.print(Block(view))
    return [line.rstrip() for line in target.file.getvalue().splitlines()]  # type: ignore[attr-defined]


class TestView:
    def test_counts_add_up_to_the_total(self) -> None:
        view = View(HALFWAY)
        batch = view.batch
        assert batch.total == batch.saved + view.troubled + view.making + batch.saving + view.waiting

    def test_an_unread_list_has_no_total_yet(self) -> None:
        view = View(BatchProgress(saved=3, planned=400))
        assert (view.saved_of_total, view.waiting) == ("3 saved", 400)

    @pytest.mark.parametrize(
        ("progress", "gate", "words"),
        [
            (HALFWAY, PAUSED, "submissions pause for 42 s: the provider asked for 60 s (429)"),
            (HALFWAY, GateStatistics(), None),
            (BatchProgress(total=2, following=2), PAUSED, None),
            (
                BatchProgress(total=2, following=1, not_started=1, stopped="budget"),
                PAUSED,
                "no more submissions: budget",
            ),
        ],
    )
    def test_says_why_nothing_is_submitted_only_where_something_is_left_to_submit(
        self, progress: BatchProgress, gate: GateStatistics, words: str | None
    ) -> None:
        assert View(progress, gate).gate_words == words

    @pytest.mark.parametrize(
        ("seconds", "words"),
        [
            (None, None),
            (0.0, "about 5 s left"),
            (33, "about 35 s left"),
            (150, "about 2 min left"),
            (7000, "about 1 h 57 min left"),
        ],
    )
    def test_estimates_promise_no_more_than_they_know(self, seconds: float | None, words: str | None) -> None:
        assert View(BatchProgress(eta_seconds=seconds)).left_words == words

    def test_credits_are_told_where_there_are_any(self) -> None:
        assert View(BatchProgress()).credit_words is None
        assert View(HALFWAY).credit_words == "900 credits reserved, 640 used"
        assert View(HALFWAY, budget=1000).credit_words == "900 credits reserved, 640 used, budget 1,000"

    def test_a_line_tells_the_same(self) -> None:
        assert progress_line(View(HALFWAY, PAUSED, pace=58.4)) == (
            "128 of 200 saved, 41 in the making, 9 being saved, 19 waiting, 3 with problems, "
            "58 a minute, about 4 min left"
        )


class TestBlock:
    def test_tells_counts_pace_pause_and_credits(self) -> None:
        bar, counts, facts, pause = drawn(View(HALFWAY, PAUSED, pace=58.4))
        assert bar.strip("━─ ") == ""
        assert counts == "  128 of 200 saved   41 in the making   9 being saved   19 waiting   3 with problems"
        assert facts == "  58 a minute   · about 4 min left   · 900 credits reserved, 640 used"
        assert pause == "  submissions pause for 42 s: the provider asked for 60 s (429)"

    def test_never_breaks_a_line(self) -> None:
        why = GateStatistics(paused_for=60, why="[red]" * 50)
        for width in (12, 20, 40, 79):
            assert len(drawn(View(HALFWAY, why, pace=58.4, budget=1e6), width=width)) == 4

    def test_shows_a_servers_words_as_they_are(self) -> None:
        assert drawn(View(HALFWAY, GateStatistics(paused_for=5, why="[bold]x[/] :smile:")))[-1].endswith(
            "[bold]x[/] :smile:"
        )

    def test_is_ascii_where_the_terminal_is(self) -> None:
        target = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
        Console(file=target, width=80).print(Block(View(HALFWAY, PAUSED)))
        assert target.buffer.getvalue().isascii()

    def test_is_colourless_where_colours_are_not_wanted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_COLOR", "1")
        plain = drawn(View(HALFWAY, PAUSED), force_terminal=True)
        assert not any("\x1b[3" in line or "\x1b[9" in line for line in plain)


class TestShares:
    @given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6), st.integers(10, 100))
    def test_fill_the_width_and_hide_nothing(self, values: list[int], width: int) -> None:
        widths = shares(values, width)
        assert sum(widths) == width
        assert all(part >= 0 for part in widths)
        assert all(part for part, value in zip(widths, values, strict=True) if value)

    def test_of_nothing_are_all_waiting(self) -> None:
        assert shares([0, 0, 0], 10) == [0, 0, 10]


class TestPace:
    def test_is_told_over_the_last_minute(self) -> None:
        pace = Pace()
        assert pace.per_minute(0, 0) is None
        assert pace.per_minute(1, 5) is None  # too early to tell
        assert pace.per_minute(30, 30) == 60
        assert pace.per_minute(90, 30) is None  # nothing since
        assert pace.per_minute(100, 40) == 60


class FakeBatch:
    def __init__(self) -> None:
        self.now = BatchProgress(total=4, following=4)

    def progress(self) -> BatchProgress:
        return self.now


def screen(**options: object) -> tuple[Screen, io.StringIO]:
    file = io.StringIO()
    verbosity = int(str(options.pop("verbosity", 0)))
    return Screen(console=Console(**{"file": file, "width": 100, **options}), verbosity=verbosity), file  # type: ignore[arg-type]


class TestShowing:
    @virtual_time
    async def test_off_a_terminal_writes_a_line_now_and_then(self) -> None:
        shown, file = screen()
        batch, gate = FakeBatch(), GateStatistics()

        def statistics() -> Statistics:
            return Statistics(gate=gate, downloads=DownloadStatistics(saved=batch.now.saved))

        async with showing(shown, batch, statistics, None):
            await asyncio.sleep(60)
            batch.now = BatchProgress(total=4, saved=1, following=2, planned=1)
            gate = PAUSED
            await asyncio.sleep(16)
            gate = GateStatistics()
            await asyncio.sleep(5)
            gate = PAUSED
            await asyncio.sleep(5)
        assert file.getvalue().splitlines() == [
            "wanasync: 0 of 4 saved, 4 in the making",
            "wanasync: submissions pause for 42 s: the provider asked for 60 s (429)",
            "wanasync: 1 of 4 saved, 2 in the making, 1 waiting",
            "wanasync: submissions pause for 42 s: the provider asked for 60 s (429)",
        ]

    @virtual_time
    async def test_on_a_terminal_draws_and_clears_up(self) -> None:
        shown, file = screen(force_terminal=True, color_system=None)
        async with showing(shown, FakeBatch(), Statistics, None):
            await asyncio.sleep(1)
            assert "0 of 4 saved   4 in the making" in file.getvalue()
            assert "\x1b[?25l" in file.getvalue()
        assert file.getvalue().rstrip().endswith("\x1b[2K")
        assert "\x1b[?25h" in file.getvalue()

    @virtual_time
    async def test_when_quiet_shows_nothing(self) -> None:
        shown, file = screen(force_terminal=True, verbosity=-1)
        async with showing(shown, FakeBatch(), Statistics, None):
            await asyncio.sleep(60)
        assert file.getvalue() == ""

    @virtual_time
    async def test_a_display_that_breaks_does_not_break_the_batch_while_it_runs(self) -> None:
        def broken() -> Statistics:
            raise RuntimeError("a fault")

        ended = []

        async def batch() -> None:
            async with showing(screen()[0], FakeBatch(), broken, None):
                await asyncio.sleep(60)
                ended.append("the batch")

        with pytest.raises(RuntimeError, match="a fault"):
            await batch()
        assert ended == ["the batch"]
