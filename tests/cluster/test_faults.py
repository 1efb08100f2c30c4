"""What goes wrong between machines: processes killed and frozen, the database crashed, the network cut.

Each ends with every item paid once and saved, or told as unknown.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.cluster.working import hand_in, settled, until_stands, worker_process, working
from tests.helpers.postgres import Server, running
from tests.helpers.tcp_proxy import Proxy
from wanasync import BatchStatus
from wanasync.cluster import set_up
from wanasync.emulator import Emulator

ITEMS = 60
SHORT = {"connect_timeout": 1.0, "read_timeout": 1.0}


def nothing_lost(emu: Emulator, status: BatchStatus, items: int = ITEMS) -> None:
    """Paid for once, saved; or told as unknown."""
    assert emu.ledger.paid_twice() == {}
    assert status.saved + status.unknown == items, status
    keys = [entry.idempotency_key for entry in emu.ledger.entries]
    assert len(keys) == len(set(keys))
    assert status.saved <= len(keys) <= status.saved + status.unknown


def slow() -> Emulator:
    """With submissions that take their time, so that some are on the wire at any moment."""
    return Emulator(durations=1.0, queue_time=0.1, latency=0.1)


async def test_a_worker_that_is_killed_costs_no_item(cluster: str, tmp_path: Path) -> None:
    await hand_in(cluster, tmp_path / "videos", ITEMS)
    async with slow() as emu:
        with worker_process(cluster, emu, read_timeout=1.0) as process:
            await until_stands(cluster, following=10)
            process.send_signal(signal.SIGKILL)
        async with working(cluster, emu, config=SHORT):
            nothing_lost(emu, await settled(cluster, ITEMS))


async def test_one_that_was_frozen_for_longer_than_the_rescue_pays_for_nothing_twice(
    cluster: str, tmp_path: Path
) -> None:
    await hand_in(cluster, tmp_path / "videos", ITEMS)
    async with slow() as emu:
        with worker_process(cluster, emu, read_timeout=1.0) as process:
            await until_stands(cluster, following=10)
            process.send_signal(signal.SIGSTOP)
            async with working(cluster, emu, config=SHORT):
                await settled(cluster, ITEMS)
                process.send_signal(signal.SIGCONT)
                await asyncio.sleep(1.0)
                process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(process.wait, 60) == 0
                # What it knew of its own wins over unknown, and whoever is left sees that through.
                nothing_lost(emu, await settled(cluster, ITEMS))


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGKILL])
async def test_a_database_that_crashes_is_waited_for(tmp_path: Path, how: signal.Signals) -> None:
    with running() as server:
        dsn = server.new_database()
        await set_up(dsn)
        await hand_in(dsn, tmp_path / "videos", ITEMS)
        async with slow() as emu, working(dsn, emu, rescue_after=20.0), working(dsn, emu, rescue_after=20.0):
            await until_stands(dsn, following=10)
            await asyncio.to_thread(server.stop, how)
            await asyncio.sleep(0.3)
            await asyncio.to_thread(server.start)
            status = await settled(dsn, ITEMS)
            nothing_lost(emu, status)
            assert status.unknown == 0


async def test_one_that_is_cut_off_amid_a_sentence_costs_no_item_though_help_comes_only_later(
    postgres_server: Server, cluster: str, tmp_path: Path
) -> None:
    await hand_in(cluster, tmp_path / "videos", ITEMS)
    async with slow() as emu, Proxy(postgres_server.port) as proxy:
        through = cluster.replace(f":{postgres_server.port}/", f":{proxy.port}/")
        with worker_process(through, emu, read_timeout=1.0):
            await until_stands(cluster, following=10)
            # Its rows are locked, and what is to be done with them is on its way.
            proxy.stop_within(b"INSERT INTO wanasync.progress")
            await proxy.stopped.wait()
            proxy.partitioned = True
            async with working(cluster, emu, config=SHORT):
                nothing_lost(emu, await settled(cluster, ITEMS))


async def test_one_that_is_cut_off_from_the_database_costs_no_item(
    postgres_server: Server, cluster: str, tmp_path: Path
) -> None:
    await hand_in(cluster, tmp_path / "videos", ITEMS)
    async with slow() as emu, Proxy(postgres_server.port) as proxy, working(cluster, emu, config=SHORT, ahead=5):
        through = cluster.replace(f":{postgres_server.port}/", f":{proxy.port}/")
        with worker_process(through, emu, read_timeout=1.0):
            await until_stands(cluster, following=15)
            proxy.partitioned = True
            await settled(cluster, ITEMS)
            proxy.partitioned = False
            await asyncio.sleep(1.0)
            nothing_lost(emu, await settled(cluster, ITEMS))
