from __future__ import annotations

import asyncio

import pytest

from wanasync.emulator.clock import Clock
from wanasync.testing import virtual_time


def running(**options: float) -> Clock:
    clock = Clock(**options)
    clock.start()
    return clock


def test_before_it_runs_it_stands_at_its_epoch() -> None:
    clock = Clock(epoch=1000.0)
    clock.advance(5)
    assert clock.now() == 1005.0


@virtual_time
async def test_it_runs_as_fast_as_it_is_told() -> None:
    clock = running(speed=60.0, epoch=1000.0)
    await asyncio.sleep(10)
    assert clock.now() == pytest.approx(1600.0)
    assert clock.loop_seconds(60) == 1.0


@virtual_time
async def test_sleeping_takes_its_own_seconds() -> None:
    clock = running(speed=10.0)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await clock.sleep(50)
    await clock.sleep(0)
    assert loop.time() - began == pytest.approx(5.0)


@virtual_time
async def test_alarms_ring_in_order_and_later_ones_wait() -> None:
    clock, rung = running(epoch=0.0), list[str]()
    for name, when in (("c", 30.0), ("a", 10.0), ("b", 20.0), ("a too", 10.0)):
        clock.call_at(when, lambda name=name: rung.append(name))  # type: ignore[misc]
    await asyncio.sleep(25)
    assert rung == ["a", "a too", "b"]


@virtual_time
async def test_pushing_it_forward_wakes_those_who_sleep() -> None:
    clock = running(epoch=0.0)
    sleeper = asyncio.create_task(clock.sleep(3600))
    await asyncio.sleep(1)
    clock.advance(3600)
    began = asyncio.get_running_loop().time()
    await sleeper
    assert asyncio.get_running_loop().time() == began


@virtual_time
async def test_an_alarm_may_set_the_next_one() -> None:
    clock, rung = running(epoch=0.0), list[float]()

    def ring() -> None:
        rung.append(clock.now())
        if len(rung) < 3:
            clock.call_at(clock.now() + 10, ring)

    clock.call_at(10, ring)
    await asyncio.sleep(100)
    assert rung == pytest.approx([10, 20, 30])


@virtual_time
async def test_an_alarm_in_the_past_rings_at_once_but_not_within_the_call() -> None:
    clock, rung = running(epoch=1000.0), list[int]()
    clock.call_at(0.0, lambda: rung.append(1))
    assert not rung
    await asyncio.sleep(0.001)
    assert rung == [1]


@virtual_time
async def test_a_cancelled_sleeper_is_no_trouble_when_its_time_comes() -> None:
    clock = running()
    sleeper = asyncio.create_task(clock.sleep(10))
    await asyncio.sleep(1)
    sleeper.cancel()
    clock.advance(20)
    with pytest.raises(asyncio.CancelledError):
        await sleeper


@virtual_time
async def test_stopped_it_stands_still_and_rings_no_more() -> None:
    clock, rung = running(epoch=0.0), list[int]()
    clock.call_at(10, lambda: rung.append(1))
    await asyncio.sleep(5)
    clock.stop()
    await asyncio.sleep(50)
    assert clock.now() == pytest.approx(5.0)
    assert rung == []


def test_time_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="only goes forward"):
        Clock().advance(-1)
