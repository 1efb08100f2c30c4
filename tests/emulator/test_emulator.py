from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from email.utils import parsedate_to_datetime

import aiohttp
import pytest
import trustme

from tests.emulator.making import BODY
from tests.emulator.test_app import call
from wanasync import emulator as package
from wanasync.emulator import ConcurrentTasks, Emulator, FixedWindow, Trouble
from wanasync.errors import ConfigError
from wanasync.testing import START, virtual_time


async def test_it_lives_as_long_as_its_block() -> None:
    async with Emulator() as emulator:
        assert (await call(emulator, "GET", "v1/credits"))[0] == 200
    with pytest.raises(aiohttp.ClientConnectorError):
        await call(emulator, "GET", "v1/credits")


async def test_it_can_be_entered_again_with_what_it_remembers() -> None:
    emulator = Emulator()
    for _ in range(2):
        async with emulator:
            await call(emulator, "POST", "v1/videos/generations", json=BODY)
    assert len(emulator.ledger.entries) == 2


async def test_it_cannot_be_entered_twice_at_once() -> None:
    async with Emulator() as emulator:
        with pytest.raises(ConfigError, match="running already"):
            await emulator.__aenter__()
        assert (await call(emulator, "GET", "v1/credits"))[0] == 200


async def test_a_port_that_is_taken_is_named_and_nothing_is_left_open() -> None:
    async with Emulator() as first:
        port = int(first.base_url.removesuffix("/apiv1").rpartition(":")[2])
        with pytest.raises(ConfigError, match=f"port {port}"):
            await Emulator(port=port).__aenter__()


async def test_ports_can_be_chosen_and_ipv6_works() -> None:
    async with Emulator(host="::1") as emulator:
        assert emulator.base_url.startswith("http://[::1]:")
        assert (await call(emulator, "GET", "v1/credits"))[0] == 200


async def test_it_may_speak_https() -> None:
    authority = trustme.CA()
    server, caller = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(caller)
    async with Emulator(tls=server) as emulator:
        assert emulator.base_url.startswith("https://")
        assert emulator.video_url.startswith("https://")
        assert (await call(emulator, "GET", "v1/credits", ssl=caller))[0] == 200


@virtual_time
async def test_idle_connections_are_closed_after_a_while() -> None:
    opened: list[object] = []

    async def note(_: object, __: object, what: object) -> None:
        opened.append(what)

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_end.append(note)
    async with Emulator(keepalive=5.0) as emulator, aiohttp.ClientSession(trace_configs=[tracing]) as session:
        for pause in (0, 1, 10):
            await asyncio.sleep(pause)
            async with session.get(f"{emulator.base_url}/v1/credits") as reply:
                await reply.read()
        assert len(opened) == 2


async def test_serving_for_ever_says_where_and_ends_when_cancelled() -> None:
    ready: asyncio.Future[Emulator] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(Emulator().serve_forever(ready.set_result))
    emulator = await ready
    assert (await call(emulator, "GET", "v1/credits"))[0] == 200
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    with pytest.raises(aiohttp.ClientConnectorError):
        await call(emulator, "GET", "v1/credits")


@virtual_time
async def test_it_runs_in_virtual_time() -> None:
    async with Emulator(durations=3600, epoch=START) as emulator:
        _, task, _ = await call(emulator, "POST", "v1/videos/generations", json=BODY)
        assert task["created"] == START
        await asyncio.sleep(3601)
        assert (await call(emulator, "GET", f"v1/tasks/{task['id']}"))[1]["status"] == "completed"


@virtual_time
async def test_its_clock_may_be_fast() -> None:
    async with Emulator(durations=3600, speed=360) as emulator:
        _, task, _ = await call(emulator, "POST", "v1/videos/generations", json=BODY)
        await asyncio.sleep(11)
        assert (await call(emulator, "GET", f"v1/tasks/{task['id']}"))[1]["status"] == "completed"


async def test_tasks_can_be_ended_by_hand() -> None:
    async with Emulator(durations=3600) as emulator:
        ids = [(await call(emulator, "POST", "v1/videos/generations", json=BODY))[1]["id"] for _ in range(2)]
        emulator.finish(ids[0])
        emulator.cancel(ids[1])
        seen = [(await call(emulator, "GET", f"v1/tasks/{task_id}"))[1]["status"] for task_id in ids]
        assert seen == ["completed", "cancelled"]
        with pytest.raises(KeyError):
            emulator.cancel(ids[0])
        with pytest.raises(KeyError):
            emulator.finish("task-unified-1-x")


async def test_options_may_change_while_it_runs() -> None:
    async with Emulator() as emulator:
        emulator.trouble = Trouble(html_502_submits=1.0)
        assert await status(emulator) == 502
        emulator.trouble = Trouble()
        emulator.limiter = ConcurrentTasks(0)
        assert await status(emulator) == 429
        emulator.limiter = None
        emulator.credit = 0
        assert await status(emulator) == 402


async def status(emulator: Emulator) -> int:
    headers = {"Authorization": f"Bearer {emulator.api_key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{emulator.base_url}/v1/videos/generations", json=BODY) as reply,
    ):
        return reply.status


async def test_closing_does_not_wait_for_requests_that_hang() -> None:
    async with Emulator(trouble=Trouble.script(credits=["hang"])) as emulator:
        hanging = asyncio.create_task(call(emulator, "GET", "v1/credits"))
        await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        with pytest.raises(aiohttp.ClientError):
            await hanging


def test_the_public_names_are_there_and_explained() -> None:
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert getattr(package, name).__doc__ or isinstance(getattr(package, name), dict)


def test_it_knows_nothing_of_the_client() -> None:
    code = (
        "import sys, wanasync.emulator;"
        "print(*(m for m in sys.modules if m.startswith(('wanasync.rules', 'wanasync.edges', 'wanasync.engine'))))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == ""


async def test_a_date_to_return_at_and_the_date_of_its_reply_are_by_one_clock() -> None:
    async with Emulator(epoch=START, hint="date", limiter=FixedWindow(1, per=60)) as emulator:
        await call(emulator, "POST", "v1/videos/generations", json=BODY)
        status, _, headers = await call(emulator, "POST", "v1/videos/generations", json=BODY)
        assert status == 429
        sent, until = (parsedate_to_datetime(headers[name]).timestamp() for name in ("Date", "Retry-After"))
        assert 0 <= sent - START < 60
        assert 0 < until - sent <= 61
