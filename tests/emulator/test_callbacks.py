from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme
from aiohttp import web
from attrs import define, field

from tests.emulator.making import BODY
from tests.emulator.test_app import call
from wanasync.emulator import Emulator, Trouble
from wanasync.testing import virtual_time


@define
class Receiver:
    """Notes what it is sent; answers with each of `statuses` in turn, then 200. A status of 0 never answers."""

    statuses: list[int] = field(factory=list)
    url: str = ""
    bodies: list[dict[str, Any]] = field(factory=list)
    times: list[float] = field(factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        self.times.append(asyncio.get_running_loop().time())
        status = self.statuses.pop(0) if self.statuses else 200
        if not status:
            await asyncio.sleep(3600)
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status == 307 else None)

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]


@asynccontextmanager
async def receiving(*statuses: int, ssl_context: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver(list(statuses))
    app = web.Application()
    app.router.add_post("/hook", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl_context).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()


async def submit(emulator: Emulator, url: str) -> str:
    status, task, _ = await call(emulator, "POST", "v1/videos/generations", json=BODY | {"callback_url": url})
    assert status == 200, task
    return str(task["id"])


async def run(receiver: Receiver, seconds: float, **options: Any) -> Emulator:
    """Submit one task of 100 s and wait."""
    async with Emulator(**{"local_callbacks": True, "durations": 100} | options) as emulator:
        await submit(emulator, receiver.url)
        await asyncio.sleep(seconds)
        return emulator


@virtual_time
async def test_a_callback_has_the_body_of_a_query_and_comes_once_at_the_end() -> None:
    async with receiving() as receiver, Emulator(durations=100, local_callbacks=True) as emulator:
        task_id = await submit(emulator, receiver.url)
        await asyncio.sleep(99)
        assert receiver.bodies == []
        await asyncio.sleep(50)
        _, body, _ = await call(emulator, "GET", f"v1/tasks/{task_id}")
        assert receiver.bodies == [body]
        assert body["status"] == "completed"
        assert emulator.ledger.counts["callback"] == 1
        assert emulator.ledger.callbacks_delivered == {task_id: 1}


@virtual_time
async def test_a_callback_is_tried_four_times_with_growing_pauses() -> None:
    async with receiving(500, 404, 307, 500, 500) as receiver:
        emulator = await run(receiver, 200)
        assert receiver.gaps == pytest.approx([1, 2, 4], abs=0.1)
        assert sum(emulator.ledger.callbacks_delivered.values()) == 0


@virtual_time
async def test_any_2xx_is_success() -> None:
    async with receiving(500, 204) as receiver:
        emulator = await run(receiver, 200)
        assert len(receiver.bodies) == 2
        assert sum(emulator.ledger.callbacks_delivered.values()) == 1


@virtual_time
async def test_a_silent_receiver_is_given_up_after_ten_seconds() -> None:
    async with receiving(0, 200) as receiver:
        await run(receiver, 200)
        assert receiver.gaps == pytest.approx([11], abs=0.1)


@virtual_time
async def test_pauses_and_timeouts_follow_the_fast_clock() -> None:
    async with receiving(0, 500, 200) as receiver:
        await run(receiver, 20, speed=10.0)
        assert receiver.gaps == pytest.approx([1.1, 0.2], abs=0.05)


@virtual_time
async def test_nobody_there_is_no_trouble() -> None:
    async with receiving() as receiver:
        pass
    emulator = await run(receiver, 200)
    assert emulator.ledger.counts["callback"] == 4


@virtual_time
async def test_failed_and_cancelled_tasks_call_back_too() -> None:
    trouble = Trouble.script(task=["failed=service_error", "ok"])
    async with receiving() as receiver, Emulator(durations=100, local_callbacks=True, trouble=trouble) as emulator:
        ids = [await submit(emulator, receiver.url) for _ in range(2)]
        await asyncio.sleep(50)
        emulator.cancel(ids[1])
        await asyncio.sleep(100)
        assert [(body["id"], body["status"]) for body in receiver.bodies] == [
            (ids[1], "cancelled"),
            (ids[0], "failed"),
        ]
        assert emulator.ledger.credits_released == 10


@pytest.mark.parametrize(
    ("fault", "times"), [("lost", []), ("duplicate", [100, 100]), ("late=60", [160]), ("ok", [100])]
)
def test_callbacks_may_be_lost_doubled_or_late(fault: str, times: list[float]) -> None:
    @virtual_time
    async def scenario() -> None:
        async with receiving() as receiver:
            began = asyncio.get_running_loop().time()
            await run(receiver, 300, trouble=Trouble.script(callback=[fault]))
            assert [time - began for time in receiver.times] == pytest.approx(times, abs=0.5)

    scenario()


@virtual_time
async def test_late_callbacks_come_out_of_order() -> None:
    trouble = Trouble.script(callback=["late=10", "ok"])
    async with receiving() as receiver, Emulator(durations=100, local_callbacks=True, trouble=trouble) as emulator:
        ids = [await submit(emulator, receiver.url) for _ in range(2)]
        await asyncio.sleep(200)
        assert [body["id"] for body in receiver.bodies] == ids[::-1]


@virtual_time
async def test_callbacks_can_be_switched_off() -> None:
    async with receiving() as receiver:
        await run(receiver, 200, callbacks=False)
        assert receiver.bodies == []


@virtual_time
async def test_a_stuck_task_never_calls() -> None:
    async with receiving() as receiver:
        await run(receiver, 10_000, trouble=Trouble(stuck_tasks=1.0))
        assert receiver.bodies == []


@virtual_time
async def test_closing_drops_what_is_on_its_way() -> None:
    async with receiving(0) as receiver:
        await run(receiver, 101)
        assert len(receiver.bodies) == 1


async def test_only_https_to_public_hosts_unless_told_otherwise() -> None:
    async with Emulator() as emulator:
        status, body, _ = await call(
            emulator, "POST", "v1/videos/generations", json=BODY | {"callback_url": "http://127.0.0.1:1/hook"}
        )
        assert (status, body["error"]["param"]) == (400, "callback_url")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def serving(authority: trustme.CA, host: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host).configure_cert(context)
    return context


async def over_tls(
    host: str, server: ssl.SSLContext, client: Callable[[], ssl.SSLContext | None]
) -> list[dict[str, Any]]:
    """What arrives of one callback to https://hooks.example.com, which is at 127.0.0.1 by the emulator's table."""
    async with receiving(ssl_context=server) as receiver:
        url = receiver.url.replace("http://127.0.0.1", f"https://{host}")
        options: dict[str, Any] = {"callback_ssl": client(), "callback_hosts": {host: "127.0.0.1"}}
        async with Emulator(durations=0.05, speed=100, **options) as emulator:
            await submit(emulator, url)
            async with asyncio.timeout(10):
                while emulator.ledger.counts["callback"] == 0:  # noqa: ASYNC110 - a counter sets no event
                    await asyncio.sleep(0.01)
        return receiver.bodies


async def test_a_public_https_url_is_reached_by_a_table_and_its_certificate_is_checked(authority: trustme.CA) -> None:
    host = "hooks.example.com"
    assert len(await over_tls(host, serving(authority, host), lambda: trusting(authority))) == 1
    assert await over_tls(host, serving(authority, "other.example.com"), lambda: trusting(authority)) == []
    assert await over_tls(host, serving(trustme.CA(), host), lambda: None) == []
