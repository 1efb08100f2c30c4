from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import json
import os
import pickle
import random
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.helpers.video_host import VideoHost, film, video_host
from wanasync.config import Config
from wanasync.edges import download, part
from wanasync.edges.download import DeadLinkError, Existing, TransferError, fetch
from wanasync.edges.transport import Transport
from wanasync.errors import DownloadError
from wanasync.models import SavedVideo

FILM = film(2_000_000)


@pytest.fixture
async def host() -> AsyncIterator[VideoHost]:
    async with video_host(FILM) as serving:
        yield serving


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    async with Transport(Config(api_key="key-0123456789", base_url="http://127.0.0.1:1", read_timeout=5)) as opened:
        yield opened


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "videos" / "cat.mp4"


def part_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def record_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.part.json")


def names_beside(target: Path) -> list[str]:
    return sorted(os.listdir(target.parent)) if target.parent.exists() else []


async def get(transport: Transport, host: VideoHost, target: Path, **options: Any) -> SavedVideo:
    return await fetch(transport, host.link, target, task_id=options.pop("task_id", "task-1"), **options)


async def failing(transport: Transport, host: VideoHost, target: Path, **options: Any) -> DownloadError:
    """What `fetch` raises: naming task, link and path, and showing no signature."""
    with pytest.raises(DownloadError) as caught:
        await get(transport, host, target, **options)
    error = caught.value
    assert (error.task_id, error.link, error.path) == (options.get("task_id", "task-1"), host.link, str(target))
    assert "Signature" not in str(error)
    return error


# --- a whole video --------------------------------------------------------------------------------------------------


async def test_a_video_is_saved_whole_with_its_hash_and_nothing_beside_it(
    host: VideoHost, transport: Transport, target: Path
) -> None:
    video = await get(transport, host, target, credits=12.5)
    assert target.read_bytes() == FILM
    assert video == SavedVideo(target, len(FILM), hashlib.sha256(FILM).hexdigest(), "task-1", 12.5, 0)
    assert names_beside(target) == ["cat.mp4"]


@pytest.mark.parametrize("size", [200, download._BLOCK - 1, download._BLOCK, download._BLOCK + 1, 3 * download._BLOCK])
@pytest.mark.parametrize("piece", [1_000, 70_000])
async def test_blocks_of_every_size_come_out_right(
    size: int, piece: int, host: VideoHost, transport: Transport, target: Path
) -> None:
    host.video, host.piece = film(size), piece
    video = await get(transport, host, target)
    assert target.read_bytes() == host.video
    assert video.sha256 == hashlib.sha256(host.video).hexdigest()


async def test_a_video_of_unknown_length_is_saved(host: VideoHost, transport: Transport, target: Path) -> None:
    host.lengths = False
    assert (await get(transport, host, target)).bytes == len(FILM)
    assert target.read_bytes() == FILM


async def test_a_video_told_to_be_something_else_is_still_a_video(
    host: VideoHost, transport: Transport, target: Path
) -> None:
    host.content_type = "text/html"
    assert (await get(transport, host, target)).bytes == len(FILM)


async def test_the_file_is_readable_like_any_other(host: VideoHost, transport: Transport, target: Path) -> None:
    await get(transport, host, target)
    (target.parent / "other").touch()
    assert target.stat().st_mode == (target.parent / "other").stat().st_mode


async def test_the_bytes_and_the_name_are_durable_before_it_is_called_saved(
    host: VideoHost, transport: Transport, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    sync = os.fsync

    def noting(descriptor: int) -> None:
        order.append(f"{os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}'))}: {target.exists()}")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    await get(transport, host, target)
    assert order == [f"{target.parent.parent.name}: False", ".cat.mp4.part: False", "videos: True"]


async def test_a_name_of_the_longest_allowed_length_works(
    host: VideoHost, transport: Transport, tmp_path: Path
) -> None:
    target = tmp_path / f"{'x' * 251}.mp4"
    host.cuts = [1_000_000]
    with pytest.raises(TransferError):
        await get(transport, host, target)
    assert (await get(transport, host, target)).resumed_from > 0
    assert os.listdir(tmp_path) == [target.name]


# --- going on after a cut -------------------------------------------------------------------------------------------


async def test_a_cut_download_goes_on_where_it_stopped(host: VideoHost, transport: Transport, target: Path) -> None:
    host.cuts = [1_200_000]
    error = await failing(transport, host, target)
    assert isinstance(error, TransferError)
    kept = part_of(target).stat().st_size
    assert error.gained == kept > 0
    assert names_beside(target) == [".cat.mp4.part", ".cat.mp4.part.json"]
    video = await get(transport, host, target)
    assert host.asked_from() == [0, kept]
    assert host.requests[1].headers["If-Range"] == '"first"'
    assert video.resumed_from == kept
    assert target.read_bytes() == FILM
    assert video.sha256 == hashlib.sha256(FILM).hexdigest()
    assert names_beside(target) == ["cat.mp4"]


async def test_a_date_is_a_validator_too(host: VideoHost, transport: Transport, target: Path) -> None:
    host.etag, host.last_modified, host.cuts = None, "Mon, 23 Nov 2026 15:00:00 GMT", [1_200_000]
    await failing(transport, host, target)
    assert (await get(transport, host, target)).resumed_from > 0
    assert target.read_bytes() == FILM


async def test_many_cuts_lose_little_and_change_nothing(host: VideoHost, transport: Transport, target: Path) -> None:
    rng = random.Random(7)
    host.video = film(8_000_000)
    host.cuts = [rng.randrange(20_000, 600_000) for _ in range(20)]
    while not target.exists():
        try:
            await get(transport, host, target)
        except TransferError:
            continue
    assert target.read_bytes() == host.video
    assert host.sent - len(host.video) <= 20 * 2**20


@pytest.mark.parametrize("change", ["no validator", "weak etag", "changed", "no ranges", "other task", "other boot"])
async def test_a_part_that_may_be_another_files_starts_anew(
    change: str, host: VideoHost, transport: Transport, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.cuts = [1_200_000]
    if change in ("no validator", "weak etag"):
        host.etag = 'W/"first"' if change == "weak etag" else None
    await failing(transport, host, target)
    if change == "changed":
        host.etag, host.video = '"second"', film(1_500_000, seed=2)
    host.ranges = change != "no ranges"
    if change == "other boot":
        monkeypatch.setattr(part, "_boot", lambda: "another")
    video = await get(transport, host, target, task_id="task-2" if change == "other task" else "task-1")
    assert video.resumed_from == 0
    assert target.read_bytes() == host.video
    assert video.sha256 == hashlib.sha256(host.video).hexdigest()


@pytest.mark.parametrize(
    "content_range",
    ["bytes 0-1999999/2000000", "bytes 5-1999999/2000000", "bytes 1-2/3", "nonsense", "bytes */2000000"],
)
async def test_a_partial_answer_that_does_not_fit_is_thrown_away(
    content_range: str, host: VideoHost, transport: Transport, target: Path
) -> None:
    host.cuts = [1_200_000]
    await failing(transport, host, target)
    host.headers["Content-Range"] = content_range
    assert (await get(transport, host, target)).resumed_from == 0
    assert target.read_bytes() == FILM
    assert [start > 0 for start in host.asked_from()] == [False, True, False]


async def test_a_part_that_is_the_whole_file_needs_no_request(
    host: VideoHost, transport: Transport, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.parent.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", _failing_with(errno.EIO))
        await failing(transport, host, target)
    assert part_of(target).stat().st_size == len(FILM)
    video = await get(transport, host, target)
    assert len(host.requests) == 1
    assert video.resumed_from == len(FILM)
    assert video.sha256 == hashlib.sha256(FILM).hexdigest()


async def test_416_finishes_a_part_that_is_just_as_long_as_the_file(
    host: VideoHost, transport: Transport, target: Path
) -> None:
    _leave_part(target, FILM, total=None)
    video = await get(transport, host, target)
    assert host.asked_from() == [len(FILM)]
    assert (video.bytes, video.sha256) == (len(FILM), hashlib.sha256(FILM).hexdigest())


async def test_416_for_a_part_that_is_too_long_starts_anew(host: VideoHost, transport: Transport, target: Path) -> None:
    _leave_part(target, FILM + b"more", total=None)
    video = await get(transport, host, target)
    assert host.asked_from() == [len(FILM) + 4, 0]
    assert target.read_bytes() == FILM
    assert video.resumed_from == 0


@pytest.mark.parametrize("record", ["", "{", "[]", '{"task_id": "task-1"}', "\x00"])
async def test_a_part_with_an_unreadable_record_starts_anew(
    record: str, host: VideoHost, transport: Transport, target: Path
) -> None:
    _leave_part(target, FILM[:1_000])
    record_of(target).write_text(record)
    assert (await get(transport, host, target)).resumed_from == 0
    assert target.read_bytes() == FILM


def _leave_part(target: Path, data: bytes, **record: Any) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part_of(target).write_bytes(data)
    values = {"task_id": "task-1", "identity": "elsewhere", "boot": part._boot(), "etag": '"first"', **record}
    record_of(target).write_text(json.dumps(values))


# --- what is no video -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
async def test_a_refusing_host_means_a_dead_link(
    status: int, host: VideoHost, transport: Transport, target: Path
) -> None:
    host.statuses = [status]
    error = await failing(transport, host, target)
    assert isinstance(error, DeadLinkError)
    assert str(error) == f"the link {host.url}/video.mp4 is dead: HTTP {status}"
    assert names_beside(target) == []


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_a_troubled_host_means_trying_again(
    status: int, host: VideoHost, transport: Transport, target: Path
) -> None:
    host.statuses, host.headers = [status], {"Retry-After": "7"}
    error = await failing(transport, host, target)
    assert isinstance(error, TransferError)
    assert (error.retry_after, error.gained) == (7, 0)
    assert names_beside(target) == []


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><p>gone", b'{"error": "expired"}', b"\0" * 5_000, b"x"])
async def test_a_page_instead_of_the_video_means_a_dead_link(
    page: bytes, host: VideoHost, transport: Transport, target: Path
) -> None:
    host.pages = [page]
    assert isinstance(await failing(transport, host, target), DeadLinkError)
    assert names_beside(target) == []


async def test_a_page_instead_of_the_video_does_not_cost_the_part(
    host: VideoHost, transport: Transport, target: Path
) -> None:
    host.cuts = [1_200_000]
    await failing(transport, host, target)
    host.ranges, host.pages = False, [b"<html>the link has expired</html>"]
    assert isinstance(await failing(transport, host, target), DeadLinkError)
    host.ranges = True
    assert (await get(transport, host, target)).resumed_from > 0


async def test_an_empty_file_means_trying_again(host: VideoHost, transport: Transport, target: Path) -> None:
    host.pages = [b""]
    error = await failing(transport, host, target)
    assert isinstance(error, TransferError)
    assert "empty" in str(error)


async def test_a_cut_that_looks_like_an_end_is_found_and_mended(
    host: VideoHost, transport: Transport, target: Path
) -> None:
    host.lengths, host.clean_cuts = False, [1_200_000]
    error = await failing(transport, host, target)
    assert isinstance(error, TransferError)
    assert "cut short at byte 1200000" in str(error)
    video = await get(transport, host, target)
    assert video.resumed_from == 1_200_000
    assert target.read_bytes() == FILM


async def test_a_file_that_is_whole_and_wrong_is_fetched_anew(
    host: VideoHost, transport: Transport, target: Path
) -> None:
    host.pages = [FILM[:1_000_000]]
    error = await failing(transport, host, target)
    assert isinstance(error, TransferError)
    assert names_beside(target) == []
    assert (await get(transport, host, target)).bytes == len(FILM)


async def test_an_unreachable_host_means_trying_again(transport: Transport, target: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = VideoHost(url=f"http://127.0.0.1:{free.getsockname()[1]}")
    assert isinstance(await failing(transport, nobody, target), TransferError)
    assert names_beside(target) == []


async def test_a_forbidden_link_is_final(host: VideoHost, target: Path) -> None:
    async with Transport(Config(api_key="key-0123456789")) as strict:
        error = await failing(strict, host, target)
    assert type(error) is DownloadError
    assert "was not followed" in str(error)


# --- the name -------------------------------------------------------------------------------------------------------


async def test_an_existing_file_is_never_overwritten_unasked(
    host: VideoHost, transport: Transport, target: Path
) -> None:
    target.parent.mkdir()
    target.write_text("precious")
    error = await failing(transport, host, target)
    assert type(error) is DownloadError
    assert f"{target} exists already" in str(error)
    assert target.read_text() == "precious"
    assert host.requests == []


async def test_a_name_that_is_taken_meanwhile_is_not_overwritten(
    host: VideoHost, transport: Transport, target: Path
) -> None:
    async def taking(request: web.Request) -> None:
        target.write_text("precious")

    host.instead = taking
    assert "exists already" in str(await failing(transport, host, target))
    assert target.read_text() == "precious"
    assert part_of(target).exists(), "the video is not lost"


async def test_without_hard_links_the_name_is_still_not_overwritten(
    host: VideoHost, transport: Transport, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", _failing_with(errno.EPERM))
    await get(transport, host, target)
    assert target.read_bytes() == FILM
    assert names_beside(target) == ["cat.mp4"]
    target.unlink()

    async def taking(request: web.Request) -> None:
        target.write_text("precious")

    host.instead = taking
    assert "exists already" in str(await failing(transport, host, target))
    assert target.read_text() == "precious"


async def test_an_existing_file_is_replaced_where_that_is_asked_for(
    host: VideoHost, transport: Transport, target: Path
) -> None:
    target.parent.mkdir()
    target.write_text("old")
    await get(transport, host, target, existing=Existing.OVERWRITE)
    assert target.read_bytes() == FILM


async def test_overwriting_a_symbolic_link_leaves_what_it_points_to(
    host: VideoHost, transport: Transport, target: Path
) -> None:
    target.parent.mkdir()
    elsewhere = target.with_name("elsewhere")
    elsewhere.write_text("precious")
    target.symlink_to(elsewhere)
    assert "exists already" in str(await failing(transport, host, target))
    assert "exists already" in str(await failing(transport, host, target, existing=Existing.ADOPT))
    await get(transport, host, target, existing=Existing.OVERWRITE)
    assert elsewhere.read_text() == "precious"
    assert target.read_bytes() == FILM


async def test_a_whole_video_under_the_name_can_be_adopted(host: VideoHost, transport: Transport, target: Path) -> None:
    first = await get(transport, host, target)
    assert await get(transport, host, target, existing=Existing.ADOPT) == first
    assert len(host.requests) == 1


async def test_what_is_no_whole_video_is_not_adopted(host: VideoHost, transport: Transport, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(FILM[:-1])
    await get(transport, host, target, existing=Existing.ADOPT)
    assert target.read_bytes() == FILM


@pytest.mark.parametrize("existing", Existing)
async def test_a_directory_under_the_name_is_left_alone(
    existing: Existing, host: VideoHost, transport: Transport, target: Path
) -> None:
    target.mkdir(parents=True)
    assert "is a directory" in str(await failing(transport, host, target, existing=existing))
    assert host.requests == []


@pytest.mark.parametrize("name", ["\0.mp4", f"{'x' * 300}.mp4", "\ud800.mp4"])
async def test_an_impossible_name_is_found_before_anything_is_fetched(
    name: str, host: VideoHost, transport: Transport, target: Path
) -> None:
    assert type(await failing(transport, host, target.with_name(name))) is DownloadError
    assert host.requests == []


async def test_a_part_behind_a_symbolic_link_is_not_written_to(
    host: VideoHost, transport: Transport, target: Path
) -> None:
    target.parent.mkdir()
    elsewhere = target.with_name("elsewhere")
    elsewhere.write_text("precious")
    part_of(target).symlink_to(elsewhere)
    assert type(await failing(transport, host, target)) is DownloadError
    assert elsewhere.read_text() == "precious"


async def test_a_part_that_is_a_published_video_as_well_is_not_written_to(
    host: VideoHost, transport: Transport, target: Path
) -> None:
    """A process died between giving the file its name and taking the part's away; then the user moved it."""
    await get(transport, host, target)
    kept = target.with_name("kept.mp4")
    os.link(target, part_of(target))
    target.rename(kept)
    host.video, host.etag = film(300_000, seed=3), '"other"'
    await get(transport, host, target)
    assert kept.read_bytes() == FILM
    assert target.read_bytes() == host.video


async def test_two_downloads_to_one_name_do_not_mix(host: VideoHost, transport: Transport, target: Path) -> None:
    host.pause = asyncio.Event()
    first = asyncio.create_task(get(transport, host, target))
    await host.asked.wait()
    assert "being written by another download" in str(await failing(transport, host, target))
    host.pause.set()
    await first
    assert target.read_bytes() == FILM


def test_the_errors_cross_process_borders() -> None:
    error = TransferError("cut off", "task-1", "https://a.com/v.mp4", "v.mp4", 5, 2.0)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 — our own
    assert (str(again), again.gained, again.retry_after, again.link) == ("cut off", 5, 2.0, error.link)
    assert isinstance(pickle.loads(pickle.dumps(DeadLinkError("dead"))), DeadLinkError)  # noqa: S301


# --- the disk -------------------------------------------------------------------------------------------------------


def _failing_with(number: int) -> Callable[..., Any]:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


def fill_disk_after(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a part grow to `size` bytes, as a disk that is full does: the write that passes it is done in part."""

    def write(self: Any, data: Any) -> int:
        room = size - self.tell()
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(super(part.Part, self).write(data[:room]))

    monkeypatch.setattr(part.Part, "write", write, raising=False)


@pytest.mark.parametrize("room", [0, 700_000, 1_999_999])
async def test_a_full_disk_is_named_and_keeps_what_it_could_hold(
    room: int, host: VideoHost, transport: Transport, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        fill_disk_after(room, patched)
        error = await failing(transport, host, target)
    assert type(error) is DownloadError
    assert str(error) == f"{target} can't be written: No space left on device"
    assert not target.exists()
    video = await get(transport, host, target)
    assert video.sha256 == hashlib.sha256(FILM).hexdigest()
    assert target.read_bytes() == FILM
    assert (video.resumed_from > 0) == (room > download._BLOCK)


async def test_a_directory_that_may_not_be_written_is_named(
    host: VideoHost, transport: Transport, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "open", _failing_with(errno.EACCES))  # root, as whom tests may run, is not refused
    error = await failing(transport, host, target)
    assert str(error) == f"{target} can't be written: Permission denied"
    assert host.requests == []


async def test_a_file_in_the_directorys_place_is_named(host: VideoHost, transport: Transport, target: Path) -> None:
    target.parent.write_text("a file")
    error = await failing(transport, host, target)
    assert type(error) is DownloadError
    assert host.requests == []


async def test_file_systems_without_locks_are_used_without(
    host: VideoHost, transport: Transport, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", _failing_with(errno.ENOLCK))
    assert (await get(transport, host, target)).bytes == len(FILM)


# --- cancellation ---------------------------------------------------------------------------------------------------


def stall_after(size: int, host: VideoHost) -> asyncio.Event:
    """Have the host stop, once, after `size` bytes; the event is set when they are out."""
    stalled = asyncio.Event()

    async def stall(request: web.Request) -> web.StreamResponse | None:
        if stalled.is_set():
            return None
        reply = web.StreamResponse(headers={"ETag": '"first"'})
        reply.content_length = len(FILM)
        await reply.prepare(request)
        await reply.write(FILM[:size])
        stalled.set()
        await asyncio.Event().wait()
        return reply

    host.instead = stall
    return stalled


async def test_a_download_cancelled_while_it_waits_keeps_what_came(
    host: VideoHost, transport: Transport, target: Path
) -> None:
    stalled = stall_after(900_000, host)
    fetching = asyncio.create_task(get(transport, host, target))
    await stalled.wait()
    await asyncio.sleep(0.05)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert part_of(target).stat().st_size == 900_000
    assert (await get(transport, host, target)).resumed_from == 900_000
    assert target.read_bytes() == FILM


STEPS = ["already_there", "Part.begin", "Part.start_over", "Part.writelines", "Part.publish", "Part.close"]


@pytest.mark.parametrize("step", STEPS)
async def test_a_download_cancelled_within_a_step_on_the_disk_can_be_finished_later(
    step: str, host: VideoHost, transport: Transport, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    owner, name = (part.Part, step.partition(".")[2]) if "." in step else (download, step)
    original = owner.__dict__[name]
    function = original.__func__ if isinstance(original, classmethod) else original

    def cancelling(*arguments: Any) -> Any:
        loop.call_soon_threadsafe(fetching.cancel)
        result = function(*arguments)
        loop.call_soon_threadsafe(fetching.cancel)
        return result

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, classmethod(cancelling) if isinstance(original, classmethod) else cancelling)
        fetching = asyncio.create_task(get(transport, host, target))
        with pytest.raises(asyncio.CancelledError):
            await fetching
    assert not target.exists() or target.read_bytes() == FILM
    video = await get(transport, host, target, existing=Existing.ADOPT)
    assert target.read_bytes() == FILM
    assert video.sha256 == hashlib.sha256(FILM).hexdigest()
    assert names_beside(target) == ["cat.mp4"]


async def test_cancelling_at_any_moment_leaves_nothing_half_written(
    host: VideoHost, transport: Transport, target: Path
) -> None:
    for turn in range(60):
        fetching = asyncio.create_task(get(transport, host, target, existing=Existing.ADOPT))
        for _ in range(turn):
            await asyncio.sleep(0)
        fetching.cancel()
        try:
            await fetching
        except asyncio.CancelledError:
            assert not target.exists() or target.read_bytes() == FILM
    await get(transport, host, target, existing=Existing.ADOPT)
    assert target.read_bytes() == FILM
    assert names_beside(target) == ["cat.mp4"]


async def test_a_full_disk_does_not_swallow_a_cancellation(
    host: VideoHost, transport: Transport, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk_after(0, monkeypatch)
    stalled = stall_after(1_000, host)
    fetching = asyncio.create_task(get(transport, host, target))
    await stalled.wait()
    await asyncio.sleep(0.05)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert names_beside(target) == []


# --- pace -----------------------------------------------------------------------------------------------------------


async def test_a_slow_disk_holds_the_network(
    host: VideoHost, transport: Transport, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.video = film(40_000_000)
    loop = asyncio.get_running_loop()
    first_block, go_on = asyncio.Event(), asyncio.Event()
    original = part.Part.writelines

    def slow(self: Any, lines: Any) -> None:
        loop.call_soon_threadsafe(first_block.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
        original(self, lines)

    monkeypatch.setattr(part.Part, "writelines", slow)
    fetching = asyncio.create_task(get(transport, host, target))
    await first_block.wait()
    sent = -1
    while sent != host.sent:
        sent = host.sent
        await asyncio.sleep(0.1)
    assert sent < 20_000_000, "the kernel's buffers and ours can't hold this much"
    go_on.set()
    assert (await fetching).bytes == 40_000_000
