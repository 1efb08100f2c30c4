from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
import weakref
from collections.abc import Callable

import pytest

from wanasync.engine.gate import Gate, Ticket
from wanasync.models import Limits
from wanasync.rules.pacing import PaceRecord, RateKind
from wanasync.testing import virtual_time


def make_gate(limits: Limits | None = None) -> Gate:
    return Gate(limits=limits, rng=random.Random(0))


async def settle_all(gate: Gate, tickets: list[Ticket]) -> None:
    for ticket in tickets:
        gate.accepted(ticket, f"task-{ticket.number}")


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_submission_is_admitted_at_once_and_its_outcome_counted() -> None:
    gate = make_gate()
    ticket = await gate.admit()
    assert gate.statistics().in_flight == 1
    gate.accepted(ticket, "task-1")
    statistics = gate.statistics()
    assert (statistics.in_flight, statistics.submitted, statistics.accepted) == (0, 1, 1)


async def test_only_so_many_are_on_the_wire_at_once() -> None:
    gate = make_gate()
    waits = [asyncio.ensure_future(gate.admit()) for _ in range(50)]
    await turns()
    admitted = [wait for wait in waits if wait.done()]
    assert len(admitted) == gate.statistics().in_flight < 10
    assert gate.statistics().waiting == 50 - len(admitted)
    for wait in waits:
        wait.cancel()


@virtual_time
async def test_a_throttled_submission_closes_the_gate_for_all_then_one_canary_goes() -> None:
    gate = make_gate()
    loop = asyncio.get_running_loop()
    first = await gate.admit()
    start = loop.time()
    gate.throttled(first, 60.0, firm=True)
    assert gate.statistics().state == "paused"
    assert gate.statistics().why == "the provider asked for 60 s (429)"
    waits = [asyncio.ensure_future(gate.admit()) for _ in range(5)]
    canary = await waits[0]
    assert loop.time() - start == pytest.approx(60.0)
    assert gate.statistics().state == "probing"
    await asyncio.sleep(300)
    assert not any(wait.done() for wait in waits[1:])
    gate.accepted(canary, "task-1")
    second = await waits[1]
    assert loop.time() - start == pytest.approx(360.0)
    gate.accepted(second, "task-2")
    for wait in waits[2:]:
        wait.cancel()


@virtual_time
async def test_given_limits_are_kept_without_a_single_refusal() -> None:
    gate = make_gate(Limits(requests=10, per=60.0))
    loop = asyncio.get_running_loop()
    times = []
    for number in range(30):
        gate.accepted(await gate.admit(), f"task-{number}")
        times.append(loop.time())
    assert all(late - early >= 60.0 for early, late in zip(times, times[10:], strict=False))
    assert loop.time() - times[0] == pytest.approx(120.0, abs=1.0)


async def test_a_quota_of_tasks_waits_for_a_task_to_finish() -> None:
    gate = make_gate(Limits(concurrent=2))
    await settle_all(gate, [await gate.admit(), await gate.admit()])
    wait = asyncio.ensure_future(gate.admit())
    await turns()
    assert not wait.done()
    gate.finished("task-1")
    gate.accepted(await wait, "task-3")


async def test_tracked_tasks_fill_the_quota() -> None:
    gate = make_gate(Limits(concurrent=1))
    gate.track("from-an-earlier-run")
    wait = asyncio.ensure_future(gate.admit())
    await turns()
    assert not wait.done()
    gate.finished("from-an-earlier-run")
    await wait


async def test_interactive_calls_go_first_and_batches_are_not_starved() -> None:
    gate = make_gate(Limits(concurrent=1))
    gate.track("task-0")
    order: list[str] = []

    async def caller(name: str, interactive: bool) -> None:
        with await gate.admit(interactive=interactive) as ticket:
            order.append(name)
            gate.refused(ticket)

    callers = [asyncio.ensure_future(caller(f"batch {n}", False)) for n in range(3)]
    callers += [asyncio.ensure_future(caller(f"call {n}", True)) for n in range(8)]
    await turns()
    gate.finished("task-0")
    await asyncio.gather(*callers)
    assert order[:4] == ["call 0", "call 1", "call 2", "batch 0"]
    assert order[4:8] == ["call 3", "call 4", "call 5", "batch 1"]


async def test_one_that_comes_again_goes_to_the_front_of_its_lane() -> None:
    gate = make_gate(Limits(concurrent=1))
    gate.track("task-0")
    waits = [asyncio.ensure_future(gate.admit()), asyncio.ensure_future(gate.admit(again=True))]
    await turns()
    gate.finished("task-0")
    await turns()
    assert [wait.done() for wait in waits] == [False, True]
    waits[0].cancel()


async def test_a_cancelled_wait_leaves_no_trace() -> None:
    gate = make_gate(Limits(concurrent=1))
    gate.track("task-0")
    waits = [asyncio.ensure_future(gate.admit()) for _ in range(3)]
    await turns()
    waits[0].cancel()
    await turns()
    assert gate.statistics().waiting == 2
    gate.finished("task-0")
    gate.accepted(await waits[1], "task-1")
    assert gate.statistics().waiting == 1
    waits[2].cancel()


async def test_cancelled_between_being_admitted_and_hearing_of_it_the_place_goes_to_the_next() -> None:
    gate = make_gate(Limits(concurrent=1))
    gate.track("task-0")
    first, second = asyncio.ensure_future(gate.admit()), asyncio.ensure_future(gate.admit())
    await turns()
    gate.finished("task-0")
    assert gate.statistics().in_flight == 1
    first.cancel()
    ticket = await second
    with pytest.raises(asyncio.CancelledError):
        await first
    assert gate.statistics().in_flight == 1
    gate.accepted(ticket, "task-1")
    assert gate.statistics().in_flight == 0


async def test_settling_twice_is_an_error_that_says_what_happened() -> None:
    gate = make_gate()
    ticket = await gate.admit()
    gate.refused(ticket)
    with pytest.raises(RuntimeError, match="settled twice: refused, then accepted"):
        gate.accepted(ticket, "task-1")
    assert gate.statistics().accepted == 0


async def test_a_ticket_left_unsettled_settles_itself() -> None:
    gate = make_gate()
    with pytest.raises(ZeroDivisionError), await gate.admit() as ticket:
        raise ZeroDivisionError
    assert ticket.is_settled
    assert gate.statistics().in_flight == 0


async def test_a_released_ticket_counts_for_nothing() -> None:
    gate = make_gate(Limits(requests=1, per=60.0))
    gate.release(await gate.admit())
    await gate.admit()
    assert gate.statistics().in_flight == 1


@virtual_time
async def test_a_lost_ticket_does_not_block_the_gate_for_ever() -> None:
    gate = make_gate(Limits(concurrent=1))
    await gate.admit()
    async with asyncio.timeout(3600):
        await gate.admit()


async def test_a_hold_admits_nobody_until_it_is_resumed() -> None:
    gate = make_gate()
    gate.hold("the disk is full")
    wait = asyncio.ensure_future(gate.admit())
    await turns()
    assert not wait.done()
    assert gate.statistics().state == "paused"
    assert "the disk is full" in gate.statistics().why
    gate.resume("the disk is full")
    await wait


async def test_one_gate_per_provider_and_key() -> None:
    gate = Gate.shared("https://one.example/api", "key-1")
    assert Gate.shared("https://one.example/api/", "key-1") is gate
    assert Gate.shared("https://one.example/api", "key-2") is not gate
    assert Gate.shared("https://two.example/api", "key-1") is not gate


def test_the_registry_does_not_hold_the_key() -> None:
    gate = Gate.shared("https://one.example/api", "sk-very-secret")
    assert "sk-very-secret" not in repr(dict(Gate._shared))
    assert "sk-very-secret" not in repr(vars(gate))


def test_gates_of_long_ago_are_forgotten() -> None:
    first = weakref.ref(Gate.shared("https://forgotten.example", "key"))
    for number in range(40):
        Gate.shared(f"https://host-{number}.example", "key")
    gc.collect()
    assert first() is None


def test_a_gate_outlives_the_loops_that_use_it() -> None:
    gate = make_gate()
    for number in range(3):
        ticket = asyncio.run(gate.admit())
        gate.accepted(ticket, f"task-{number}")
    assert gate.statistics().accepted == 3


def test_a_gate_does_not_keep_the_loops_that_used_it() -> None:
    gate = make_gate()

    async def use() -> weakref.ref[asyncio.AbstractEventLoop]:
        gate.accepted(await gate.admit(), "task")
        return weakref.ref(asyncio.get_running_loop())

    loop = asyncio.run(use())
    gc.collect()
    assert loop() is None


def test_what_is_tracked_without_a_loop_is_not_of_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1e6)
    gate = make_gate(Limits(concurrent=1))
    gate.track("task-0")

    async def later() -> None:
        loop = asyncio.get_running_loop()
        assert loop.time() >= 1e6
        wait = asyncio.ensure_future(gate.admit())
        await turns()
        assert not wait.done()
        gate.finished("task-0")
        await wait

    asyncio.run(later())


def test_waiters_of_a_closed_loop_do_not_take_places() -> None:
    gate = make_gate(Limits(concurrent=1))
    gate.track("task-0")
    loop = asyncio.new_event_loop()
    abandoned = loop.create_task(gate.admit())
    loop.run_until_complete(turns())
    abandoned._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()

    async def later() -> None:
        wait = asyncio.ensure_future(gate.admit())
        await turns()
        gate.finished("task-0")
        async with asyncio.timeout(5):
            await wait

    asyncio.run(later())
    assert gate.statistics().waiting == 0


def test_two_loops_in_threads_share_the_places() -> None:
    gate = make_gate(Limits(concurrent=3))
    most, running, lock = 0, 0, threading.Lock()

    async def submissions(name: str) -> None:
        async def one(number: int) -> None:
            nonlocal most, running
            ticket = await gate.admit()
            with lock:
                running += 1
                most = max(most, running)
            task_id = f"{name}-{number}"
            gate.accepted(ticket, task_id)
            await asyncio.sleep(0.001)
            with lock:
                running -= 1
            gate.finished(task_id)

        await asyncio.gather(*(one(number) for number in range(100)))

    threads = [threading.Thread(target=lambda n=name: asyncio.run(submissions(n))) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    statistics = gate.statistics()
    assert statistics.accepted == 200
    assert statistics.waiting == statistics.in_flight == 0
    assert most <= 3


@virtual_time
async def test_what_was_learned_starts_the_next_run() -> None:
    gate = make_gate()
    gate.teach(PaceRecord(RateKind.WINDOW, requests=5, per=60.0, at=time.time() - 60))
    loop = asyncio.get_running_loop()
    canary = await gate.admit()
    wait = asyncio.ensure_future(gate.admit())
    await turns()
    assert not wait.done()
    gate.accepted(canary, "task-0")
    gate.accepted(await wait, "task-1")
    start = loop.time()
    for number in range(2, 6):
        gate.accepted(await gate.admit(), f"task-{number}")
    assert loop.time() > start + 1.0
    assert gate.learned().requests is not None


@virtual_time
async def test_a_thousand_waiters_need_one_timer() -> None:
    gate = make_gate(Limits(requests=1, per=60.0))
    gate.accepted(await gate.admit(), "task-0")
    loop = asyncio.get_running_loop()
    waits = [asyncio.ensure_future(gate.admit()) for _ in range(1000)]
    await turns()
    timers = [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
    assert len(timers) == 1
    for wait in waits:
        wait.cancel()
    await turns()
    assert not [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", range(5))
@virtual_time
async def test_cancelled_at_any_moment_no_place_is_lost_or_leaked(seed: int) -> None:
    rng = random.Random(seed)
    gate = make_gate(Limits(requests=20, per=10.0, concurrent=5))
    running = 0
    done = 0

    async def submission(number: int) -> None:
        nonlocal running, done
        with await gate.admit(interactive=number % 3 == 0) as ticket:
            running += 1
            assert running <= 5
            try:
                await asyncio.sleep(rng.random())
                if rng.random() < 0.2:
                    gate.throttled(ticket, 1.0)
                else:
                    gate.accepted(ticket, f"task-{number}")
                    gate.finished(f"task-{number}")
                done += 1
            finally:
                running -= 1

    async def canceller(task: asyncio.Task[None]) -> None:
        await asyncio.sleep(rng.choice([0.0, rng.random() * 60]))
        task.cancel()

    tasks = [asyncio.create_task(submission(number)) for number in range(120)]
    cancellers = [asyncio.create_task(canceller(task)) for task in tasks if rng.random() < 0.5]
    async with asyncio.timeout(7200):
        await asyncio.gather(*tasks, *cancellers, return_exceptions=True)
    statistics = gate.statistics()
    assert done > 40
    assert statistics.in_flight == statistics.waiting == 0
    # And the next caller is served.
    async with asyncio.timeout(7200):
        gate.accepted(await gate.admit(), "last")


def test_a_loop_whose_clock_is_behind_does_not_wait_for_it_to_catch_up() -> None:
    gate = make_gate(Limits(requests=1, per=60.0))

    @virtual_time
    async def use() -> float:
        loop = asyncio.get_running_loop()
        start = loop.time()
        await asyncio.sleep(500)
        gate.accepted(await gate.admit(), f"task-{start}-{id(loop)}")
        waited = loop.time()
        gate.accepted(await gate.admit(), f"other-{start}-{id(loop)}")
        return loop.time() - waited

    run: Callable[[], float] = use
    assert run() == pytest.approx(60.0, abs=0.1)
    assert run() == pytest.approx(60.0, abs=0.1)


async def test_a_hint_from_the_text_that_is_short_is_waited_for() -> None:
    gate = make_gate()
    gate.throttled(await gate.admit(), 4.0)
    assert 3.0 < gate.statistics().paused_for <= 4.0


async def test_several_holds_are_taken_back_one_by_one() -> None:
    gate = make_gate()
    gate.hold("the disk is full")
    gate.hold("the budget is spent")
    gate.resume("the disk is full")
    wait = asyncio.ensure_future(gate.admit())
    await turns()
    assert not wait.done()
    gate.resume("the budget is spent")
    await wait


@virtual_time
async def test_a_raised_limit_is_for_those_who_wait_already() -> None:
    gate = make_gate(Limits(requests=1, per=3600.0))
    gate.accepted(await gate.admit(), "task-1")
    waiting = asyncio.ensure_future(gate.admit())
    await turns()
    assert not waiting.done()
    gate.limit(Limits(requests=10, per=60.0))
    await turns()
    assert waiting.done()
