"""A listener that keeps what it hears, for tests to look at and to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TypeVar, overload

from wanasync.events import Event

__all__ = ["EventRecorder"]

E = TypeVar("E", bound=Event)


class EventRecorder:
    """Give it as `on_event`, to one session or several. `heard` holds all events in order.

    `recorder[SubmissionAccepted]` is a list of those of one kind.
    """

    def __init__(self) -> None:
        self.heard: list[Event] = []
        self._waiting: list[asyncio.Future[None]] = []

    def __call__(self, event: Event) -> None:
        self.heard.append(event)
        waiting, self._waiting = self._waiting, []
        for sleeper in waiting:
            if not sleeper.done():
                sleeper.set_result(None)

    def __len__(self) -> int:
        return len(self.heard)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.heard)

    def __getitem__(self, kind: type[E]) -> list[E]:
        return [event for event in self.heard if isinstance(event, kind)]

    def clear(self) -> None:
        self.heard.clear()

    @overload
    async def wait_for(self, kind: type[E], *, count: int = 1, timeout: float = ...) -> E: ...
    @overload
    async def wait_for(
        self, kind: type[E], *, count: int = 1, timeout: float = ..., where: Callable[[E], bool]
    ) -> E: ...
    async def wait_for(
        self,
        kind: type[E],
        *,
        count: int = 1,
        timeout: float = 10.0,
        where: Callable[[E], bool] = lambda _: True,
    ) -> E:
        """The `count`th event of a kind, and for which `where` holds, once it has come; at once if it has before.

        Raises AssertionError after `timeout` seconds of the loop's clock, with what was heard.
        """
        try:
            async with asyncio.timeout(timeout):
                while len(found := [event for event in self[kind] if where(event)]) < count:
                    sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._waiting.append(sleeper)
                    await sleeper
        except TimeoutError:
            message = f"no {kind.__name__} ({len(found)} of {count}) within {timeout:g} s; heard: {self._kinds()}"
            raise AssertionError(message) from None
        return found[count - 1]

    def assert_order(self, *kinds: type[Event]) -> None:
        """That events of these kinds came in this order, whatever came between. Raises AssertionError."""
        left = iter(self.heard)
        for number, kind in enumerate(kinds):
            if not any(isinstance(event, kind) for event in left):
                after = f" after {kinds[number - 1].__name__}" if number else ""
                raise AssertionError(f"no {kind.__name__}{after}; heard: {self._kinds()}")

    def assert_none(self, *kinds: type[Event]) -> None:
        """That no event of these kinds came. Raises AssertionError."""
        found = [event for event in self.heard if isinstance(event, kinds)]
        if found:
            raise AssertionError(f"heard {found[0]!r}")

    def _kinds(self) -> str:
        return " ".join(type(event).__name__ for event in self.heard) or "nothing"
