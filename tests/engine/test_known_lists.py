"""A list that was planned before is gone on with from the journal, as though it had been read."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.emulated import emulated, session_on
from wanasync import BatchHistory, BatchItem, ListError, Outcome, OutcomeState, RequestList, WanSession
from wanasync.edges.journal import Journal
from wanasync.emulator import Emulator, FixedWindow, Trouble
from wanasync.engine.batch import intake
from wanasync.engine.batch import run as running
from wanasync.rules.known_list import KnownList
from wanasync.testing import START, now, virtual_time

CATS = [f"cat {number}" for number in range(10)]
# Equal lines on both sides of any place a run may stop at.
MANY_CATS = [f"cat {number % 13}" for number in range(40)]


class Watched(RequestList):
    """A list that counts the items it was asked for."""

    given = 0

    def __iter__(self) -> Iterator[BatchItem]:
        for item in super().__iter__():
            self.given += 1
            yield item


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    return tmp_path / "videos"


def write(directory: Path, prompts: list[str]) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / "list.txt"
    path.write_text("\n".join(prompts))
    return path


async def run(wan: WanSession, source: Path, to: Path, **options: float) -> tuple[list[Outcome], int]:
    """The outcomes, and how many items were read from the list."""
    with Watched(source) as requests:
        async with wan.batch(requests, to, **options) as batch:  # type: ignore[arg-type]
            told = [outcome async for outcome in batch]
            assert sum(states(told).values()) == batch.progress().total
        return told, requests.given


async def run_for(seconds: float, wan: WanSession, source: Path, to: Path) -> list[Outcome] | None:
    try:
        async with asyncio.timeout(seconds):
            return (await run(wan, source, to))[0]
    except TimeoutError:
        return None


def states(told: list[Outcome]) -> Counter[OutcomeState]:
    return Counter(outcome.state for outcome in told)


async def known_items(to: Path, source: Path) -> int | None:
    async with BatchHistory(to) as history:
        with RequestList(source) as requests:
            return await history.knows(requests)


@virtual_time
async def test_a_list_that_was_read_to_its_end_is_not_read_again(tmp_path: Path, videos: Path) -> None:
    source = write(tmp_path, CATS)
    async with emulated() as (emu, wan):
        first, read = await run(wan, source, videos)
        assert read == 10
        again, read = await run(wan, source, videos)
        assert read == 0
        assert sorted((told.id, told.index, told.request, told.path) for told in again) == sorted(
            (told.id, told.index, told.request, told.path) for told in first
        )
        assert all(told.resumed for told in again)
        assert len(emu.ledger.entries) == 10
        assert await known_items(videos, source) == 10


@virtual_time
async def test_what_is_left_of_it_is_submitted(tmp_path: Path, videos: Path) -> None:
    source = write(tmp_path, CATS)
    async with emulated() as (emu, wan):
        for saved in (4, 8, 10):
            told, _ = await run(wan, source, videos, limit=4)
            assert states(told)[OutcomeState.SAVED] == saved
            assert len(told) == len({outcome.id for outcome in told}) == 10
        assert len(emu.ledger.entries) == 10


@virtual_time
async def test_lost_files_of_it_are_fetched_again(tmp_path: Path, videos: Path) -> None:
    source = write(tmp_path, CATS)
    async with emulated() as (emu, wan):
        first, _ = await run(wan, source, videos)
        gone = first[3].path
        assert gone is not None
        gone.unlink()
        told, read = await run(wan, source, videos)
        assert read == 0
        assert states(told) == {OutcomeState.SAVED: 10}
        assert gone.exists()
        assert len(emu.ledger.entries) == 10


@virtual_time
async def test_refused_ones_are_tried_once_more_in_each_run(tmp_path: Path, videos: Path) -> None:
    source = write(tmp_path, CATS)
    async with emulated(trouble=Trouble.script(submit=["ok", "http_400", *["ok"] * 8, "http_400"])) as (emu, wan):
        for submissions in (10, 11, 12):
            told, _ = await run(wan, source, videos)
            assert emu.ledger.counts["submit"] == submissions
            assert states(told)[OutcomeState.REJECTED] == (submissions < 12)
        assert len(emu.ledger.entries) == 10


@virtual_time
async def test_failed_tasks_of_it_are_tried_again_on_request(tmp_path: Path, videos: Path) -> None:
    source = write(tmp_path, CATS)
    async with emulated(trouble=Trouble.script(task=["failed=service_unavailable"])) as (emu, wan):
        for retries, state in ((0, OutcomeState.FAILED), (0, OutcomeState.FAILED), (1, OutcomeState.SAVED)):
            told, _ = await run(wan, source, videos, retry_failed=retries)
            assert states(told)[state]
            assert len(told) == 10
        assert len(emu.ledger.entries) == 11


@virtual_time
async def test_a_changed_list_is_read_again(tmp_path: Path, videos: Path) -> None:
    async with emulated() as (emu, wan):
        await run(wan, write(tmp_path, CATS), videos)
        source = write(tmp_path, ["new", *reversed(CATS[2:])])
        assert await known_items(videos, source) is None
        changed, read = await run(wan, source, videos)
        assert read == 9
        assert await known_items(videos, source) == 9
        again, read = await run(wan, source, videos)
        assert read == 0
        assert {told.id: told.index for told in again} == {told.id: told.index for told in changed}
        assert len(emu.ledger.entries) == 11


@virtual_time
async def test_another_list_in_between_is_not_overlooked(tmp_path: Path, videos: Path) -> None:
    async with emulated() as (emu, wan):
        await run(wan, write(tmp_path, CATS), videos)
        async with wan.batch(["dog", *CATS[1:]], videos) as batch:
            await batch.wait()
        told, read = await run(wan, write(tmp_path, CATS), videos)
        assert read == 10
        assert sorted(outcome.index for outcome in told) == list(range(10))
        assert len(emu.ledger.entries) == 11


@virtual_time
async def test_a_list_that_changes_while_it_is_read_is_not_known(tmp_path: Path, videos: Path) -> None:
    source = write(tmp_path, CATS)
    async with emulated() as (_, wan):
        with Watched(source) as requests:
            async with wan.batch(requests, videos) as batch:
                await anext(batch)
                assert requests.given == 10
                source.write_text("\n".join([*CATS, "one more"]))
                await batch.wait()
        assert await known_items(videos, source) is None
        told, _ = await run(wan, source, videos)
        assert states(told) == {OutcomeState.SAVED: 11}


@virtual_time
async def test_a_list_in_another_order_in_between_is_not_overlooked(tmp_path: Path, videos: Path) -> None:
    async with emulated() as (_, wan):
        first, _ = await run(wan, write(tmp_path, CATS), videos)
        async with wan.batch(CATS[::-1], videos) as batch:
            await batch.wait()
        again, _ = await run(wan, write(tmp_path, CATS), videos)
        assert {told.id: told.index for told in again} == {told.id: told.index for told in first}


@virtual_time
async def test_a_list_that_is_another_for_a_while_is_not_known(tmp_path: Path, videos: Path) -> None:
    source = write(tmp_path, CATS)

    class Longer(RequestList):
        def __iter__(self) -> Iterator[BatchItem]:
            source.write_text("\n".join([*CATS, "one more"]))
            return super().__iter__()

    async with emulated() as (_, wan):
        with Longer(source) as requests:
            async with wan.batch(requests, videos) as batch:
                assert (await batch.wait()).saved == 11
        told, read = await run(wan, write(tmp_path, CATS), videos)
        assert (len(told), read) == (10, 10)


@virtual_time
async def test_a_list_with_a_clash_is_read_and_told_of_each_time(tmp_path: Path, videos: Path) -> None:
    source = tmp_path / "list.csv"
    source.write_text("id,prompt\n1,a cat\n1,a dog\n2,a mouse\n")
    async with emulated() as (_, wan):
        for _ in range(2):
            told, read = await run(wan, source, videos)
            assert states(told) == {OutcomeState.SAVED: 2, OutcomeState.REJECTED: 1}
            assert read == 3


@virtual_time
async def test_what_the_journal_keeps_of_it_is_not_taken_on_trust(tmp_path: Path, videos: Path) -> None:
    source = write(tmp_path, CATS)
    async with emulated() as (emu, wan):
        with RequestList(source) as requests:
            mark = requests.fingerprint()
        for lie in (
            "gibberish",
            f'["{mark}",10,true,[1]]',
            f'["{mark}",9,true,[]]',
            f'["{mark}",11,true,[]]',
            f'["{mark}",0,false,[]]',
        ):
            async with await Journal.open(videos, now=now) as journal:
                await journal.set_meta("list", lie)
            told, read = await run(wan, source, videos)
            assert read == 10, lie
            assert states(told) == {OutcomeState.SAVED: 10}
        # Rows that are not there hide none that are.
        async with await Journal.open(videos, now=now) as journal:
            await journal.set_meta("list", f'["{mark}",9,true,[{10**30}]]')
        assert states((await run(wan, source, videos))[0]) == {OutcomeState.SAVED: 10}
        assert len(emu.ledger.entries) == 10


class TestPartsOfLists:
    """Pieces of five, so that a list of forty is planned in many."""

    @pytest.fixture(autouse=True)
    def small_pieces(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(intake, "CHUNK", 5)
        monkeypatch.setattr(intake, "READ_AHEAD", 8)
        monkeypatch.setattr(running, "UNREAD_OUTCOMES", 3)

    def test_a_run_goes_on_behind_what_was_planned(self, tmp_path: Path, videos: Path) -> None:
        source = write(tmp_path, MANY_CATS)

        @virtual_time
        async def main() -> None:
            async with Emulator(epoch=START, limiter=FixedWindow(4, per=60), durations=30.0) as emu:
                for patience in (5, 65, 130, 10, 65, 65):
                    async with session_on(emu) as wan:
                        assert await run_for(patience, wan, source, videos) is None
                    async with await Journal.open(videos, now=now, read_only=True) as journal:
                        known = KnownList.from_json(await journal.get_meta("list"))
                    assert known
                    assert not known.is_whole
                    assert 0 < known.items < 40
                async with session_on(emu) as wan:
                    told, _ = await run(wan, source, videos)
                assert states(told) == {OutcomeState.SAVED: 40}
                assert sorted(outcome.index for outcome in told) == list(range(40))
                assert len(emu.ledger.entries) == 40
                assert await known_items(videos, source) == 40

        main()

    def test_a_bad_line_ends_each_run_and_what_comes_before_it_is_paid_once(self, tmp_path: Path, videos: Path) -> None:
        source = write(tmp_path, [*CATS[:7], "x" * 2001, "fine"])

        @virtual_time
        async def main() -> None:
            async with emulated() as (emu, wan):
                for _ in range(2):
                    with RequestList(source) as requests:
                        async with wan.batch(requests, videos) as batch:
                            with pytest.raises(ListError):
                                await batch.wait()
                        assert len(emu.ledger.entries) <= 7
                assert await known_items(videos, source) is None

        main()
