"""What callbacks tell a session: which task to look at now, and which task a submission without a reply has made."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Protocol, TypeVar

from attrs import define, field

from wanasync.edges.retrying import full_jitter
from wanasync.errors import SessionError, WanError
from wanasync.models import Delivery, TaskSnapshot, VideoRequest
from wanasync.rules.resolution import Unanswered, objection

__all__ = ["CALLBACK_WAIT", "CallbackDesk", "Callbacks"]

V = TypeVar("V")

logger: logging.Logger = logging.getLogger("wanasync.callbacks")

CALLBACK_WAIT = 900.0
"""Seconds for which a submission without a reply is waited for: the task takes minutes, and calls back when it ends."""
REMEMBERED = 10_000
"""Submissions whose deliveries are remembered: one may come before it is known that its reply is lost."""
MOST_DELIVERIES = 8
"""Of one submission that are listened to: a provider sends 4 at most, and who repeats them has no say in our pace."""
ASK_AGAIN = 15.0
SILENT_ENDS = 10
"""Tasks that end before it is told that nobody calls back: most likely the address is wrong, or a wall in front."""
REREAD_BASE, REREAD_CAP = 1.0, 60.0


class Callbacks(Protocol):
    """What a session needs of whatever receives callbacks, such as `wanasync.webhooks.CallbackReceiver`."""

    @property
    def public_url(self) -> str:
        """Where the provider calls, without what differs from submission to submission."""

    def url(self, idempotency_key: str, at: float) -> str:
        """The callback URL of a submission first sent `at`: the same key and day, the same URL."""

    def watch(self) -> AsyncGenerator[Delivery, None]:
        """The deliveries, each proved to be for one of our submissions; without end."""


@define
class _Said:
    """What was delivered for one submission: how often, and for which tasks."""

    times: int = 0
    task_ids: tuple[str, ...] = ()

    def add(self, task_id: str) -> None:
        self.times += 1
        if task_id not in self.task_ids:
            self.task_ids += (task_id,)


_NOTHING_SAID = _Said()


@define(eq=False)
class CallbackDesk:
    """Listens to `source` for one session, between `start` and `close`.

    `hint` brings about a look at a task, `query` looks at one now; nothing is believed that these don't confirm.
    """

    _source: Callbacks
    _hint: Callable[[str], None]
    _query: Callable[[str], Awaitable[TaskSnapshot]]
    _said: dict[str, _Said] = field(factory=dict, init=False)
    _listeners: dict[str, set[asyncio.Event]] = field(factory=dict, init=False)
    _lost: dict[str, Unanswered] = field(factory=dict, init=False)
    _owners: dict[str, str] = field(factory=dict, init=False)
    _reading: asyncio.Task[None] | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)
    _is_called: bool = field(default=False, init=False)
    _ended: int = field(default=0, init=False)

    def start(self) -> None:
        self._reading = asyncio.create_task(self._read_on(), name="wanasync callbacks")

    async def close(self) -> None:
        self._closed = True
        for key in self._listeners:
            self._wake(key)
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def url(self, key: str, at: float) -> str:
        """The callback URL of a submission first sent `at`."""
        return self._source.url(key, at)

    def note_end(self) -> None:
        """A task has ended, whoever told it."""
        self._ended += 1
        if self._ended == SILENT_ENDS and not self._is_called:
            where = self._source.public_url
            logger.warning("%d tasks have ended and none was called back: is %s reachable?", self._ended, where)

    def note_lost(self, key: str, request: VideoRequest, sent: float) -> None:
        """Remember what was sent under `key`, to hold against what is called back for it."""
        _put(self._lost, key, Unanswered(key, request.model, sent))

    def lost(self, key: str) -> Unanswered:
        return self._lost.get(key) or Unanswered(key)

    async def task_of(
        self, unanswered: Unanswered, timeout: float, is_taken: Callable[[str], Awaitable[bool]]
    ) -> TaskSnapshot | None:
        """The task that a submission without a reply has made, once it was called back and a query confirms it.

        None when that doesn't happen within `timeout` seconds. `is_taken` tells whether a task is known to be another
        submission's. Raises `SessionError` when the session is closed meanwhile.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        search = _Search(unanswered, self._query, self._owners, is_taken)
        with self._listening(unanswered.key) as came:
            while not self._closed:
                came.clear()
                found = await search.among(self._said.get(unanswered.key, _NOTHING_SAID).task_ids)
                left = until - loop.time()
                if found is not None or left <= 0:
                    return found
                await _either(came, min(left, ASK_AGAIN))
        raise SessionError("the session was closed while a callback was waited for")

    @contextlib.contextmanager
    def _listening(self, key: str) -> Iterator[asyncio.Event]:
        came = asyncio.Event()
        self._listeners.setdefault(key, set()).add(came)
        try:
            yield came
        finally:
            self._listeners[key].discard(came)
            if not self._listeners[key]:
                del self._listeners[key]

    def _wake(self, key: str) -> None:
        for came in self._listeners.get(key, ()):
            came.set()

    async def _read_on(self) -> None:
        """Without end: while the source is out of order, polling finds what it would have told."""
        waits = full_jitter(REREAD_BASE, REREAD_CAP)
        while True:
            try:
                async with aclosing(self._source.watch()) as deliveries:
                    async for delivery in deliveries:
                        self._take(delivery)
            except Exception as error:  # noqa: BLE001 — a mailbox may be anybody's, and must not end the listening
                logger.warning("callbacks can't be read for now, tasks are polled meanwhile: %s", error)
            await asyncio.sleep(next(waits))

    def _take(self, delivery: Delivery) -> None:
        self._is_called = True
        said = self._said.get(delivery.idempotency_key) or _put(self._said, delivery.idempotency_key, _Said())
        if said.times < MOST_DELIVERIES:
            said.add(delivery.task_id)
            self._hint(delivery.task_id)
            self._wake(delivery.idempotency_key)


@define
class _Search:
    """The search for the task of one submission. `owners` are the submissions whose tasks were found, by task."""

    _unanswered: Unanswered
    _query: Callable[[str], Awaitable[TaskSnapshot]]
    _owners: dict[str, str]
    _is_taken: Callable[[str], Awaitable[bool]]
    _refuted: set[str] = field(factory=set, init=False)

    async def among(self, task_ids: Sequence[str]) -> TaskSnapshot | None:
        for task_id in task_ids:
            found = None if task_id in self._refuted else await self._look(task_id)
            if found is not None and await self._is_it(task_id, found):
                _put(self._owners, task_id, self._unanswered.key)
                return found
        return None

    async def _look(self, task_id: str) -> TaskSnapshot | None:
        try:
            return await self._query(task_id)
        except WanError as error:
            # Not even "no such task" is final: a fresh one may be unknown to a replica for a while.
            logger.debug("task %s, which a callback named, could not be looked at: %s", task_id, error)
            return None

    async def _is_it(self, task_id: str, found: TaskSnapshot) -> bool:
        owner = self._owners.get(task_id)
        taken = owner != self._unanswered.key if owner else await self._is_taken(task_id)
        problem = objection(self._unanswered, found, is_taken=taken)
        if problem is not None:
            logger.warning("task %s was called back for a submission that can't have made it: %s", task_id, problem)
            self._refuted.add(task_id)
        return problem is None


def _put(remembered: dict[str, V], name: str, value: V) -> V:
    """Remember `value`, and forget the oldest where there are too many."""
    remembered[name] = value
    if len(remembered) > REMEMBERED:
        del remembered[next(iter(remembered))]
    return value


async def _either(came: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await came.wait()
