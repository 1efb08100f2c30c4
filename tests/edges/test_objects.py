"""Against an S3 server: what is told uploaded is there, whole; nobody's object is replaced; nothing is left behind."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks
from tests.helpers.s3 import S3, cut_in_upload, lose_reply, refuse, s3, s3_machine, slow_down
from wanasync import ConfigError, DownloadError, SavedVideo
from wanasync.edges import objects
from wanasync.edges.objects import Inventory, Shelf, UploadError

__all__ = ["s3", "s3_machine"]

CONTENT = bytes(range(256)) * 40
LARGE = bytes(range(256)) * 4 * 1024 * 11  # two parts of 5 MiB and a rest


def video(tmp_path: Path, content: bytes = CONTENT, task_id: str = "task-1") -> SavedVideo:
    path = tmp_path / "cat.mp4"
    path.write_bytes(content)
    return SavedVideo(path, len(content), hashlib.sha256(content).hexdigest(), task_id)


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "SINGLE", 1000)
    monkeypatch.setattr(objects, "PART", 5 * 2**20)


async def test_a_video_is_uploaded_whole_and_removed_here(s3: S3, tmp_path: Path) -> None:
    saved = await Shelf.open(s3.url).slot("a/cat.mp4").put(video(tmp_path))
    assert s3.content("a/cat.mp4") == CONTENT
    assert saved.location == saved.url == f"{s3.url}/a/cat.mp4"
    assert not saved.path.exists()


async def test_the_store_is_told_the_checksum_and_whose_it_is(s3: S3, tmp_path: Path) -> None:
    await Shelf.open(s3.url).slot("cat.mp4").put(video(tmp_path))
    assert s3.checksums == [base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()]
    head = s3.client.head_object(Bucket=s3.bucket, Key="films/cat.mp4")
    assert head["ContentType"] == "video/mp4"
    assert head["Metadata"] == {"wanasync-task": "task-1", "wanasync-sha256": hashlib.sha256(CONTENT).hexdigest()}


@pytest.mark.usefixtures("in_parts")
async def test_a_large_video_goes_in_parts_and_leaves_nothing_beside_it(s3: S3, tmp_path: Path) -> None:
    await Shelf.open(s3.url).slot("cat.mp4").put(video(tmp_path, LARGE))
    assert s3.content("cat.mp4") == LARGE
    assert s3.objects() == {"cat.mp4": len(LARGE)}
    assert s3.unfinished() == 0
    assert s3.client.head_object(Bucket=s3.bucket, Key="films/cat.mp4")["ContentType"] == "video/mp4"
    parts = [path for method, path in s3.requests if method == "PUT" and "partNumber" in path]
    assert len(parts) == 4  # three of the upload, and the copy


@pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["one request", "in parts"])
async def test_a_strangers_object_is_left_as_it_is(
    s3: S3, tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "SINGLE", len(CONTENT))
    s3.place("cat.mp4", b"a stranger's")
    ours = video(tmp_path, content)
    with pytest.raises(DownloadError, match="exists already and is another object"):
        await Shelf.open(s3.url).slot("cat.mp4").put(ours)
    assert s3.content("cat.mp4") == b"a stranger's"
    assert s3.objects() == {"cat.mp4": 12}
    assert ours.path.read_bytes() == content


@pytest.mark.usefixtures("in_parts")
async def test_a_large_upload_that_was_not_noted_is_known_by_its_content(s3: S3, tmp_path: Path) -> None:
    slot = Shelf.open(s3.url).slot("cat.mp4")
    await slot.put(video(tmp_path, LARGE))
    assert await slot.find("task-1", tmp_path / "cat.mp4") is None  # a copy in S3 loses what it was told
    saved = await slot.put(video(tmp_path, LARGE))
    assert saved.url == slot.url


async def test_an_upload_that_was_not_noted_is_found(s3: S3, tmp_path: Path) -> None:
    slot = Shelf.open(s3.url).slot("cat.mp4")
    saved = await slot.put(video(tmp_path))
    left = video(tmp_path).path
    assert await slot.find("task-1", left) == saved
    assert not left.exists()
    assert await slot.find("task-2", left) is None
    assert not await slot.is_free()


@pytest.mark.parametrize("trouble", [slow_down, cut_in_upload], ids=lambda fault: fault.__name__)
async def test_an_upload_that_fails_is_repeated(s3: S3, tmp_path: Path, trouble: object) -> None:
    s3.troubles += [trouble]  # type: ignore[list-item]
    await Shelf.open(s3.url).slot("cat.mp4").put(video(tmp_path))
    assert s3.content("cat.mp4") == CONTENT


async def test_an_upload_whose_reply_was_lost_is_found_to_be_ours(s3: S3, tmp_path: Path) -> None:
    s3.troubles += [lose_reply]
    saved = await Shelf.open(s3.url).slot("cat.mp4").put(video(tmp_path))
    assert saved.url is not None
    assert s3.content("cat.mp4") == CONTENT


async def test_a_store_that_is_down_keeps_the_video_here(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_RETRIES", 1)
    s3.troubles += [slow_down] * 2
    ours = video(tmp_path)
    with pytest.raises(UploadError):
        await Shelf.open(s3.url).slot("cat.mp4").put(ours)
    assert s3.objects() == {}
    assert ours.path.read_bytes() == CONTENT


async def test_a_refusal_is_told_calmly(s3: S3, tmp_path: Path) -> None:
    s3.troubles += [refuse]
    with pytest.raises(DownloadError, match="can't be written") as raised:
        await Shelf.open(s3.url).slot("cat.mp4").put(video(tmp_path))
    assert not isinstance(raised.value, UploadError)
    assert "\x1b" not in str(raised.value)


@pytest.mark.usefixtures("in_parts")
async def test_a_cancelled_upload_is_aborted_at_the_store(s3: S3, tmp_path: Path) -> None:
    ours = video(tmp_path, LARGE)
    upload = asyncio.create_task(Shelf.open(s3.url).slot("cat.mp4").put(ours))
    await asyncio.to_thread(s3.part_came.wait, 10)
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert s3.objects() == {}
    assert s3.unfinished() == 0
    assert ours.path.exists()


@pytest.mark.parametrize("in_one", [True, False], ids=["one request", "in parts"])
async def test_a_file_that_has_changed_since_it_was_checked_is_not_uploaded(
    s3: S3, tmp_path: Path, in_one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "SINGLE", 2**24 if in_one else 0)
    ours = video(tmp_path)
    ours.path.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(DownloadError, match="has changed"):
        await Shelf.open(s3.url).slot("cat.mp4").put(ours)
    assert s3.objects() == {}
    assert s3.unfinished() == 0


async def test_two_that_want_one_name_end_with_one_object(s3: S3, tmp_path: Path) -> None:
    folders = [tmp_path / "1", tmp_path / "2"]
    for folder in folders:
        folder.mkdir()
    ours, theirs = video(folders[0], CONTENT, "task-1"), video(folders[1], CONTENT[::-1], "task-2")
    slot = Shelf.open(s3.url).slot("cat.mp4")
    ended = await asyncio.gather(slot.put(ours), slot.put(theirs), return_exceptions=True)
    assert [type(end) for end in ended if isinstance(end, Exception)] == [DownloadError]
    winner = next(end for end in ended if isinstance(end, SavedVideo))
    assert hashlib.sha256(s3.content("cat.mp4")).hexdigest() == winner.sha256


async def test_an_inventory_knows_names_and_sizes(s3: S3, caplog: pytest.LogCaptureFixture) -> None:
    s3.place("a/b.mp4", b"12345")
    s3.place(".wanasync/0123.part", b"1")
    inventory = await Shelf.open(s3.url).inventory()
    assert inventory is not None
    assert inventory.has("a/b.mp4")
    assert inventory.has_whole("a/b.mp4", 5)
    assert not inventory.has_whole("a/b.mp4", 6)
    assert not inventory.has("films/a/b.mp4")
    assert "1 uploads that were never finished" in caplog.text


def test_a_store_takes_the_rule_that_the_documentation_gives_it(s3: S3) -> None:
    page = blocks(ROOT / "docs" / "howto" / "outputs.md")
    rules = json.loads(next(block.text for block in page if block.told == "lifecycle.json"))
    s3.client.put_bucket_lifecycle_configuration(Bucket=s3.bucket, LifecycleConfiguration=rules)
    held = s3.client.get_bucket_lifecycle_configuration(Bucket=s3.bucket)["Rules"]
    assert [rule["Filter"]["Prefix"].removeprefix("prefix/") for rule in held] == ["", objects._UPLOADS]


def test_an_empty_inventory_has_nothing() -> None:
    assert not Inventory().close().has("a.mp4")


async def test_a_bucket_that_is_not_there_is_told_before_anything_is_paid(s3: S3) -> None:
    with pytest.raises(ConfigError, match="can't be used"):
        await Shelf.open("s3://nobody-has-this/films").inventory()


def test_a_missing_library_is_told_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigError, match=r"pip install 'wanasync\[objects\]'"):
        Shelf.open("s3://bucket/films")


async def test_memory_is_one_store_for_the_process(tmp_path: Path) -> None:
    saved = await Shelf.open("memory://test-one").slot("cat.mp4").put(video(tmp_path))
    assert saved.url == "memory://test-one/cat.mp4"
    assert not await Shelf.open("memory://test-one").slot("cat.mp4").is_free()
    assert await Shelf.open("memory://test-two").slot("cat.mp4").is_free()
