from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.helpers.video_host import VideoHost, film, video_host
from wanasync.config import Config
from wanasync.edges.transport import Transport
from wanasync.engine.saver import MAX_RENEWALS, Saver
from wanasync.errors import (
    APIConnectionError,
    AuthenticationError,
    DownloadError,
    LinkExpiredError,
    NotFoundError,
    ResponseFormatError,
    ServerError,
)
from wanasync.models import DownloadStatistics, SavedVideo, TaskSnapshot, TaskStatus
from wanasync.testing import now, virtual_time

DAY = 86_400.0


class Provider:
    """Answers queries for fresh links: each of `answers` once, an error being raised; then with `link` for ever."""

    def __init__(self, link: str | None, *answers: str | Exception | None) -> None:
        self.link = link
        self.answers = list(answers)
        self.queries: list[str] = []

    async def __call__(self, task_id: str) -> TaskSnapshot:
        self.queries.append(task_id)
        await asyncio.sleep(0)
        answer = self.answers.pop(0) if self.answers else self.link
        if isinstance(answer, Exception):
            raise answer
        return done(task_id, answer)


def done(task_id: str, link: str | None) -> TaskSnapshot:
    return TaskSnapshot(task_id, TaskStatus.COMPLETED, links=(link,) if link else (), credits_used=3.0)


class Bench:
    """A saver on a file host, in virtual time."""

    def __init__(self, host: VideoHost, saver: Saver, provider: Provider, folder: Path) -> None:
        self.host, self.saver, self.provider, self.folder = host, saver, provider, folder

    def path(self, task_id: str) -> Path:
        return self.folder / f"{task_id}.mp4"

    async def save(self, task_id: str = "task-1", *, lives: float = DAY, **options: Any) -> SavedVideo:
        snapshot = done(task_id, options.pop("link", f"{self.host.url}/{task_id}.mp4?Signature=secret"))
        return await self.saver.save(snapshot, self.path(task_id), deadline=now() + lives, **options)

    def start(self, task_id: str, **options: Any) -> asyncio.Task[SavedVideo]:
        return asyncio.create_task(self.save(task_id, **options))

    def asked_for(self) -> list[str]:
        return [request.path.strip("/").removesuffix(".mp4") for request in self.host.requests]

    async def settled(self, condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110 — neither side tells that it got on
            await asyncio.sleep(0.001)


@asynccontextmanager
async def bench(folder: Path, *answers: str | Exception | None, **settings: Any) -> AsyncIterator[Bench]:
    """What a test needs, opened and closed again. `answers` are the provider's, `settings` the config's."""
    async with video_host(film(300_000)) as host:
        config = Config(api_key="key-0123456789", base_url=host.url, **settings)
        provider = Provider(f"{host.url}/fresh.mp4", *answers)
        async with Transport(config) as transport:
            saver = Saver(transport, provider, config, clock=now)
            yield Bench(host, saver, provider, folder)
            await saver.close()


# --- one video ------------------------------------------------------------------------------------------------------


@virtual_time
async def test_a_video_is_saved_and_counted(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        video = await b.save()
        assert video.path.read_bytes() == b.host.video
        assert (video.task_id, video.credits) == ("task-1", 3.0)
        assert video.sha256 == hashlib.sha256(b.host.video).hexdigest()
        assert b.saver.statistics() == DownloadStatistics(saved=1, bytes=len(b.host.video))
        assert b.provider.queries == []


@virtual_time
async def test_a_troubled_host_is_tried_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.host.statuses = [503, 500, 429]
        b.host.cuts = [0]
        video = await b.save()
        assert video.path.read_bytes() == b.host.video
        assert len(b.host.requests) == 5
        assert b.provider.queries == []


@virtual_time
async def test_a_cut_download_goes_on_and_the_bytes_are_counted(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.host.cuts = [200_000]
        video = await b.save()
        assert 0 < video.resumed_from <= 200_000
        assert b.saver.statistics().resumed_bytes == video.resumed_from


@virtual_time
async def test_attempts_that_get_on_do_not_count(tmp_path: Path) -> None:
    async with bench(tmp_path, download_attempts=2) as b:
        b.host.video = film(6_000_000)
        b.host.cuts = [400_000] * 12
        assert (await b.save()).path.read_bytes() == b.host.video


@virtual_time
async def test_after_enough_attempts_without_progress_the_link_is_given_back_in_an_error(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, download_attempts=3) as b:
        b.host.statuses = [503] * 10
        with pytest.raises(DownloadError) as caught:
            await b.save()
        assert len(b.host.requests) == 3
        assert caught.value.link == f"{b.host.url}/task-1.mp4?Signature=secret"
        assert caught.value.path == str(b.path("task-1"))
        assert "HTTP 503" in str(caught.value)
        assert "Signature" not in str(caught.value)
        assert b.saver.statistics().failed == 1


@virtual_time
async def test_the_hosts_hint_is_waited_for(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.host.statuses, b.host.headers = [429], {"Retry-After": "300"}
        start = now()
        await b.save()
        assert now() - start >= 300


@virtual_time
async def test_a_disk_fault_comes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with bench(tmp_path) as b:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(DownloadError, match="No space left"):
            await b.save()
        assert len(b.host.requests) == 1


# --- dead links -----------------------------------------------------------------------------------------------------


@virtual_time
async def test_a_dead_link_is_asked_for_anew(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.host.statuses = [403]
        video = await b.save()
        assert video.path.read_bytes() == b.host.video
        assert b.provider.queries == ["task-1"]
        assert b.asked_for() == ["task-1", "fresh"]
        assert b.saver.statistics().links_renewed == 1


@virtual_time
async def test_a_page_in_the_videos_place_is_a_dead_link(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.host.pages = [b"<html>gone</html>"]
        await b.save()
        assert b.asked_for() == ["task-1", "fresh"]


@virtual_time
async def test_what_came_of_a_dead_link_is_used_with_the_fresh_one(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.host.cuts, b.host.statuses = [200_000], [200, 403]
        assert (await b.save()).resumed_from > 0


@virtual_time
async def test_a_task_without_a_link_is_asked_for_one(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.save(link=None)
        assert b.asked_for() == ["fresh"]


@virtual_time
async def test_after_two_fresh_links_the_link_has_expired(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.host.statuses = [403, 404, 410, 200]
        with pytest.raises(LinkExpiredError) as caught:
            await b.save()
        assert b.provider.queries == ["task-1"] * MAX_RENEWALS
        assert (caught.value.task_id, caught.value.link) == ("task-1", f"{b.host.url}/fresh.mp4")
        assert "HTTP 410" in str(caught.value)
        assert "Signature" not in str(caught.value)


@virtual_time
async def test_the_same_link_again_is_not_tried_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.host.statuses = [403, 403]
        b.provider.link = f"{b.host.url}/task-1.mp4?Signature=secret"
        start = now()
        await b.save()
        assert now() > start


@virtual_time
async def test_no_fresh_link_means_that_it_has_expired(tmp_path: Path) -> None:
    async with bench(tmp_path, None, None) as b:
        b.host.statuses = [403]
        with pytest.raises(LinkExpiredError):
            await b.save()


@virtual_time
async def test_a_forgotten_task_means_that_its_link_has_expired(tmp_path: Path) -> None:
    async with bench(tmp_path, NotFoundError("no such task", 404)) as b:
        b.host.statuses = [403]
        with pytest.raises(LinkExpiredError, match="no such task"):
            await b.save()


@virtual_time
async def test_a_provider_in_trouble_is_asked_again(tmp_path: Path) -> None:
    trouble = (ServerError("down", 502), APIConnectionError("down"), ResponseFormatError("html"))
    async with bench(tmp_path, *trouble) as b:
        b.host.statuses = [403] * 4
        await b.save()
        assert len(b.provider.queries) == 4


@virtual_time
async def test_a_key_that_is_refused_is_not_an_expired_link(tmp_path: Path) -> None:
    async with bench(tmp_path, AuthenticationError("unknown key", 401)) as b:
        b.host.statuses = [403]
        with pytest.raises(AuthenticationError):
            await b.save()


@virtual_time
async def test_past_its_deadline_a_video_is_still_tried(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        assert (await b.save(lives=-1)).path.exists()


@virtual_time
async def test_past_its_deadline_a_video_that_can_not_be_fetched_has_expired(tmp_path: Path) -> None:
    async with bench(tmp_path, download_attempts=2) as b:
        b.host.statuses = [503] * 2
        with pytest.raises(LinkExpiredError, match="HTTP 503"):
            await b.save(lives=-1)


# --- the queue ------------------------------------------------------------------------------------------------------


@virtual_time
async def test_what_dies_first_is_fetched_first(tmp_path: Path) -> None:
    async with bench(tmp_path, max_downloads=1) as b:
        lives = {"busy": 9.0, "late": 5.0, "soon": 1.0, "latest": 6.0, "later": 5.0}
        async with asyncio.TaskGroup() as group:
            for task_id, hours in lives.items():
                group.create_task(b.save(task_id, lives=hours * 3600))
        assert b.asked_for() == ["busy", "soon", "late", "later", "latest"]


@virtual_time
async def test_a_link_that_says_to_die_earlier_is_fetched_earlier(tmp_path: Path) -> None:
    async with bench(tmp_path, max_downloads=1) as b:
        signed = f"{b.host.url}/signed.mp4?Expires={int(now()) + 60}"
        async with asyncio.TaskGroup() as group:
            group.create_task(b.save("busy"))
            group.create_task(b.save("plain", lives=3600))
            group.create_task(b.save("signed", lives=DAY, link=signed))
        assert b.asked_for() == ["busy", "signed", "plain"]


@virtual_time
async def test_no_more_than_allowed_run_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path, max_downloads=3) as b:
        b.host.pause = asyncio.Event()
        saving = [b.start(f"task-{number}") for number in range(20)]
        await b.settled(lambda: b.host.under_way == 3)
        b.host.pause.set()
        await asyncio.gather(*saving)
        assert b.host.most_under_way == 3
        assert b.saver.statistics().saved == 20


@virtual_time
async def test_the_queue_is_told(tmp_path: Path) -> None:
    async with bench(tmp_path, max_downloads=2) as b:
        b.host.pause = asyncio.Event()
        saving = [b.start(f"task-{number}") for number in range(5)]
        await b.settled(lambda: len(b.host.requests) == 2)
        assert b.saver.statistics() == DownloadStatistics(waiting=3, active=2)
        b.host.pause.set()
        await asyncio.gather(*saving)
        assert b.saver.statistics() == DownloadStatistics(saved=5, bytes=5 * len(b.host.video))


@virtual_time
async def test_a_download_between_two_attempts_holds_no_place(tmp_path: Path) -> None:
    async with bench(tmp_path, max_downloads=1) as b:
        b.host.statuses, b.host.headers = [429], {"Retry-After": "40"}
        start = now()
        first = b.start("held", lives=3600)
        await b.settled(lambda: b.saver.statistics().active == 0 and len(b.host.requests) == 1)
        await b.save("other")
        assert now() - start < 40
        await first
        assert b.asked_for() == ["held", "other", "held"]


@virtual_time
async def test_a_cancelled_wait_leaves_the_queue(tmp_path: Path) -> None:
    async with bench(tmp_path, max_downloads=1) as b:
        b.host.pause = asyncio.Event()
        active, waiting, next_one = (b.start(f"task-{number}") for number in range(3))
        await b.host.asked.wait()
        waiting.cancel()
        b.host.pause.set()
        await active
        await next_one
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert b.asked_for() == ["task-0", "task-2"]
        assert b.saver.statistics().active == 0


@virtual_time
async def test_a_place_given_to_one_who_is_cancelled_that_moment_goes_on_to_the_next(tmp_path: Path) -> None:
    async with bench(tmp_path, max_downloads=1) as b:
        active, unlucky, next_one = (b.start(f"task-{number}") for number in range(3))
        active.add_done_callback(lambda _: unlucky.cancel())
        await next_one
        assert unlucky.cancelled()
        assert b.asked_for() == ["task-0", "task-2"]
        assert b.saver.statistics().active == 0


@virtual_time
async def test_cancelling_an_active_download_keeps_its_part_and_frees_its_place(tmp_path: Path) -> None:
    async with bench(tmp_path, max_downloads=1) as b:
        whole = asyncio.Event()

        async def half(request: web.Request) -> web.StreamResponse | None:
            if len(b.host.requests) > 1:
                return None
            reply = web.StreamResponse(headers={"ETag": '"first"'})
            reply.content_length = len(b.host.video)
            await reply.prepare(request)
            await reply.write(b.host.video[:150_000])
            await whole.wait()
            return reply

        b.host.instead = half
        saving = b.start("task-1")
        await b.host.asked.wait()
        await asyncio.sleep(0.05)
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
        assert b.saver.statistics().active == 0
        assert (await b.save()).resumed_from == 150_000


@virtual_time
async def test_thousands_may_wait(tmp_path: Path) -> None:
    async with bench(tmp_path, max_downloads=1) as b:
        b.host.pause = asyncio.Event()
        saving = [b.start(f"task-{number}") for number in range(3_000)]
        await b.host.asked.wait()
        assert b.saver.statistics().waiting == 2_999
        for task in saving:
            task.cancel()
        await asyncio.wait(saving)
        assert b.saver.statistics() == DownloadStatistics()


# --- closing --------------------------------------------------------------------------------------------------------


@virtual_time
async def test_closing_ends_what_is_active_and_what_waits_and_keeps_the_parts(tmp_path: Path) -> None:
    async with bench(tmp_path, max_downloads=1) as b:
        b.host.cuts, b.host.statuses = [200_000], [200, 503, 503]
        b.host.headers = {"Retry-After": "3600"}
        retrying, waiting = b.start("task-1"), b.start("task-2", lives=2 * DAY)
        await b.settled(lambda: len(b.host.requests) == 3)
        await b.saver.close()
        for ended in (retrying, waiting):
            with pytest.raises(DownloadError, match="the session was closed") as caught:
                await ended
            assert caught.value.link is not None
        assert (tmp_path / ".task-1.mp4.part").stat().st_size > 0
        assert b.saver.statistics() == DownloadStatistics(failed=2)


@virtual_time
async def test_closing_ends_a_download_in_its_middle(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.host.pause = asyncio.Event()
        saving = b.start("task-1")
        await b.host.asked.wait()
        await b.saver.close()
        with pytest.raises(DownloadError, match="the session was closed"):
            await saving
        assert not saving.cancelled()


@virtual_time
async def test_after_closing_nothing_is_begun_and_closing_again_does_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.saver.close()
        await b.saver.close()
        with pytest.raises(DownloadError, match="the session was closed"):
            await b.save()
        assert b.host.requests == []


@virtual_time
async def test_a_users_own_timeout_is_not_taken_for_closing(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.host.statuses, b.host.headers = [503], {"Retry-After": "3600"}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await b.save()
        assert b.saver.statistics().active == 0
