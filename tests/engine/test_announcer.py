"""Listeners hear everything in order, and a bad one costs nobody else anything."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from pathlib import Path

import pytest

from wanasync.engine.announcer import Announcer, as_listeners
from wanasync.events import EVENTS_HELD, LISTENER_SECONDS, Event, EventsDropped, LinkRenewed, Listener
from wanasync.testing import virtual_time


def news(number: int) -> LinkRenewed:
    return LinkRenewed(at=float(number), task_id=f"task-{number}", path=Path("cat.mp4"))


class Slow:
    """An async listener that waits for leave before each event."""

    def __init__(self) -> None:
        self.heard: list[Event] = []
        self.leave = asyncio.Event()

    async def __call__(self, event: Event) -> None:
        await self.leave.wait()
        self.heard.append(event)


@pytest.fixture
def complaints() -> list[dict[str, object]]:
    return []


def listen_to(complaints: list[dict[str, object]]) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))


@virtual_time
async def test_all_hear_all_in_order() -> None:
    plain: list[Event] = []
    first, second = Slow(), Slow()
    announcer = Announcer([plain.append, first, second])
    first.leave.set()
    for number in range(5):
        announcer(news(number))
    assert plain == [news(number) for number in range(5)]
    await asyncio.sleep(1)
    assert first.heard == plain
    assert second.heard == []
    second.leave.set()
    await announcer.close()
    assert second.heard == plain


@virtual_time
async def test_what_a_slow_listener_misses_is_bounded_and_told() -> None:
    slow = Slow()
    announcer = Announcer([slow])
    announcer(news(-1))
    await asyncio.sleep(0)
    for number in range(EVENTS_HELD + 7):
        announcer(news(number))
    slow.leave.set()
    await asyncio.sleep(1)
    announcer(news(99_999))
    await announcer.close()
    assert slow.heard[: EVENTS_HELD + 1] == [news(number) for number in range(-1, EVENTS_HELD)]
    assert slow.heard[EVENTS_HELD + 1 :] == [EventsDropped(at=EVENTS_HELD + 6.0, count=7), news(99_999)]


@virtual_time
async def test_closing_waits_for_a_while_and_no_longer(caplog: pytest.LogCaptureFixture) -> None:
    quick, stuck = Slow(), Slow()
    announcer = Announcer([quick, stuck])
    announcer(news(1))
    announcer(news(2))
    asyncio.get_running_loop().call_later(LISTENER_SECONDS / 2, quick.leave.set)
    began = asyncio.get_running_loop().time()
    await announcer.close()
    assert asyncio.get_running_loop().time() - began == LISTENER_SECONDS
    assert quick.heard == [news(1), news(2)]
    assert "1 last events are lost" in caplog.text
    stuck.leave.set()
    announcer(news(3))
    await asyncio.sleep(1)
    assert stuck.heard == []


@virtual_time
async def test_a_listener_that_closes_the_session_does_not_wait_for_itself() -> None:
    closed: list[Event] = []

    async def listener(event: Event) -> None:
        await announcer.close()
        closed.append(event)

    announcer = Announcer([listener])
    announcer(news(1))
    await asyncio.sleep(0.1)
    assert closed == [news(1)]


@virtual_time
async def test_what_listeners_raise_is_told_to_the_loop_and_ends_nothing(complaints: list[dict[str, object]]) -> None:
    heard: list[Event] = []
    listen_to(complaints)

    def bad(event: Event) -> None:
        raise ValueError("plain")

    async def worse(event: Event) -> None:
        heard.append(event)
        raise asyncio.CancelledError if event == news(1) else ValueError("async")

    announcer = Announcer([bad, worse, heard.append])
    announcer(news(1))
    announcer(news(2))
    await announcer.close()
    assert heard.count(news(2)) == 2
    assert [type(context["exception"]) for context in complaints] == [
        ValueError,
        ValueError,
        asyncio.CancelledError,
        ValueError,
    ]


@virtual_time
async def test_an_async_listener_is_known_in_any_dress() -> None:
    slow = Slow()
    slow.leave.set()
    dresses: list[Listener] = [slow, slow.__call__, functools.partial(slow.__call__), lambda event: slow(event)]
    announcer = Announcer(dresses)
    announcer(news(1))
    announcer(news(2))
    await announcer.close()
    assert sorted(event.at for event in slow.heard) == [1.0] * 4 + [2.0] * 4


@virtual_time
async def test_an_async_listener_runs_in_the_context_of_its_session() -> None:
    who = contextvars.ContextVar("who", default="nobody")
    heard = []

    async def listener(event: Event) -> None:
        heard.append(who.get())

    who.set("session")
    announcer = Announcer([listener])
    who.set("a request")
    announcer(news(1))
    await announcer.close()
    assert heard == ["session"]


@virtual_time
async def test_a_listener_that_never_waits_leaves_the_loop_to_others() -> None:
    heard = 0
    turns = 0

    async def busy(event: Event) -> None:
        nonlocal heard
        heard += 1

    announcer = Announcer([busy])
    for number in range(100):
        announcer(news(number))
    while heard < 100:
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 50


def repr_of(event: Event) -> None:
    """Any function."""


def test_one_listener_several_or_none() -> None:
    assert as_listeners(None) == ()
    assert as_listeners(print) == (print,)
    both: list[Listener] = [print, repr_of]
    assert as_listeners(iter(both)) == tuple(both)
    with pytest.raises(TypeError, match="not 'nonsense'"):
        as_listeners(["nonsense"])  # type: ignore[list-item]
