"""A crew works off what is due: as many at once as there is room for, and nothing is lost when work fails."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from wanasync.engine.crew import Crew
from wanasync.testing import virtual_time


class Yard:
    """Pieces of work that are due at their time, each a second's."""

    def __init__(self, *due: float, room: int = 2) -> None:
        self.due = deque(sorted(due))
        self.room = room
        self.busy = self.most = 0
        self.unlucky: float | None = None
        self.done: list[float] = []
        self.crew = Crew(
            "the work", self.take, self.work, self.ended, limit=lambda: self.room, clock=asyncio.get_running_loop().time
        )

    def take(self, now: float) -> float | None:
        if not self.due:
            return None
        if self.due[0] > now:
            self.crew.come_back(self.due[0] - now)
            return None
        self.busy += 1
        self.most = max(self.most, self.busy)
        return self.due.popleft()

    async def work(self, due: float) -> None:
        await asyncio.sleep(1)
        if due == self.unlucky:
            raise ValueError("unlucky")

    def ended(self, due: float) -> None:
        self.busy -= 1
        self.done.append(due)


def start() -> float:
    return asyncio.get_running_loop().time()


@virtual_time
async def test_no_more_is_begun_than_there_is_room_for() -> None:
    yard = Yard(*[start()] * 7)
    yard.crew.wake()
    await asyncio.sleep(3.5)
    assert (yard.most, len(yard.done), yard.busy) == (2, 6, 1)
    await yard.crew.close()


@virtual_time
async def test_what_is_due_later_is_begun_then() -> None:
    began = start()
    yard = Yard(began + 10, began + 5)
    yard.crew.wake()
    await asyncio.sleep(6.5)
    assert yard.done == [began + 5]
    await asyncio.sleep(5)
    assert yard.done == [began + 5, began + 10]
    await yard.crew.close()


@virtual_time
async def test_work_that_fails_is_reported_and_the_rest_goes_on() -> None:
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    began = start()
    yard = Yard(began, began + 0.5, room=1)
    yard.unlucky = began
    yard.crew.wake()
    await asyncio.sleep(2.5)
    assert yard.done == [began, began + 0.5]
    assert [str(fault["exception"]) for fault in faults] == ["unlucky"]
    assert faults[0]["message"] == "the work failed"
    await yard.crew.close()


@virtual_time
async def test_a_task_of_the_crew_that_is_cancelled_gives_its_room_back() -> None:
    yard = Yard(*[start()] * 3, room=1)
    yard.crew.wake()
    await asyncio.sleep(0.5)
    (task,) = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    task.cancel()
    await asyncio.sleep(2.5)
    assert (len(yard.done), yard.busy) == (3, 0)
    await yard.crew.close()


@virtual_time
async def test_closed_it_begins_nothing_more() -> None:
    yard = Yard(*[start()] * 3)
    yard.crew.wake()
    await asyncio.sleep(0.5)
    await yard.crew.close()
    assert (len(yard.done), yard.busy) == (2, 0)
    yard.crew.wake()
    await asyncio.sleep(5)
    assert len(yard.due) == 1
