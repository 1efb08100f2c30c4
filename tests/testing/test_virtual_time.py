from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import threading
import time

import pytest
from aiohttp import ClientSession, ClientTimeout, web
from hypothesis import given, settings
from hypothesis import strategies as st

from wanasync import testing
from wanasync.testing import START, VirtualTimeError, VirtualTimeLoop, busy, now, run, virtual_time


def elapsed() -> float:
    return now() - START


@virtual_time
async def test_hours_of_sleep_pass_at_once_and_exactly() -> None:
    began = time.monotonic()
    await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(7200), asyncio.sleep(1))
    assert elapsed() == 7200
    assert time.monotonic() - began < 5


@virtual_time
async def test_timers_fire_in_order_at_their_own_times() -> None:
    seen: list[tuple[str, float]] = []

    async def note(name: str, delay: float) -> None:
        await asyncio.sleep(delay)
        seen.append((name, elapsed()))

    await asyncio.gather(note("c", 30.5), note("a", 0.25), note("b", 2))
    assert seen == [("a", 0.25), ("b", 2), ("c", 30.5)]


@virtual_time
async def test_the_clock_stands_still_while_callbacks_run() -> None:
    for _ in range(1000):
        await asyncio.sleep(0)
    time.sleep(0.02)  # noqa: ASYNC251 - real work that blocks the loop
    assert elapsed() == 0


@virtual_time
async def test_a_timeout_ends_a_wait_that_nothing_else_would_end() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(600):
            await asyncio.Event().wait()
    assert elapsed() == 600


@given(delays=st.lists(st.floats(min_value=0, max_value=1e6, allow_nan=False), min_size=1, max_size=10))
@settings(max_examples=25, deadline=None)
@virtual_time
async def test_any_set_of_sleeps_takes_as_long_as_its_longest(delays: list[float]) -> None:
    await asyncio.gather(*(asyncio.sleep(delay) for delay in delays))
    assert elapsed() == pytest.approx(max(delays), abs=1e-6)


# --- threads


@virtual_time
async def test_executor_work_takes_no_virtual_time_however_slow() -> None:
    async with asyncio.timeout(1):
        await asyncio.to_thread(time.sleep, 0.05)
    assert elapsed() == 0


@virtual_time
async def test_work_in_an_executor_of_ones_own_is_waited_for_too() -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        async with asyncio.timeout(0.001):
            await asyncio.get_running_loop().run_in_executor(pool, time.sleep, 0.05)
    assert elapsed() == 0


@virtual_time
async def test_a_thread_whose_await_was_cancelled_still_holds_the_clock() -> None:
    ended: list[float] = []

    def work() -> None:
        time.sleep(0.05)
        ended.append(time.monotonic())

    awaiting = asyncio.ensure_future(asyncio.to_thread(work))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    awaiting.cancel()
    await asyncio.sleep(10)
    assert ended


@virtual_time
async def test_the_answer_of_a_writer_thread_is_waited_for() -> None:
    """As a journal does it: a thread of its own sets a concurrent future, the loop awaits it wrapped."""
    answer: concurrent.futures.Future[str] = concurrent.futures.Future()
    thread = threading.Timer(0.05, answer.set_result, ["written"])
    thread.start()
    async with asyncio.timeout(0.001):
        assert await asyncio.wrap_future(answer) == "written"
    thread.join()
    assert elapsed() == 0


@virtual_time
async def test_busy_holds_the_clock_for_a_bare_thread() -> None:
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    thread = threading.Timer(0.05, loop.call_soon_threadsafe, [woken.set])
    thread.start()
    with busy():
        async with asyncio.timeout(0.001):
            await woken.wait()
    thread.join()
    assert elapsed() == 0


@virtual_time
async def test_busy_can_be_entered_and_left_by_another_thread() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    seen_by_thread: list[float] = []
    holding = threading.Event()

    def work() -> None:
        with loop.busy():
            holding.set()
            time.sleep(0.05)
            seen_by_thread.append(loop.now() - START)

    thread = threading.Thread(target=work)
    thread.start()
    holding.wait()
    await asyncio.sleep(100)
    thread.join()
    assert seen_by_thread == [0]
    assert elapsed() == 100


@virtual_time
async def test_threads_that_use_the_processor_are_given_time() -> None:
    """A foreign thread that computes is seen at work, though nobody counted it."""
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()

    def compute() -> None:
        until = time.thread_time() + 0.03
        while time.thread_time() < until:
            pass
        loop.call_soon_threadsafe(woken.set)

    thread = threading.Thread(target=compute)
    thread.start()
    async with asyncio.timeout(0.001):
        await woken.wait()
    thread.join()
    assert elapsed() == 0


# --- sockets


async def answer(request: web.Request) -> web.Response:
    await asyncio.sleep(float(request.query.get("after", 0)))
    return web.Response(body=b"x" * int(request.query.get("size", 1)))


async def serve() -> tuple[web.AppRunner, str]:
    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/"


@virtual_time
async def test_http_over_loopback_costs_only_the_servers_own_delay() -> None:
    runner, url = await serve()
    async with ClientSession(timeout=ClientTimeout(sock_read=61)) as session:
        for _ in range(20):
            async with session.get(url, params={"after": 60}) as reply:
                assert await reply.read() == b"x"
    await runner.cleanup()
    assert elapsed() == pytest.approx(20 * 60, abs=0.5)


@virtual_time
async def test_no_timeout_fires_while_bytes_are_on_their_way() -> None:
    """Large bodies need many turns of both sides; a clock that jumped between them would break the read timeout."""
    runner, url = await serve()
    ticking = asyncio.ensure_future(asyncio.sleep(0.001))

    async with ClientSession(timeout=ClientTimeout(sock_read=0.5)) as session:

        async def fetch() -> int:
            async with session.get(url, params={"size": 3_000_000}) as reply:
                return len(await reply.read())

        sizes = await asyncio.gather(*(fetch() for _ in range(20)))
    await ticking
    await runner.cleanup()
    assert sizes == [3_000_000] * 20
    assert elapsed() < 0.5


@virtual_time
async def test_a_server_on_a_loop_of_its_own_thread_answers_in_no_virtual_time() -> None:
    started = threading.Event()
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    urls: list[str] = []

    async def main() -> None:
        stop.append((asyncio.get_running_loop(), asyncio.Event()))
        runner, url = await serve()
        urls.append(url)
        started.set()
        await stop[0][1].wait()
        await runner.cleanup()

    thread = threading.Thread(target=asyncio.run, args=[main()])
    thread.start()
    started.wait()
    async with ClientSession(timeout=ClientTimeout(sock_read=1)) as session:
        for _ in range(100):
            async with session.get(urls[0], params={"size": 100_000}) as reply:
                assert len(await reply.read()) == 100_000
    assert elapsed() == 0
    other_loop, stopping = stop[0]
    other_loop.call_soon_threadsafe(stopping.set)
    await asyncio.to_thread(thread.join)


# --- hanging


async def hang() -> None:
    await asyncio.Event().wait()


def test_a_wait_for_ever_is_an_error_that_names_the_waiting_task() -> None:
    with pytest.raises(VirtualTimeError, match=r"wait for ever.*\n.*hang.*test_virtual_time\.py"):
        run(hang())


def test_a_wait_for_ever_with_open_sockets_is_an_error_after_the_patience() -> None:
    async def main() -> None:
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            await asyncio.get_running_loop().sock_recv(left, 1)

    with pytest.raises(VirtualTimeError, match="wait for ever"):
        run(main(), patience=0.05)


def test_a_thread_that_never_answers_is_an_error_after_the_patience() -> None:
    async def main() -> None:
        never: concurrent.futures.Future[None] = concurrent.futures.Future()
        async with asyncio.timeout(1):
            await asyncio.wrap_future(never)

    with pytest.raises(VirtualTimeError, match="silent for"):
        run(main(), patience=0.05)


def test_timers_without_end_are_an_error_at_the_horizon() -> None:
    def tick() -> None:
        asyncio.get_running_loop().call_later(60, tick)

    async def main() -> None:
        tick()
        await hang()

    with pytest.raises(VirtualTimeError, match="passed 86400 s"):
        run(main(), horizon=86_400)


# --- doors


def test_run_gives_the_result_and_closes_the_loop() -> None:
    async def main() -> tuple[int, asyncio.AbstractEventLoop]:
        await asyncio.to_thread(int)
        return 7, asyncio.get_running_loop()

    result, loop = run(main())
    assert result == 7
    assert loop.is_closed()


def test_an_error_of_the_test_comes_out_as_it_is() -> None:
    @virtual_time
    async def failing() -> None:
        await asyncio.sleep(1)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        failing()


@pytest.fixture
def number() -> int:
    return 42


@virtual_time
async def test_fixtures_reach_the_wrapped_test(number: int, tmp_path: object) -> None:
    assert number == 42
    assert tmp_path


async def test_now_and_busy_refuse_an_ordinary_loop() -> None:
    with pytest.raises(VirtualTimeError, match="VirtualTimeLoop"):
        now()
    with pytest.raises(VirtualTimeError, match="VirtualTimeLoop"):
        busy()


def test_every_public_name_is_offered_by_the_package() -> None:
    assert set(testing.__all__) == {
        "EventRecorder",
        "Faults",
        "START",
        "VirtualTimeError",
        "VirtualTimeLoop",
        "busy",
        "now",
        "run",
        "virtual_time",
    }
    assert all(hasattr(testing, name) for name in testing.__all__)
