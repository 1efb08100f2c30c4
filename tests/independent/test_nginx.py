"""nginx as the limiter in front of the provider, and as the video host: its own ideas of 429, Range and dead links."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from attrs import define, field

from tests.helpers.programs import free_port, nginx
from tests.helpers.serving import bound
from tests.helpers.video_host import film
from wanasync import LinkExpiredError, WanSession
from wanasync.emulator import Emulator

RATE, BURST = 8, 20

LIMITED = """
    limit_req_zone $http_authorization zone=key:1m rate={rate}r/s;
    limit_req_status 429;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass {upstream}; }}
        location /apiv1/v1/videos/ {{
            limit_req zone=key burst={burst} nodelay;
            proxy_pass {upstream};
        }}
    }}
"""


async def test_a_limit_of_nginx_is_found_and_used(tmp_path: Path) -> None:
    port, count = free_port(), 120
    async with Emulator(durations=600.0, callbacks=False) as emulator:
        upstream = emulator.base_url.removesuffix("/apiv1")
        with nginx(tmp_path, port, LIMITED.format(port=port, upstream=upstream, rate=RATE, burst=BURST)):
            async with WanSession(api_key=emulator.api_key, base_url=f"http://127.0.0.1:{port}/apiv1") as wan:
                began = time.monotonic()
                await asyncio.gather(*(wan.submit(f"A cat, {number}") for number in range(count)))
                took = time.monotonic() - began
    answers = Counter(line.split()[0] for line in (tmp_path / "access.log").read_text().splitlines())
    assert answers["200"] == count
    assert answers["429"] <= count // 10
    # All that the bucket could have let through meanwhile.
    assert count >= 0.9 * (BURST + 1 + RATE * took)


VIDEOS = """
    server {{
        listen 127.0.0.1:{port};
        location /videos/ {{
            secure_link $arg_md5,$arg_expires;
            secure_link_md5 "$secure_link_expires$uri a-secret-word";
            if ($secure_link = "") {{ return 403; }}
            if ($secure_link = "0") {{ return 410; }}
            limit_rate_after {quick}; limit_rate 100k;
            root {folder};
        }}
    }}
"""


@define
class Host:
    """An API that knows one finished task, and the nginx that hands its video out, `quick` bytes of it at once."""

    folder: Path
    port: int
    base_url: str = ""
    video: bytes = field(factory=lambda: film(2_000_000))
    links: list[str] = field(factory=list)
    lifetimes: list[int] = field(factory=list)

    @property
    def file(self) -> Path:
        return self.folder / "videos" / "clip.mp4"

    def link(self) -> str:
        """Good for the next of `lifetimes` (seconds; may be gone by), or for an hour."""
        expires = int(time.time()) + (self.lifetimes.pop(0) if self.lifetimes else 3600)
        digest = hashlib.md5(f"{expires}/videos/clip.mp4 a-secret-word".encode(), usedforsecurity=False).digest()
        signature = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        return f"http://127.0.0.1:{self.port}/videos/clip.mp4?md5={signature}&expires={expires}"

    async def describe(self, request: web.Request) -> web.Response:
        self.links.append(self.link())
        task = {"id": request.match_info["task"], "object": "video.generation.task", "created": int(time.time())}
        return web.json_response(task | {"status": "completed", "progress": 100, "results": [self.links[-1]]})

    def session(self) -> WanSession:
        return WanSession(api_key="a-key-of-no-account", base_url=self.base_url)

    def asked(self) -> list[str]:
        return (self.folder / "access.log").read_text().splitlines()


@contextlib.asynccontextmanager
async def hosting(folder: Path, *, quick: str = "100m", lifetimes: tuple[int, ...] = ()) -> AsyncIterator[Host]:
    host = Host(folder, free_port(), lifetimes=list(lifetimes))
    host.file.parent.mkdir()
    host.file.write_bytes(host.video)
    folder.chmod(0o755)
    app = web.Application()
    app.router.add_get("/v1/tasks/{task}", host.describe)
    runner = web.AppRunner(app)
    with nginx(folder, host.port, VIDEOS.format(port=host.port, folder=folder, quick=quick)):
        await runner.setup()
        try:
            sock = bound()
            host.base_url = f"http://127.0.0.1:{sock.getsockname()[1]}"
            await web.SockSite(runner, sock).start()
            yield host
        finally:
            await runner.cleanup()


async def save_half(host: Host, target: Path) -> int:
    """Begin to save, and stop in the middle; how many bytes there are."""
    part = target.with_name(f".{target.name}.part")
    async with host.session() as wan:
        saving = asyncio.ensure_future(wan.attach("task-1").save(target))
        async with asyncio.timeout(30):
            while not part.exists() or part.stat().st_size < 500_000:  # noqa: ASYNC110 - a file tells nobody
                await asyncio.sleep(0.01)
        saving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await saving
    return part.stat().st_size


async def test_a_stopped_download_goes_on_where_nginx_left_off(tmp_path: Path) -> None:
    target = tmp_path / "saved.mp4"
    async with hosting(make(tmp_path), quick="1200k") as host:
        there = await save_half(host, target)
        async with host.session() as wan:
            video = await wan.attach("task-1").save(target)
        last = host.asked()[-1]
    assert target.read_bytes() == host.video
    assert video.resumed_from == there
    assert re.fullmatch(rf'206 GET \S+ range="bytes={there}-" if_range=".+" sent={len(host.video) - there}', last)


async def test_a_video_that_nginx_has_replaced_meanwhile_is_fetched_whole(tmp_path: Path) -> None:
    target = tmp_path / "saved.mp4"
    async with hosting(make(tmp_path), quick="1200k") as host:
        await save_half(host, target)
        another = film(1_100_000, seed=1)
        host.file.write_bytes(another)
        async with host.session() as wan:
            video = await wan.attach("task-1").save(target)
        last = host.asked()[-1]
    assert target.read_bytes() == another
    assert video.resumed_from == 0
    assert re.fullmatch(rf'200 GET \S+ range="bytes=\d+-" if_range=".+" sent={len(another)}', last)


async def test_a_link_that_nginx_calls_expired_is_asked_for_anew(tmp_path: Path) -> None:
    target = tmp_path / "saved.mp4"
    async with hosting(make(tmp_path), lifetimes=(-5,)) as host:
        async with host.session() as wan:
            await wan.attach("task-1").save(target)
        statuses = [line.split()[0] for line in host.asked()]
    assert target.read_bytes() == host.video
    assert len(host.links) == 2
    assert statuses in (["410", "200"], ["200"])


async def test_links_that_stay_dead_are_told(tmp_path: Path) -> None:
    async with hosting(make(tmp_path), lifetimes=(-5,) * 50) as host, host.session() as wan:
        with pytest.raises(LinkExpiredError):
            await wan.attach("task-1").save(tmp_path / "saved.mp4")
    assert not (tmp_path / "saved.mp4").exists()


def make(folder: Path) -> Path:
    home = folder / "nginx"
    home.mkdir()
    return home
