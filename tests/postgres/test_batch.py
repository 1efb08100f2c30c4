"""A batch whose journal is in PostgreSQL: the same promises as with one in the directory."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.helpers.emulated import session_on
from wanasync import BatchHistory, ConfigError, Outcome, OutcomeState, PostgresJournal, WanSession
from wanasync.emulator import Emulator
from wanasync.rules import claims

PROMPTS = [f"A cat, take {number}" for number in range(8)]


async def told_by(wan: WanSession, directory: Path, journal: PostgresJournal | str) -> list[Outcome]:
    async with wan.batch(PROMPTS, to=directory, journal=journal) as batch:
        return [outcome async for outcome in batch]


def real_time(emu: Emulator) -> WanSession:
    """On the machine's clock: a database is no part of virtual time."""
    return WanSession(config=session_on(emu).config)


async def test_a_batch_is_saved_told_and_found_again_from_another_directory(database: str, tmp_path: Path) -> None:
    journal = PostgresJournal(database, batch="cats")
    async with Emulator(durations=0.2) as emu, real_time(emu) as wan:
        first = await told_by(wan, tmp_path / "here", journal)
        assert [outcome.state for outcome in first] == [OutcomeState.SAVED] * len(PROMPTS)
        again = await told_by(wan, tmp_path / "here", journal)
        assert all(outcome.resumed for outcome in again)
        assert len(emu.ledger.entries) == len(PROMPTS)
    async with BatchHistory(tmp_path / "elsewhere", journal=journal) as history:
        status = await history.status()
        assert (status.saved, status.items, status.running) == (len(PROMPTS), len(PROMPTS), None)
    assert not (tmp_path / "here" / ".wanasync").exists()


async def test_an_address_alone_names_the_batch_by_its_directory(database: str, tmp_path: Path) -> None:
    async with Emulator(durations=0.2) as emu, real_time(emu) as wan:
        for name in ("one", "two"):
            assert len(await told_by(wan, tmp_path / name, database)) == len(PROMPTS)
        assert len(emu.ledger.entries) == 2 * len(PROMPTS)


async def test_what_a_batch_left_on_the_way_the_next_one_brings_home(database: str, tmp_path: Path) -> None:
    async with Emulator(durations=0.5) as emu:
        async with real_time(emu) as wan, wan.batch(PROMPTS, to=tmp_path, journal=database) as batch:
            async with asyncio.timeout(20):
                while batch.progress().following < 3:  # noqa: ASYNC110 - progress is looked at
                    await asyncio.sleep(0.01)
        async with real_time(emu) as wan:
            told = await told_by(wan, tmp_path, database)
        assert {outcome.state for outcome in told} == {OutcomeState.SAVED}
        assert len(emu.ledger.entries) == len(PROMPTS)


async def test_an_item_whose_claim_grew_stale_is_sent_in_another_turn(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = iter([True, True])
    monkeypatch.setattr("wanasync.edges.postgres.journal.is_stale", lambda age: next(stale, claims.is_stale(age)))
    async with Emulator(durations=0.2) as emu, real_time(emu) as wan:
        told = await told_by(wan, tmp_path, database)
        assert [outcome.state for outcome in told] == [OutcomeState.SAVED] * len(PROMPTS)
        assert len(emu.ledger.entries) == len(PROMPTS)
    assert next(stale, None) is None


async def test_without_the_extra_a_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("wanasync.edges.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("wanasync.edges.postgres", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"pip install 'wanasync\[cluster\]'"):
        async with BatchHistory(tmp_path, journal="postgresql://nobody@127.0.0.1:1/x"):
            pass
