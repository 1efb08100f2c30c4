"""Files are written where the user asked for them, whatever ids, prompts, lists, journals and links in the way say."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.helpers.emulated import emulated
from tests.helpers.video_host import VideoHost, film, video_host
from tests.security.fuzz_journals import NOW, SpoiltRow, answered, columns, journal, work_with
from wanasync import BatchItem, Config, DownloadError, JournalError, OutcomeState, RequestValidationError, VideoRequest
from wanasync.edges.download import fetch
from wanasync.edges.journal import FOLDER
from wanasync.edges.journal.store import Store
from wanasync.edges.lock import DirectoryLock, holder_of
from wanasync.edges.transport import Transport
from wanasync.emulator import Emulator
from wanasync.emulator.tasks import TaskBook
from wanasync.rules.naming import file_name, is_inside, wanted_name
from wanasync.testing import virtual_time

PRECIOUS = "process of making tea, which must not be touched"


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A file of the user's, outside the directory of the videos."""
    file = tmp_path / "precious"
    file.write_text(PRECIOUS)
    return file


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    directory = tmp_path / "videos"
    directory.mkdir()
    return directory


@pytest.fixture
async def host() -> AsyncIterator[VideoHost]:
    async with video_host(film(50_000)) as serving:
        yield serving


async def download(host: VideoHost, target: Path) -> None:
    async with Transport(Config(api_key="k" * 20, base_url="http://127.0.0.1:1")) as transport:
        await fetch(transport, host.link, target, task_id="task-1")


# --- names -----------------------------------------------------------------------------------------------------------

HOSTILE = [
    "../../etc/cron.d/x",
    "..",
    "/etc/passwd",
    "\\\\server\\share",
    "C:\\Windows\\x",
    ".bashrc",
    ".wanasync/journal.db",
    "a/../../b",
    "~/x",
    "-rf",
    "con",
    "x\0.mp4",
    "x\n.mp4",
    "x\x1b[2J",
    "photo\u202egpj.exe",
    "x" * 4000,
    "\ud800",
    "file:stream",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_names_made_of_ids_and_prompts_stay_in_the_directory(text: str) -> None:
    for name in (file_name(text, 0), file_name("a cat", 0, text)):
        assert is_inside(name)
        assert "/" not in name
        assert name.isprintable()
        assert not name.startswith("-")
        assert len(os.fsencode(name)) < 200


@pytest.mark.parametrize("text", [text for text in HOSTILE if text not in ("-rf", "~/x")])
def test_a_hostile_name_in_the_file_column_is_refused(text: str) -> None:
    with pytest.raises(RequestValidationError):
        wanted_name(text)


@virtual_time
async def test_a_batch_of_hostile_names_writes_nothing_outside(videos: Path) -> None:
    sendable = [text for text in HOSTILE if text != "\ud800"]
    items = [BatchItem(VideoRequest("a cat"), id=text) for text in sendable]
    items += [BatchItem(VideoRequest(f"a dog {place}"), file=text) for place, text in enumerate(sendable)]
    async with emulated() as (_, wan), wan.batch(items, videos) as batch:
        told = [outcome async for outcome in batch]
    for outcome in told:
        assert outcome.state in (OutcomeState.SAVED, OutcomeState.REJECTED)
        assert outcome.path is None or outcome.path.resolve().is_relative_to(videos.resolve())
    assert os.listdir(videos.parent) == ["videos"]


@virtual_time
async def test_a_task_id_leads_nowhere_else(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The id is the provider's: any printable ASCII, since refusing it would lose what was paid for."""
    monkeypatch.setattr(TaskBook, "new_id", lambda *_: "task/../../outside", raising=False)
    async with emulated() as (emu, wan):
        task = wan.attach((await wan.submit("a cat")).id)
        renamed = wan.attach("../../outside")
        renamed.snapshot = await task.wait()
        video = await renamed.save(videos)
    assert video.path.parent == videos
    assert os.listdir(videos.parent) == ["videos"]
    assert isinstance(emu, Emulator)


# --- links in the directory of the videos ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cat.mp4", ".cat.mp4.part", ".cat.mp4.part.json"])
async def test_a_planted_link_is_not_written_through(name: str, host: VideoHost, videos: Path, precious: Path) -> None:
    (videos / name).symlink_to(precious)
    with contextlib.suppress(DownloadError):
        await download(host, videos / "cat.mp4")
    assert precious.read_text() == PRECIOUS


@pytest.mark.parametrize("name", ["cat.mp4", ".cat.mp4.part", ".cat.mp4.part.json"])
async def test_a_planted_link_makes_no_file_where_it_leads(name: str, host: VideoHost, videos: Path) -> None:
    elsewhere = videos.with_name("elsewhere")
    (videos / name).symlink_to(elsewhere)
    with contextlib.suppress(DownloadError):
        await download(host, videos / "cat.mp4")
    assert not elsewhere.exists()


@pytest.mark.parametrize("name", [".cat.mp4.part", ".cat.mp4.part.json"])
async def test_a_planted_hard_link_is_not_written_through(
    name: str, host: VideoHost, videos: Path, precious: Path
) -> None:
    os.link(precious, videos / name)
    await download(host, videos / "cat.mp4")
    assert precious.read_text() == PRECIOUS
    assert (videos / "cat.mp4").read_bytes() == host.video


@pytest.mark.parametrize("name", [".cat.mp4.part", ".cat.mp4.part.json"])
async def test_a_planted_pipe_holds_up_nothing(name: str, host: VideoHost, videos: Path) -> None:
    os.mkfifo(videos / name)
    with contextlib.suppress(DownloadError):
        await download(host, videos / "cat.mp4")


async def test_a_planted_endless_record_is_not_read_whole(host: VideoHost, videos: Path) -> None:
    (videos / ".cat.mp4.part").write_bytes(host.video[:100])
    with (videos / ".cat.mp4.part.json").open("wb") as record:
        record.truncate(2**40)
    await download(host, videos / "cat.mp4")
    assert (videos / "cat.mp4").read_bytes() == host.video


# --- the journal's directory, made by somebody else ------------------------------------------------------------------


def test_the_lock_is_not_written_through_a_link(videos: Path, precious: Path) -> None:
    (videos / FOLDER).mkdir()
    (videos / FOLDER / "lock").symlink_to(precious)
    with pytest.raises(JournalError):
        work_with(videos)
    assert precious.read_text() == PRECIOUS


def test_a_file_that_is_no_lock_is_not_overwritten(videos: Path) -> None:
    lock = videos / "lock"
    lock.write_text("notes")
    with pytest.raises(JournalError, match="not a lock"):
        DirectoryLock(lock).acquire()
    assert lock.read_text() == "notes"
    lock.write_bytes(b"\0" * 20)  # what a power cut leaves of one
    DirectoryLock(lock).acquire()


def test_what_a_lock_says_can_not_act_on_the_terminal(videos: Path) -> None:
    holder = DirectoryLock(videos / "lock")
    holder.acquire()
    (videos / "lock").write_text("process 1 \x1b]0;pwned\x07\u202e on here\nfake line")
    assert (holder_of(videos / "lock") or "").isprintable()
    holder.release()


@pytest.mark.parametrize("reached", [FOLDER, f"{FOLDER}/journal.db"])
@pytest.mark.parametrize("read_only", [True, False])
def test_a_journal_is_not_reached_through_a_link(reached: str, read_only: bool, videos: Path) -> None:
    with journal() as elsewhere:
        target = elsewhere / reached
        if reached != FOLDER:
            (videos / FOLDER).mkdir()
        (videos / reached).symlink_to(target)
        before = {path.name: path.read_bytes() for path in (elsewhere / FOLDER).iterdir()}
        with pytest.raises(JournalError, match="symbolic link"):
            work_with(videos, read_only=read_only)
        assert {path.name: path.read_bytes() for path in (elsewhere / FOLDER).iterdir()} == before


@pytest.mark.parametrize(
    "file",
    ["/etc/passwd.mp4", "../outside.mp4", "a/../../outside.mp4", ".hidden.mp4", "a/.b/c.mp4", "C:x.mp4", "a\\..\\b.mp4",
     "Makefile", " ", "a//b.mp4", "x\0.mp4"],
)  # fmt: skip
@pytest.mark.parametrize("read_only", [True, False])
def test_a_row_whose_file_lies_elsewhere_is_refused(file: str, read_only: bool) -> None:
    with journal() as directory:
        work_with(directory, read_only=read_only)
        SpoiltRow("item", "file", file, seq=5).apply(directory)
        with pytest.raises(JournalError, match="malformed row 5"):
            work_with(directory, read_only=read_only)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("idx", "first"),
        ("file", b"x.mp4"),
        ("item_id", b"\xff"),
        ("state", 99),
        ("task_id", "task 1\x1b[2J"),
        ("credits_reserved", "many"),
        ("credits_used", float("inf")),
        ("links", '{"a": 1}'),
        ("links", "[1]"),
        ("links", "[" * 50_000),
        ("sha256", b"short"),
        ("bytes", "many"),
    ],
)
def test_a_row_of_wrong_types_is_refused(column: str, value: object) -> None:
    table = next(table for table in ("item", "progress", *columns()) if column in columns()[table])
    with journal() as directory:
        SpoiltRow(table, column, value, seq=5).apply(directory)
        with pytest.raises(JournalError, match="malformed row 5"):
            work_with(directory)


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [("meta", "value", b"\xff"), ("tally", "items", "many"), ("progress", "seq", 2**62)],
)
def test_figures_that_can_not_be_are_refused(table: str, column: str, value: object) -> None:
    with journal() as directory:
        SpoiltRow(table, column, value, seq=6 if table == "progress" else None).apply(directory)
        with pytest.raises(JournalError):
            _ask_all(directory)


def _ask_all(directory: Path) -> None:
    store = Store(directory, read_only=True)
    try:
        store.open(NOW)
        answered(store, store.counts)
        answered(store, store.totals)
    finally:
        store.close()


PROGRAMS = [
    "CREATE TRIGGER evil AFTER UPDATE ON progress BEGIN UPDATE item SET file = '/etc/cron.d/x.mp4'; END",
    "CREATE VIEW evil AS SELECT 1",
    "CREATE TABLE evil (x)",
    "CREATE INDEX evil ON item(file) WHERE file LIKE '%x%'",
    "ALTER TABLE meta ADD COLUMN evil AS (zeroblob(1000000000))",
    "DROP TABLE tally",
    "DROP TABLE name; CREATE VIEW name AS WITH RECURSIVE r(hash) AS (SELECT 1 UNION ALL SELECT hash + 1 FROM r) "
    "SELECT hash, hash AS seq FROM r",
]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("read_only", [True, False])
def test_a_database_with_a_program_of_its_own_is_refused(program: str, read_only: bool) -> None:
    """SQL that our queries would run, and endless views that they would read."""
    with journal() as directory:
        with contextlib.closing(sqlite3.connect(directory / FOLDER / "journal.db")) as db:
            db.executescript(program)
        with pytest.raises(JournalError, match="not built like one"):
            work_with(directory, read_only=read_only)


def test_another_programs_database_is_left_as_it_is(videos: Path) -> None:
    (videos / FOLDER).mkdir()
    file = videos / FOLDER / "journal.db"
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE bookmarks (url)")
    before = file.read_bytes()
    with pytest.raises(JournalError, match="not a journal"):
        work_with(videos)
    assert file.read_bytes() == before
