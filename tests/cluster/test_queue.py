"""The engine as the cluster asks for it: chunks come once, come back from the dead, and leave nothing behind."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from tests.helpers.postgres import Server
from tests.helpers.tcp_proxy import Proxy
from wanasync import ConfigError, JournalError
from wanasync.cluster import Chunk, ProcrastinateQueue, set_up
from wanasync.cluster.engine import SAVE, WORK, Queue

LANES = (WORK, SAVE)


def chunks(count: int) -> list[Chunk]:
    return [Chunk("films", "/videos", 10 * number + 1, 10 * number + 10) for number in range(count)]


async def look(dsn: str, query: str) -> list[tuple[object, ...]]:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        cursor = await connection.execute(query.encode())
        return await cursor.fetchall() if cursor.description else []


async def test_each_chunk_is_taken_once_in_its_order_and_done_ones_are_gone(cluster: str) -> None:
    async with ProcrastinateQueue(cluster) as one, ProcrastinateQueue(cluster) as two:
        queue: Queue = one
        await queue.put(chunks(5))
        held = [await (one, two)[number % 2].take(LANES) for number in range(5)]
        assert [each.chunk for each in held if each] == chunks(5)
        assert await one.take(LANES) is None
        assert sorted(await two.chunks("films"), key=lambda chunk: chunk.first) == chunks(5)
        assert await two.chunks("another") == []
        for number, each in enumerate(held):
            assert each is not None
            await (one, two)[number % 2].done(each)
        assert await look(cluster, "SELECT * FROM wanasync_queue.procrastinate_jobs") == []
        assert await look(cluster, "SELECT * FROM wanasync_queue.procrastinate_events") == []


async def test_a_chunk_that_is_given_back_comes_again_at_once_later_or_in_the_other_lane(cluster: str) -> None:
    async with ProcrastinateQueue(cluster) as queue:
        await queue.put(chunks(3))
        for options in ({}, {"after": 60.0}, {"lane": SAVE}):
            held = await queue.take([WORK])
            assert held is not None
            await queue.give_back(held, **options)
            if not options:
                again = await queue.take([WORK])
                assert again is not None
                assert again.chunk == held.chunk
                await queue.done(again)
        assert await queue.take([WORK]) is None
        saved = await queue.take([SAVE])
        assert saved is not None
        assert saved.chunk == chunks(3)[2]


@pytest.mark.parametrize("taker", ["is done", "is at it", "has not come"])
async def test_what_the_silent_have_left_undone_is_handed_in_anew(cluster: str, taker: str) -> None:
    """Its late answers may have come after whoever took the chunk over had ended it."""
    async with (
        ProcrastinateQueue(cluster, rescue_after=0.3) as silent,
        ProcrastinateQueue(cluster, rescue_after=0.3) as alive,
    ):
        await silent.put(chunks(1))
        held = await silent.take(LANES)
        assert held is not None
        await asyncio.sleep(0.4)
        assert await alive.rescue() == 1
        taken = None if taker == "has not come" else await alive.take(LANES)
        if taken is not None and taker == "is done":
            await alive.done(taken)
        assert not await silent.beat()
        await silent.give_back(held)
        if taken is not None and taker == "is at it":
            await alive.done(taken)
        again = await alive.take(LANES)
        assert again is not None
        assert again.chunk == held.chunk
        assert await alive.take(LANES) is None


async def test_what_the_silent_hold_is_handed_out_anew_and_they_start_over(cluster: str) -> None:
    async with (
        ProcrastinateQueue(cluster, rescue_after=0.3) as silent,
        ProcrastinateQueue(cluster, rescue_after=0.3) as alive,
    ):
        await silent.put(chunks(1))
        held = await silent.take(LANES)
        assert held is not None
        assert await alive.rescue() == 0
        await asyncio.sleep(0.4)
        assert await alive.rescue() == 1
        taken = await alive.take(LANES)
        assert taken is not None
        assert taken.chunk == held.chunk
        # It can't end what it holds no longer.
        await silent.done(held)
        assert not await silent.beat()
        assert await alive.chunks("films") == chunks(1)
        assert await alive.take(LANES) is None
        await alive.done(taken)
        assert await silent.take(LANES) is None


async def test_one_that_was_struck_off_meanwhile_takes_nothing_and_starts_over(cluster: str) -> None:
    async with ProcrastinateQueue(cluster) as queue:
        await queue.put(chunks(1))
        await queue.beat()
        await look(cluster, "DELETE FROM wanasync_queue.procrastinate_workers")
        assert await queue.take(LANES) is None
        assert not await queue.beat()
        held = await queue.take(LANES)
        assert held is not None
        assert await queue.beat()
        await queue.done(held)


async def test_rows_left_doing_when_their_worker_was_pruned_are_rescued(cluster: str) -> None:
    async with ProcrastinateQueue(cluster) as pruned, ProcrastinateQueue(cluster) as alive:
        await pruned.put(chunks(1))
        assert await pruned.take(LANES) is not None
        await look(cluster, "DELETE FROM wanasync_queue.procrastinate_workers WHERE true RETURNING id")
        assert await look(cluster, "SELECT status, worker_id FROM wanasync_queue.procrastinate_jobs") == [
            ("doing", None)
        ]
        assert await alive.rescue() == 1
        assert await alive.take(LANES) is not None


async def test_a_chunk_whose_handing_over_was_lost_on_its_way_is_not_lost(
    postgres_server: Server, cluster: str
) -> None:
    async with Proxy(postgres_server.port) as proxy:
        through = cluster.replace(f":{postgres_server.port}/", f":{proxy.port}/")
        async with ProcrastinateQueue(through) as queue:
            await queue.put(chunks(1))
            assert await queue.beat()
            proxy.cut_after(b"COMMIT")
            first = await queue.take(LANES)
            assert proxy.cuts == 1
            assert first is None
            assert await queue.beat()
            found = await queue.take(LANES)
            assert found is not None
            assert found.chunk == chunks(1)[0]


async def test_one_that_waits_hears_of_new_chunks(cluster: str) -> None:
    async with ProcrastinateQueue(cluster) as waiting, ProcrastinateQueue(cluster) as other:
        await waiting.wait(0.5)
        heard = asyncio.create_task(waiting.wait(60))
        await other.put(chunks(1))
        async with asyncio.timeout(20):
            await heard


async def test_taking_a_chunk_looks_at_the_first_ones_though_the_server_has_no_statistics_yet(cluster: str) -> None:
    """A list was handed in a moment ago: what it takes for few jobs it would sort, all of them for each taker."""
    await look(cluster, "ALTER TABLE wanasync_queue.procrastinate_jobs SET (autovacuum_enabled = off)")
    async with ProcrastinateQueue(cluster) as queue:
        await queue.put(chunks(2000))
    before = await looks_settled(cluster)
    async with ProcrastinateQueue(cluster) as queue:
        for _ in range(3):
            assert await queue.take(LANES) is not None
    assert 3 <= await looks_settled(cluster, before) - before < 1000


async def looks_settled(dsn: str, before: int = 0) -> int:
    """How often the jobs were looked at; connections tell it when they end."""
    asked = "SELECT coalesce(sum(idx_scan + seq_scan), 0) FROM pg_stat_user_tables WHERE relname = 'procrastinate_jobs'"
    async with asyncio.timeout(20):
        while (looks := int(str((await look(dsn, asked))[0][0]))) <= before:  # noqa: ASYNC110 - the table is looked at
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        return max(looks, int(str((await look(dsn, asked))[0][0])))


async def test_setting_up_again_changes_nothing_and_a_role_may_do_what_workers_do(
    postgres_server: Server, database: str
) -> None:
    name = database.rsplit("/", 1)[1]
    postgres_server.execute("DROP ROLE IF EXISTS wan_worker")
    postgres_server.execute("CREATE ROLE wan_worker LOGIN")
    try:
        await set_up(database, role="wan_worker")
        await set_up(database, role="wan_worker")
        dsn = postgres_server.dsn(name, user="wan_worker")
        async with ProcrastinateQueue(dsn) as queue:
            await queue.put(chunks(2))
            for end in (queue.done, queue.give_back):
                held = await queue.take(LANES)
                assert held is not None
                await end(held)
            assert await queue.beat()
            assert await queue.rescue() == 0
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await look(dsn, "DROP TABLE wanasync_queue.procrastinate_jobs")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await look(dsn, "DELETE FROM wanasync.item RETURNING 1")
    finally:
        postgres_server.execute("DROP OWNED BY wan_worker", name)
        postgres_server.execute("DROP ROLE wan_worker")


async def test_a_database_without_tables_or_without_a_server_is_told(database: str) -> None:
    with pytest.raises(JournalError, match="wanasync cluster init"):
        async with ProcrastinateQueue(database):
            pass
    with pytest.raises(JournalError, match="out of order") as caught:
        async with ProcrastinateQueue("postgresql://wan:s3cret@127.0.0.1:1/films"):
            pass
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ConfigError):
        ProcrastinateQueue("postgresql://wan:s3cret@host:notaport/x?y=s3cret")


async def test_a_database_that_does_not_answer_for_a_while_is_waited_for(
    postgres_server: Server, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Proxy(postgres_server.port) as proxy:
        through = cluster.replace(f":{postgres_server.port}/", f":{proxy.port}/")
        async with ProcrastinateQueue(through) as queue:
            await queue.put(chunks(1))
            monkeypatch.setattr("wanasync.cluster.queue.ANSWER_WITHIN", 0.3)
            proxy.partitioned = True
            taking = asyncio.create_task(queue.take(LANES))
            await asyncio.sleep(0.6)
            proxy.partitioned = False
            async with asyncio.timeout(20):
                held = await taking
                # One whose answer was lost is found again by its holder.
                while held is None:
                    await queue.beat()
                    held = await queue.take(LANES)
            assert held.chunk == chunks(1)[0]
