"""Both homes of the journal keep one contract: `wanasync/edges/journal/contract.py`."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest

from tests.helpers.records import everything, items, tally_of
from tests.journal_contract.conftest import NOW, Home
from wanasync.edges.journal.contract import BatchJournal
from wanasync.errors import JournalError, RequestValidationError
from wanasync.models import PaceSample, VideoRequest
from wanasync.rules.lifecycle import TRANSITIONS, ItemEvent, ItemState, TransitionError
from wanasync.rules.records import ItemRecord, PlannedItem

TASK = {"task_id": "task-unified-1", "credits_reserved": 4.5, "estimated_time": 120.0}
LINK = {"links": ("https://video.example/1.mp4",), "link_deadline": NOW + 86_400, "credits_used": 4.0}
FILE = {"bytes": 1234, "sha256": "ab" * 32}
NEEDED: dict[ItemEvent, dict[str, Any]] = {
    ItemEvent.ACCEPTED: TASK,
    ItemEvent.RESOLVED: TASK,
    ItemEvent.LINKED: LINK,
    ItemEvent.SAVED: FILE,
    ItemEvent.FAILED: {"error_code": "service_error", "error_message": "no luck"},
}
CLAIMS = (ItemEvent.SUBMIT, ItemEvent.RESUBMIT)


@contextlib.asynccontextmanager
async def opened(home: Home, *, read_only: bool = False) -> AsyncIterator[BatchJournal]:
    journal = await home.open(read_only=read_only)
    try:
        yield journal
    finally:
        await journal.close()


async def happen(journal: BatchJournal, record: ItemRecord, event: ItemEvent) -> ItemRecord:
    if event in CLAIMS:
        return await journal.claim(record, submitted_at=NOW)
    return await journal.record(record.key, event, **NEEDED.get(event, {}))


async def advance_to(journal: BatchJournal, record: ItemRecord, state: ItemState) -> ItemRecord:
    """Bring a planned item to any state on the shortest way that a run could take."""
    ways: dict[ItemState, tuple[ItemEvent, ...]] = {ItemState.PLANNED: ()}
    while state not in ways:
        for (source, event), to in TRANSITIONS.items():
            if source in ways and event is not ItemEvent.INTERRUPTED:
                ways.setdefault(to, (*ways[source], event))
    for event in ways[state]:
        record = await happen(journal, record, event)
    return record


# States


@pytest.mark.parametrize("state", ItemState)
async def test_from_each_state_an_event_does_what_the_table_says_or_nothing(home: Home, state: ItemState) -> None:
    events = [event for event in ItemEvent if event is not ItemEvent.INTERRUPTED]
    async with opened(home) as journal:
        planned = await journal.plan(items(event.value for event in events))
        before = await asyncio.gather(*(advance_to(journal, record, state) for record in planned))
        for event, record in zip(events, before, strict=True):
            assert record == await journal.get(record.key)
            to = TRANSITIONS.get((state, event))
            wrong_claim = event is ItemEvent.SUBMIT and state is ItemState.UNKNOWN
            if event is ItemEvent.RESUBMIT and state is not ItemState.UNKNOWN:
                continue  # what a claim means follows from the state
            if to is None and not wrong_claim:
                with pytest.raises(TransitionError):
                    await happen(journal, record, event)
                assert await journal.get(record.key) == record
            else:
                after = await happen(journal, record, event)
                assert after.state is (ItemState.RESUBMITTING if wrong_claim else to)
                assert await journal.get(record.key) == after
        records = await everything(journal)
        assert (dict(await journal.counts()), await journal.totals()) == tally_of(records)


async def test_what_is_kept_of_an_item_outlives_the_journal(home: Home) -> None:
    async with opened(home) as journal:
        (planned,) = await journal.plan([PlannedItem(0, VideoRequest("猫 \U0001f408", extra={"a": 1}), "cat", "x/cat")])
        saved = await advance_to(journal, planned, ItemState.SAVED)
        assert (saved.task_id, saved.bytes, saved.sha256, saved.links) == ("task-unified-1", 1234, "ab" * 32, ())
        assert (saved.credits_reserved, saved.credits_used, saved.submitted_at) == (4.5, 4.0, NOW)
    async with opened(home) as journal:
        assert await everything(journal) == [saved]
        assert saved.idempotency_key == planned.idempotency_key


async def test_a_strangers_words_cost_no_record(home: Home) -> None:
    async with opened(home) as journal:
        (record,) = await journal.plan(items(["a"]))
        await journal.claim(record, submitted_at=NOW)
        lost = await journal.record(record.key, ItemEvent.REPLY_LOST, error_message="half \ud83d of a pair")
        assert lost.state is ItemState.UNKNOWN
        assert (await journal.get(record.key)).error_message == "half ? of a pair"


async def test_a_failed_items_next_attempt_has_another_key_and_its_task_stays_known(home: Home) -> None:
    async with opened(home) as journal:
        (planned,) = await journal.plan(items(["a"]))
        await advance_to(journal, planned, ItemState.FAILED)
        again = await journal.record(planned.key, ItemEvent.RETRY)
        assert (again.state, again.attempt, again.task_id) == (ItemState.PLANNED, 2, None)
        assert again.idempotency_key != planned.idempotency_key
        await journal.claim(again, submitted_at=NOW + 1)
        await journal.record(again.key, ItemEvent.ACCEPTED, task_id="task-unified-2")
        known = await journal.known_tasks(["task-unified-1", "task-unified-2", "task-unified-3"])
        assert known == {"task-unified-1": NOW, "task-unified-2": NOW + 1}


# Claims


async def test_an_item_is_claimed_once(home: Home) -> None:
    async with opened(home) as journal:
        (planned,) = await journal.plan(items(["a"]))
        claims = await asyncio.gather(
            *(journal.claim(planned, submitted_at=NOW) for _ in range(10)), return_exceptions=True
        )
        assert [type(claim) for claim in claims].count(ItemRecord) == 1
        assert all(isinstance(claim, ItemRecord | TransitionError) for claim in claims)
        assert (await journal.get(planned.key)).state is ItemState.SUBMITTING


async def test_an_item_that_was_turned_away_can_be_claimed_again(home: Home) -> None:
    async with opened(home) as journal:
        (record,) = await journal.plan(items(["a"]))
        for _ in range(3):
            await journal.claim(record, submitted_at=NOW)
            record = await journal.record(record.key, ItemEvent.NOT_TAKEN)
            assert record.state is ItemState.PLANNED


async def test_a_claim_is_on_what_its_maker_has_seen(home: Home) -> None:
    """One who read `planned` long ago must not resubmit what is unknown by now."""
    async with opened(home) as journal:
        (planned,) = await journal.plan(items(["a"]))
        unknown = await advance_to(journal, planned, ItemState.UNKNOWN)
        with pytest.raises(TransitionError):
            await journal.claim(planned, submitted_at=NOW)
        assert await journal.get(planned.key) == unknown
        assert (await journal.claim(unknown, submitted_at=NOW)).state is ItemState.RESUBMITTING


async def test_claims_that_a_run_left_without_an_answer_are_unknown(home: Home) -> None:
    async with opened(home) as journal:
        first, second, _ = await journal.plan(items("abc"))
        await journal.claim(first, submitted_at=NOW)
        unknown = await advance_to(journal, second, ItemState.UNKNOWN)
        await journal.claim(unknown, submitted_at=NOW)
    async with opened(home) as journal:
        assert journal.interrupted == 2
        counts = await journal.counts()
        assert (counts[ItemState.UNKNOWN], counts[ItemState.PLANNED]) == (2, 1)
        assert (await journal.get(first.key)).error_code == "interrupted"
        with pytest.raises(TransitionError):
            await journal.record(first.key, ItemEvent.ACCEPTED, **TASK)
    async with opened(home) as journal:
        assert journal.interrupted == 0


# Planning


async def test_running_again_finds_every_item_wherever_its_line_went(home: Home) -> None:
    async with opened(home) as journal:
        first = {record.request.prompt: record for record in await journal.plan(items(["a", "b", "c", "d"]))}
        accepted = await advance_to(journal, first["c"], ItemState.ACCEPTED)
    async with opened(home) as journal:
        again = await journal.plan(items(["new", "d", "c", "b"]))
        by_prompt = {record.request.prompt: record for record in again}
        for prompt in "bcd":
            assert (by_prompt[prompt].key, by_prompt[prompt].file) == (first[prompt].key, first[prompt].file)
        assert [record.index for record in again] == [0, 1, 2, 3]
        assert (by_prompt["c"].state, by_prompt["c"].task_id) == (ItemState.ACCEPTED, accepted.task_id)
        assert by_prompt["new"].seq == 5
        listed = {record.request.prompt: journal.is_listed(record) async for record in journal.iter_items()}
        assert listed == {"a": False, "b": True, "c": True, "d": True, "new": True}
        assert await journal.unlisted() == {first["a"].seq}
        await journal.list_all()
        assert await journal.unlisted() == frozenset()


async def test_equal_lines_are_separate_items_and_stay_so(home: Home) -> None:
    prompts = ["cat"] * 3 + ["dog"] + ["cat"] * 505
    async with opened(home) as journal:
        first = [record.key for record in await journal.plan(items(prompts))]
        assert len(set(first)) == len({record.file for record in await everything(journal)}) == len(prompts)
    async with opened(home) as journal:
        again = items(prompts)
        in_pieces = [record.key for part in (again[:2], again[2:5], again[5:]) for record in await journal.plan(part)]
        assert in_pieces == first


async def test_a_clash_in_a_chunk_leaves_nothing_of_it(home: Home) -> None:
    twice = [PlannedItem(index, VideoRequest(str(index)), name) for index, name in enumerate(["a", "b", "a"])]
    same_file = [PlannedItem(index, VideoRequest(str(index)), None, "x.mp4") for index in range(2)]
    async with opened(home) as journal:
        for clash, field in ((twice, "id"), (same_file, "file")):
            with pytest.raises(RequestValidationError) as caught:
                await journal.plan(clash)
            assert caught.value.field == field
        assert await everything(journal) == []
        assert [record.seq for record in await journal.plan(items("ab"))] == [1, 2]


async def test_an_id_can_be_given_another_request_until_it_was_paid_for(home: Home) -> None:
    def item(prompt: str) -> list[PlannedItem]:
        return [PlannedItem(0, VideoRequest(prompt), "film")]

    async with opened(home) as journal:
        (first,) = await journal.plan(item("first"))
        rejected = await advance_to(journal, first, ItemState.REJECTED)
    async with opened(home) as journal:
        (second,) = await journal.plan(item("second"))
        assert (second.key, second.seq, second.request.prompt) == (first.key, first.seq, "second")
        assert (second.state, second.attempt) == (ItemState.PLANNED, rejected.attempt + 1)
        assert await journal.get(first.key) == second
        await advance_to(journal, second, ItemState.ACCEPTED)
    async with opened(home) as journal:
        with pytest.raises(RequestValidationError, match="was submitted with another request before"):
            await journal.plan(item("third"))


async def test_a_name_that_was_made_of_number_and_prompt_is_taken_too(home: Home) -> None:
    wanting = [PlannedItem(1, VideoRequest("dog"), None, "0001-Cat.mp4")]
    async with opened(home) as journal:
        (cat,) = await journal.plan(items(["cat"]))
        assert cat.file == "0001-cat.mp4"
        with pytest.raises(RequestValidationError, match="is the file of item 1 too"):
            await journal.plan(wanting)
    async with opened(home) as journal:
        (dog,) = await journal.plan(wanting)
        assert dog.file == "0001-Cat.mp4"
        assert (await journal.get(cat.key)).file == "0001-Cat-2.mp4"


async def test_a_wanted_name_goes_to_the_item_that_wants_it_now(home: Home) -> None:
    async with opened(home) as journal:
        (old,) = await journal.plan([PlannedItem(0, VideoRequest("old"), "old", "film.mp4")])
    async with opened(home) as journal:
        (new,) = await journal.plan([PlannedItem(0, VideoRequest("new"), "new", "film.mp4")])
        assert new.file == "film.mp4"
        moved = await journal.get(old.key)
        assert moved.file not in (old.file, new.file)


async def test_a_strangers_file_is_not_overwritten(home: Home) -> None:
    home.directory.mkdir()
    (home.directory / "taken.mp4").write_bytes(b"a stranger's")
    async with opened(home) as journal:
        with pytest.raises(RequestValidationError, match="is there already"):
            await journal.plan([PlannedItem(0, VideoRequest("b"), None, "taken.mp4")])


# Reading


async def test_items_are_read_state_after_state_as_life_goes(home: Home) -> None:
    wanted = (ItemState.SAVED, ItemState.PLANNED, ItemState.UNKNOWN, ItemState.READY)
    async with opened(home) as journal:
        planned = await journal.plan(items(str(number) for number in range(1203)))
        for record, state in zip(planned, wanted, strict=False):
            await advance_to(journal, record, state)
        read = [record async for record in journal.iter_items(wanted)]
        expected = [ItemState.PLANNED] * 1200 + [ItemState.READY, ItemState.SAVED, ItemState.UNKNOWN]
        assert [record.state for record in read] == expected
        assert [record.seq for record in await everything(journal)] == list(range(1, 1204))
        assert [len(part) async for part in journal.slices()] == [500, 500, 203]
        some = [planned[3].key, planned[7].key]
        assert set(await journal.find([*some, "0" * 16])) == set(some)


async def test_a_reader_sees_a_run_at_work_and_changes_nothing(home: Home) -> None:
    with pytest.raises(JournalError, match="there is no"):
        await home.open(read_only=True)
    async with opened(home) as writer:
        (planned,) = await writer.plan(items(["a"]))
        async with opened(home, read_only=True) as reader:
            assert await everything(reader) == [planned]
            await writer.claim(planned, submitted_at=NOW)
            assert (await reader.counts())[ItemState.SUBMITTING] == 1
            assert reader.interrupted == 0
            with pytest.raises(JournalError):
                await reader.set_meta("name", "value")


async def test_a_second_run_is_told_who_has_the_batch(home: Home) -> None:
    async with opened(home) as journal:
        with pytest.raises(JournalError, match=rf"in use by process {os.getpid()} on "):
            await home.open()
        assert str(os.getpid()) in str(await journal.holder())
    async with opened(home, read_only=True) as reader:
        assert await reader.holder() is None


async def test_notes_are_kept_by_name(home: Home) -> None:
    async with opened(home) as journal:
        assert await journal.get_meta("list") is None
        await journal.set_meta("list", "first")
        await journal.set_meta("list", "second")
        await journal.set_meta("pace", "fast")
    async with opened(home) as journal:
        assert (await journal.get_meta("list"), await journal.get_meta("pace")) == ("second", "fast")


# Callers


async def test_what_a_cancelled_caller_has_asked_for_is_carried_out(home: Home) -> None:
    async with opened(home) as journal:
        (planned,) = await journal.plan(items(["a"]))
        await journal.claim(planned, submitted_at=NOW)
        answer = asyncio.ensure_future(journal.record(planned.key, ItemEvent.ACCEPTED, **TASK))
        await asyncio.sleep(0)
        answer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answer
    async with opened(home) as journal:
        assert (await journal.get(planned.key)).state is ItemState.ACCEPTED


async def test_closing_writes_what_is_queued_and_then_refuses(home: Home) -> None:
    journal = await home.open()
    planned = await journal.plan(items(str(number) for number in range(50)))
    claims = [asyncio.ensure_future(journal.claim(record, submitted_at=NOW)) for record in planned]
    await asyncio.sleep(0)
    await asyncio.gather(journal.close(), journal.close())
    assert {record.state for record in await asyncio.gather(*claims)} == {ItemState.SUBMITTING}
    for refused in (journal.counts(), journal.claim(planned[0], submitted_at=NOW)):
        with pytest.raises(JournalError, match="the journal is closed"):
            await refused


async def test_one_that_is_refused_disturbs_no_other_of_its_commit(home: Home) -> None:
    async with opened(home) as journal:
        planned = await journal.plan(items(str(number) for number in range(20)))
        claims = [journal.claim(record, submitted_at=NOW) for record in planned]
        unknown_item = journal.record("0" * 16, ItemEvent.NOTED)
        wrong = [journal.record(record.key, ItemEvent.LINKED, **LINK) for record in planned[:5]]
        answers = await asyncio.gather(*claims, unknown_item, *wrong, return_exceptions=True)
        assert all(isinstance(answer, ItemRecord) for answer in answers[:20])
        assert all(isinstance(answer, JournalError) for answer in answers[20:])
        assert (await journal.counts())[ItemState.SUBMITTING] == 20


async def test_those_who_look_on_are_told_what_changed(home: Home) -> None:
    async with opened(home) as journal:
        empty = await journal.mark()
        planned = await journal.plan(items("abc"))
        moved = await advance_to(journal, planned[1], ItemState.READY)
        async with opened(home, read_only=True) as onlooker:
            mark, changed = await onlooker.changes(empty)
            assert changed == [planned[0], moved, planned[2]]
            # One journal tells the moment of the mark again, by its clock; the other one by its transactions.
            assert (await onlooker.changes(mark))[1] in ([], [moved])
            assert await onlooker.row(2) == moved
            assert await onlooker.row(4) is None
            version = await onlooker.version()
            assert await onlooker.version() == version
            moved = await happen(journal, moved, ItemEvent.SAVED)
            assert await onlooker.version() != version
            assert (await onlooker.changes(mark))[1] == [moved]


async def test_samples_of_the_pace_are_kept_and_thinned(home: Home) -> None:
    whole = PaceSample(NOW, NOW - 5, 1, 2, 3, 4, 5, 6, NOW + 9, "why \ud800", 60, 60.0, 20, 4.5, 4.0)
    bare = PaceSample(NOW - 1, NOW - 5)
    async with opened(home) as journal:
        await journal.add_sample(whole)
        await journal.add_sample(bare)
        async with opened(home, read_only=True) as onlooker:
            assert await onlooker.samples() == [bare, attrs.evolve(whole, why="why ?")]
            assert await onlooker.samples(NOW - 1) == [attrs.evolve(whole, why="why ?")]
        await journal.add_sample(PaceSample(NOW + 1e6, NOW - 5), thin=True)
        assert [sample.at for sample in await journal.samples()] == [NOW - 1, NOW + 1e6]


async def test_wanted_names_that_begin_with_any_number_are_given_once(home: Home) -> None:
    names = ["0-cat.mp4", "00000001-cat.mp4", "1-cat.mp4", "2-dog.mp4", "999-cat.mp4"]
    async with opened(home) as journal:
        planned = await journal.plan(
            [PlannedItem(index, VideoRequest(f"A cat {index}"), None, name) for index, name in enumerate(names)]
        )
        with pytest.raises(RequestValidationError, match="wanted by"):
            await journal.plan([PlannedItem(9, VideoRequest("A dog"), None, "0-cat.mp4")])
    assert [record.file for record in planned] == names
