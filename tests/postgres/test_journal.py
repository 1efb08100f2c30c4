"""What a journal that many processes share has to stand: races, lost answers, the dead and those taken for dead."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import psycopg
import pytest

from tests.helpers.postgres import Server, running
from tests.helpers.tcp_proxy import Proxy
from wanasync.edges.postgres import Database, Journal, planner, writer
from wanasync.errors import ConfigError, JournalError, RequestValidationError
from wanasync.models import VideoRequest
from wanasync.rules import claims
from wanasync.rules.claims import StaleClaimError, StrayTaskError
from wanasync.rules.lifecycle import ItemEvent, ItemState, TransitionError
from wanasync.rules.records import ItemRecord, PlannedItem

BATCH = "films"
ACCEPTED = {"task_id": "task-unified-1", "credits_reserved": 4.5}


@contextlib.asynccontextmanager
async def opened(
    dsn: str, *, patience: float = 30.0, answer_within: float = 20.0, **options: Any
) -> AsyncIterator[Journal]:
    database = Database(dsn, patience=patience, answer_within=answer_within)
    async with database, await Journal.open(database, BATCH, now=time.time, **options) as journal:
        yield journal


async def planned(journal: Journal, count: int) -> list[ItemRecord]:
    return await journal.plan([PlannedItem(index, VideoRequest(str(index))) for index in range(count)])


async def claim(journal: Journal, record: ItemRecord) -> ItemRecord | None:
    """None where somebody else was faster."""
    try:
        return await journal.claim(record, submitted_at=time.time())
    except TransitionError:
        return None


async def look(dsn: str, query: str) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        return await (await connection.execute(query.encode())).fetchall()


async def lose_connections(dsn: str) -> None:
    """As an administrator would, or a firewall."""
    others = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE 'wanasync %'"
    await look(dsn, others)


def through(dsn: str, server: Server, proxy: Proxy) -> str:
    return dsn.replace(f":{server.port}/", f":{proxy.port}/")


# Claims


async def test_of_two_that_race_for_a_thousand_items_each_item_has_one_winner(database: str) -> None:
    async with opened(database, shared=True) as one, opened(database, shared=True) as two:
        records = await planned(one, 1000)
        mine, theirs = await asyncio.gather(
            asyncio.gather(*(claim(one, record) for record in records)),
            asyncio.gather(*(claim(two, record) for record in reversed(records))),
        )
        assert len(won(mine)) + len(won(theirs)) == 1000
        assert won(mine).isdisjoint(won(theirs))
        assert (await one.counts())[ItemState.SUBMITTING] == 1000


def won(claimed: Sequence[ItemRecord | None]) -> set[str]:
    return {record.key for record in claimed if record is not None}


async def test_a_claim_whose_acknowledgement_was_lost_is_ours_once(postgres_server: Server, database: str) -> None:
    async with Proxy(postgres_server.port) as proxy, opened(through(database, postgres_server, proxy)) as journal:
        first, second = await planned(journal, 2)
        proxy.cut_after(b"COMMIT")
        claimed = await journal.claim(first, submitted_at=1.0)
        assert proxy.cuts == 1
        assert claimed.state is ItemState.SUBMITTING
        with pytest.raises(TransitionError):
            await journal.claim(first, submitted_at=2.0)
        proxy.cut_after(b"COMMIT")
        accepted = await journal.record(first.key, ItemEvent.ACCEPTED, **ACCEPTED)
        assert proxy.cuts == 2
        assert await journal.get(first.key) == accepted
        proxy.cut_after(b"COMMIT")
        assert await journal.plan([PlannedItem(0, VideoRequest("new"))])
        assert sum((await journal.counts()).values()) == 3
        assert await claim(journal, second)


async def test_a_connection_lost_before_the_commit_leaves_nothing_half_done(
    postgres_server: Server, database: str
) -> None:
    async with Proxy(postgres_server.port) as proxy, opened(through(database, postgres_server, proxy)) as journal:
        records = await planned(journal, 50)
        for _ in range(3):
            proxy.cut_after(b"FOR UPDATE")
            claimed = await asyncio.gather(*(claim(journal, record) for record in records))
            assert won(claimed) == {record.key for record in records}
            await asyncio.gather(*(journal.record(record.key, ItemEvent.NOT_TAKEN) for record in records))
        assert (await journal.counts())[ItemState.PLANNED] == 50


async def test_a_plan_that_is_made_again_takes_nothing_for_a_repetition(postgres_server: Server, database: str) -> None:
    async with opened(database) as journal:
        first = await planned(journal, 5)
    async with Proxy(postgres_server.port) as proxy:
        dsn = through(database, postgres_server, proxy)
        async with opened(dsn) as journal:
            proxy.cut_after(b"RELEASE")
            assert await planned(journal, 5) == first
            assert proxy.cuts == 1
            assert sum((await journal.counts()).values()) == 5
            assert not {record.key for record in await planned(journal, 5)} & {record.key for record in first}


async def test_a_claim_that_came_back_late_is_not_used(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "FRESH_SECONDS", 0.2)
    async with opened(database) as journal:
        (record,) = await planned(journal, 1)
        async with await psycopg.AsyncConnection.connect(database) as other:
            await other.execute("SELECT * FROM wanasync.progress FOR UPDATE")
            late = asyncio.ensure_future(journal.claim(record, submitted_at=1.0))
            await asyncio.sleep(0.3)
        with pytest.raises(StaleClaimError, match="took"):
            await late
        assert (await journal.get(record.key)).state is ItemState.PLANNED
        assert await claim(journal, record)


@pytest.mark.parametrize(
    ("event", "changes", "state"),
    [
        (ItemEvent.ACCEPTED, ACCEPTED, ItemState.ACCEPTED),
        (ItemEvent.NOT_TAKEN, {}, ItemState.PLANNED),
        (ItemEvent.REFUSED, {"error_code": "invalid"}, ItemState.REJECTED),
        (ItemEvent.REPLY_LOST, {"error_message": "reset"}, ItemState.UNKNOWN),
    ],
)
async def test_the_late_answer_of_one_taken_for_dead_wins(
    database: str, event: ItemEvent, changes: dict[str, Any], state: ItemState
) -> None:
    async with opened(database, shared=True) as frozen, opened(database, shared=True) as rescuer:
        (record,) = await planned(frozen, 1)
        await claim(frozen, record)
        assert await rescuer.settle_interrupted(60.0) == []
        (unknown,) = await rescuer.settle_interrupted(0.0)
        assert (unknown.state, unknown.error_code) == (ItemState.UNKNOWN, "interrupted")
        answered = await frozen.record(record.key, event, **changes)
        assert answered.state is state
        assert answered == await rescuer.get(record.key)


async def test_what_was_sent_again_meanwhile_keeps_its_task_and_the_late_one_beside_it(database: str) -> None:
    async with opened(database, shared=True) as frozen, opened(database, shared=True) as rescuer:
        (record,) = await planned(frozen, 1)
        await claim(frozen, record)
        (unknown,) = await rescuer.settle_interrupted(0.0)
        await rescuer.claim(unknown, submitted_at=5.0)
        second = await rescuer.record(record.key, ItemEvent.ACCEPTED, task_id="task-unified-2")
        with pytest.raises(StrayTaskError) as caught:
            await frozen.record(record.key, ItemEvent.ACCEPTED, **ACCEPTED)
        assert caught.value.task_id == "task-unified-1"
        assert await rescuer.get(record.key) == second
        assert set(await rescuer.known_tasks(["task-unified-1", "task-unified-2"])) == {
            "task-unified-1",
            "task-unified-2",
        }


async def test_a_late_refusal_says_nothing_of_what_was_sent_again(database: str) -> None:
    async with opened(database, shared=True) as frozen, opened(database, shared=True) as rescuer:
        (record,) = await planned(frozen, 1)
        await claim(frozen, record)
        (unknown,) = await rescuer.settle_interrupted(0.0)
        resubmitting = await rescuer.claim(unknown, submitted_at=5.0)
        with pytest.raises(TransitionError, match="taken over"):
            await frozen.record(record.key, ItemEvent.NOT_TAKEN)
        assert await rescuer.get(record.key) == resubmitting


async def test_a_task_that_another_found_first_is_no_news(database: str) -> None:
    async with opened(database, shared=True) as frozen, opened(database, shared=True) as rescuer:
        (record,) = await planned(frozen, 1)
        await claim(frozen, record)
        await rescuer.settle_interrupted(0.0)
        found = await rescuer.record(record.key, ItemEvent.RESOLVED, task_id="task-unified-1")
        assert await frozen.record(record.key, ItemEvent.ACCEPTED, **ACCEPTED) == found


async def test_a_claim_whose_maker_was_cancelled_is_given_back(database: str) -> None:
    async with opened(database, shared=True) as journal, opened(database, shared=True) as other:
        records = await planned(journal, 5)
        for turns, record in enumerate(records):
            claiming = asyncio.ensure_future(journal.claim(record, submitted_at=1.0))
            await asyncio.sleep(0.002 * turns)
            if claiming.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await claiming
            else:
                await journal.record(record.key, ItemEvent.NOT_TAKEN)
        await journal.set_meta("behind", "all of them")
        await journal.set_meta("and behind", "what they led to")
        assert (await other.counts())[ItemState.PLANNED] == 5
        assert len(won(await asyncio.gather(*(claim(other, record) for record in records)))) == 5


async def test_nobody_takes_its_own_claims_for_dead(database: str) -> None:
    async with opened(database, shared=True) as journal:
        (record,) = await planned(journal, 1)
        await claim(journal, record)
        assert await journal.settle_interrupted(0.0) == []


async def test_an_answer_to_somebody_elses_claim_is_refused(database: str) -> None:
    async with opened(database, shared=True) as one, opened(database, shared=True) as two:
        (record,) = await planned(one, 1)
        await claim(one, record)
        with pytest.raises(TransitionError, match="not claimed here"):
            await two.record(record.key, ItemEvent.NOT_TAKEN)


@pytest.mark.parametrize("word", [b"FOR UPDATE", b"INSERT INTO wanasync.progress", b"COMMIT"])
async def test_rows_that_a_writer_has_locked_when_it_is_cut_off_are_free_again_in_a_moment(
    postgres_server: Server, database: str, monkeypatch: pytest.MonkeyPatch, word: bytes
) -> None:
    monkeypatch.setattr(writer, "LET_GO", 0.3)
    async with Proxy(postgres_server.port) as proxy, opened(database, shared=True) as journal:
        records = await planned(journal, 300)
        async with opened(through(database, postgres_server, proxy), shared=True, patience=0.2) as cut_off:
            proxy.stop_within(word)
            lost = asyncio.gather(*(claim(cut_off, record) for record in records))
            await proxy.stopped.wait()
            # One who comes only now, and knows nothing of the other.
            async with opened(database, shared=True) as rescuer, asyncio.timeout(15):
                won_by_all = await asyncio.gather(*(claim(rescuer, record) for record in records))
                assert won(won_by_all) == {record.key for record in records}
            await proxy.vanish()
            lost.cancel()
            await asyncio.gather(lost, return_exceptions=True)


async def test_one_that_is_cut_off_amid_a_list_is_not_waited_for_without_a_word(
    postgres_server: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "TURN_WITHIN", 0.1)
    async with (
        Proxy(postgres_server.port) as proxy,
        opened(database, shared=True, patience=0.2) as waiting,
        opened(through(database, postgres_server, proxy), shared=True, patience=0.2) as cut_off,
    ):
        proxy.stop_within(b'{"prompt":"3"}')
        lost = asyncio.ensure_future(planned(cut_off, 5))
        await proxy.stopped.wait()
        with pytest.raises(JournalError, match="another process that hands a list in"):
            await waiting.plan([PlannedItem(0, VideoRequest("a"))])
        await proxy.vanish()
        lost.cancel()
        await asyncio.gather(lost, return_exceptions=True)
    async with opened(database, shared=True) as later:
        assert len(await planned(later, 5)) == 5


# Who works on a batch


async def test_those_who_share_a_batch_keep_out_one_who_wants_it_alone(database: str) -> None:
    async with opened(database, shared=True) as one, opened(database, shared=True):
        assert str(await one.holder()).count("process") == 2
        with pytest.raises(JournalError, match="in use by process"):
            await Journal.open(one.database, BATCH, now=time.time)
        async with await Journal.open(one.database, "another batch", now=time.time):
            pass
    async with opened(database) as journal:
        with pytest.raises(JournalError, match="in use by process"):
            await Journal.open(journal.database, BATCH, now=time.time, shared=True)


async def test_two_that_plan_at_once_number_their_rows_apart(database: str) -> None:
    async with opened(database, shared=True) as one, opened(database, shared=True) as two:
        first = [PlannedItem(index, VideoRequest(f"a{index}")) for index in range(300)]
        second = [PlannedItem(index, VideoRequest(f"b{index}")) for index in range(300)]
        parts = [(each, part[at : at + 50]) for each, part in ((one, first), (two, second)) for at in range(0, 300, 50)]
        plans = await asyncio.gather(*(each.plan(part) for each, part in parts))
        rows = [record.seq for plan in plans for record in plan]
        assert sorted(rows) == list(range(1, 601))
        assert [record.seq async for record in one.iter_items()] == sorted(rows)


async def test_one_that_plans_sees_what_another_has_planned_since(database: str) -> None:
    def item(prompt: str, name: str | None = None) -> list[PlannedItem]:
        return [PlannedItem(0, VideoRequest(prompt), prompt, name)]

    async with opened(database, shared=True) as one, opened(database, shared=True) as two:
        (cat,) = await one.plan(item("cat", "cat.mp4"))
        (dog,) = await two.plan(item("dog", "dog.mp4"))
        assert await one.plan(item("dog")) == [dog]
        # Adds no row, but takes a name.
        await two.plan(item("cat", "film.mp4"))
        with pytest.raises(RequestValidationError, match="is the file of item 'cat' too"):
            await one.plan(item("bird", "film.mp4"))
        assert [record.seq async for record in one.iter_items()] == [cat.seq, dog.seq]


async def test_one_whose_batch_was_taken_over_claims_nothing_more_but_tells_what_it_has_sent(
    postgres_server: Server, database: str
) -> None:
    async with Proxy(postgres_server.port) as proxy, opened(through(database, postgres_server, proxy)) as first:
        sent, waiting = await planned(first, 2)
        await claim(first, sent)
        proxy.partitioned = True
        await lose_connections(database)
        async with opened(database) as second:
            assert second.interrupted == 1
            proxy.partitioned = False
            accepted = await first.record(sent.key, ItemEvent.ACCEPTED, **ACCEPTED)
            assert await second.get(sent.key) == accepted
            with pytest.raises(JournalError, match="works on the batch now"):
                await first.claim(waiting, submitted_at=1.0)
            assert await claim(second, waiting)


# The database goes away


async def test_all_that_was_acknowledged_outlives_the_server_and_the_rest_is_made_good() -> None:
    with running() as server:
        async with opened(server.new_database()) as journal:
            records = await planned(journal, 300)
            for at, how in ((0, signal.SIGQUIT), (150, signal.SIGKILL)):
                work = [asyncio.ensure_future(bring_to_acceptance(journal, each)) for each in records[at : at + 150]]
                await asyncio.sleep(0.03)
                server.stop(how)
                await asyncio.to_thread(server.start)
                finished = await asyncio.gather(*work)
                assert {record.state for record in finished} == {ItemState.ACCEPTED}
                kept = await journal.find([record.key for record in finished])
                assert kept == {record.key: record for record in finished}


async def bring_to_acceptance(journal: Journal, record: ItemRecord) -> ItemRecord:
    await journal.claim(record, submitted_at=1.0)
    return await journal.record(record.key, ItemEvent.ACCEPTED, task_id=f"task-unified-{record.seq}")


async def test_a_database_that_stays_away_is_told_of_and_nothing_is_dropped_in_silence(
    postgres_server: Server, database: str
) -> None:
    async with Proxy(postgres_server.port) as proxy:
        dsn = through(database, postgres_server, proxy)
        async with opened(dsn, patience=0.3, answer_within=1.0) as journal:
            records = await planned(journal, 10)
            await proxy.vanish()
            attempts = [claim(journal, record) for record in records]
            for answer in await asyncio.gather(*attempts, return_exceptions=True):
                assert isinstance(answer, JournalError)
                assert "could not be written" in str(answer)
            with pytest.raises(JournalError):
                await journal.claim(records[0], submitted_at=1.0)
            with pytest.raises(JournalError, match="could not be read"):
                await journal.counts()


async def test_a_network_that_swallows_everything_for_a_while_costs_time_only(
    postgres_server: Server, database: str
) -> None:
    async with Proxy(postgres_server.port) as proxy:
        dsn = through(database, postgres_server, proxy)
        async with opened(dsn, answer_within=0.3) as journal:
            records = await planned(journal, 10)
            proxy.partitioned = True
            work = [asyncio.ensure_future(bring_to_acceptance(journal, record)) for record in records]
            await asyncio.sleep(0.6)
            proxy.partitioned = False
            assert {record.state for record in await asyncio.gather(*work)} == {ItemState.ACCEPTED}


# How it is written


async def test_many_at_once_share_a_commit(database: str) -> None:
    async with opened(database) as journal:
        records = await planned(journal, 100)
        before = await commits(database)
        await asyncio.gather(*(bring_to_acceptance(journal, record) for record in records))
        assert await commits(database) - before <= 20


async def commits(dsn: str) -> int:
    ((number,),) = await look(dsn, "SELECT sum(commits) FROM wanasync.writer")
    return int(number)


async def test_a_writer_that_has_ended_leaves_no_trace_of_itself(database: str) -> None:
    async with opened(database) as journal:
        await planned(journal, 1)
        assert await look(database, "SELECT count(*) FROM wanasync.writer") == [(1,)]
    assert await look(database, "SELECT count(*) FROM wanasync.writer") == [(0,)]


async def test_a_row_that_no_run_can_have_written_is_not_followed(database: str) -> None:
    async with opened(database) as journal:
        (record,) = await planned(journal, 1)
        await look(database, "UPDATE wanasync.item SET file = '../../etc/passwd' RETURNING 1")
        with pytest.raises(JournalError, match="is damaged"):
            await journal.get(record.key)


async def test_an_id_that_the_database_cannot_keep_is_refused_by_name(database: str) -> None:
    async with opened(database) as journal:
        with pytest.raises(RequestValidationError, match="without NUL"):
            await journal.plan([PlannedItem(0, VideoRequest("a"), "a\0b")])
        assert await planned(journal, 1)


# Opening


async def test_the_password_is_in_no_error_and_no_name(postgres_server: Server, database: str) -> None:
    dsn = database.replace("wan@", "wan:s3cret@").replace(f":{postgres_server.port}/", ":1/")
    with pytest.raises(JournalError) as caught:
        await Journal.open(dsn, BATCH, now=time.time)
    assert "s3cret" not in f"{caught.value!r} {caught.value} {caught.value.__cause__}"
    with pytest.raises(ConfigError) as wrong:
        Database("postgresql://wan:s3cret@host:notaport/x?y=s3cret")
    assert "s3cret" not in f"{wrong.value!r} {wrong.value} {wrong.value.__cause__}"


# For those who look on


async def test_changes_are_told_once_whatever_the_clocks_of_the_writers_say(database: str) -> None:
    def slow() -> float:
        return time.time() - 3600.0

    async with (
        opened(database, shared=True) as right,
        await Journal.open(database, BATCH, now=slow, shared=True) as late,
        await Journal.open(database, BATCH, now=time.time, read_only=True) as reader,
    ):
        records = await planned(right, 4)
        await claim(right, records[0])
        mark = await reader.mark()
        assert (await reader.changes(mark))[1] == []
        await claim(late, records[1])
        mark, changed = await reader.changes(mark)
        assert [record.seq for record in changed] == [2]
        await claim(right, records[2])
        await late.plan([PlannedItem(4, VideoRequest("another"))])
        mark, changed = await reader.changes(mark)
        assert [record.seq for record in changed] == [3, 5]
        assert (await reader.changes(mark))[1] == []


async def test_a_change_whose_commit_comes_late_is_not_missed(database: str) -> None:
    async with opened(database, shared=True) as journal, opened(database, read_only=True) as reader:
        first, second = await planned(journal, 2)
        async with await psycopg.AsyncConnection.connect(database) as slow:
            # A writer within its transaction, while another one is seen.
            await slow.execute("UPDATE wanasync.progress SET state = 5, tx = pg_current_xact_id() WHERE seq = 1")
            await claim(journal, second)
            mark, changed = await reader.changes(await reader.mark())
            assert changed == []
            await claim(journal, second)
            await slow.commit()
        _, changed = await reader.changes(mark)
        assert [record.seq for record in changed] == [first.seq]


@pytest.mark.parametrize(
    "mark", ["", "1", "0:0:", "3:2:", "1:5:4,2", "1:5:9", "a:b:", "1:2:3:4", f"{10**19}:{10**19}:"]
)
async def test_what_is_no_mark_is_told(database: str, mark: str) -> None:
    async with opened(database, shared=True) as journal:
        with pytest.raises(ValueError, match="is no mark"):
            await journal.changes(mark)
