"""The session: what users await. One gate (shared per base URL and key), one poller, one download queue."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import random
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import attrs

from wanasync import events
from wanasync.config import Config, resolve
from wanasync.edges.retrying import full_jitter, retry
from wanasync.edges.transport import Transport
from wanasync.engine.admission import Admissions
from wanasync.engine.announcer import Announcer, Emit, as_listeners
from wanasync.engine.batch import Batch, Requests, SharedBatch, ShareJournal
from wanasync.engine.callbacks import CALLBACK_WAIT, CallbackDesk, Callbacks
from wanasync.engine.gate import AnyGate, Gate
from wanasync.engine.homes import OpenJournal
from wanasync.engine.placing import free_place
from wanasync.engine.poller import Poller
from wanasync.engine.recent import RecentTasks
from wanasync.engine.saver import Saver
from wanasync.engine.shared_gate import SharedGate, SharedLimit
from wanasync.engine.submitter import NeverSent, NoLog, Submitter
from wanasync.engine.task import Following, Task
from wanasync.errors import (
    APIConnectionError,
    CallbackError,
    ConfigError,
    RateLimitError,
    ServerError,
    SessionError,
    SubmissionUnknownError,
    WanError,
)
from wanasync.models import Credits, SavedVideo, Statistics, TaskSnapshot, VideoRequest, as_request
from wanasync.rules import calls, naming, replies
from wanasync.rules.callbacks import check_reachable
from wanasync.rules.destination import Destination
from wanasync.rules.replies import Accepted, Refused, Reply, Throttled, Unknown
from wanasync.rules.templates import NameTemplate

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Task", "WanSession"]

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("wanasync.session")

READ_ATTEMPTS = 4
_secrets = random.SystemRandom()
_numbers = itertools.count(1)
RETRY_BASE, RETRY_CAP = 1.0, 30.0


class WanSession:
    """An async session with the provider. Open it with `async with`; it belongs to that event loop.

    `api_key` and `base_url` fall back to `config`, then to `WAN_API_KEY` and `WAN_BASE_URL`. An injected
    `client_session` serves the API, a `download_session` the video links; neither is ever closed here, and the key
    is sent to the API's origin only. `on_event` is a listener or several, each called with each event, see
    `wanasync.events`; an async one is awaited beside the work. `callbacks` is a `wanasync.webhooks.CallbackReceiver`:
    each submission then carries a callback URL of its own, and polling is the safety net only. `shared_limit` names a
    PostgreSQL database through which many processes keep to one limit, see `SharedLimit`. `clock` gives unix
    seconds.

    Raises `ConfigError` where no key is given or the provider can't reach the receiver; each call raises
    `SessionError` on a session that is not open.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        config: Config | None = None,
        client_session: aiohttp.ClientSession | None = None,
        download_session: aiohttp.ClientSession | None = None,
        trace_configs: Sequence[aiohttp.TraceConfig] = (),
        on_event: events.Listener | Iterable[events.Listener] | None = None,
        callbacks: Callbacks | None = None,
        shared_limit: str | SharedLimit | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.config: Config = _settled(api_key, base_url, config)
        self._sessions = {"client_session": client_session, "download_session": download_session}
        self._trace_configs = trace_configs
        self._listeners = as_listeners(on_event)
        if callbacks is not None:
            check_reachable(callbacks.public_url, self.config.base_url)
        self._callbacks = callbacks
        self._shared_limit = SharedLimit(shared_limit) if isinstance(shared_limit, str) else shared_limit
        self._desk: CallbackDesk | None = None
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open = False
        self._closing: asyncio.Task[None] | None = None
        self._batches: weakref.WeakSet[Batch | SharedBatch] = weakref.WeakSet()
        self._credits_used = 0.0

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise SessionError("this session was opened before; make a new WanSession for each `async with`")
        self._loop = asyncio.get_running_loop()
        config = self.config
        self._number = next(_numbers)
        self._announcer = Announcer(self._listeners)
        emit = self._emit = self._announcer if self._listeners else None
        self._transport = Transport(config, **self._sessions, trace_configs=self._trace_configs)
        try:
            self._gate = await self._open_gate()
        except BaseException:
            await self._transport.close()
            raise
        self._admissions = Admissions(self._gate)
        await self._transport.__aenter__()
        jitter = random.Random()  # noqa: S311 — spreads polls, keeps no secret
        self._poller = Poller(
            self._ask,
            self._ask_many,
            config,
            clock=self._clock,
            rng=jitter,
            observe=self._observe,
            callbacks=self._callbacks is not None,
            miss=None if emit is None else self._tell_miss,
        )
        self._saver = Saver(self._transport, self._ask, config, clock=self._clock, emit=emit)
        self._submitter = Submitter(config, self._transport, self._gate, clock=self._clock, emit=emit)
        self._recent = RecentTasks(self._recent_page)
        self._following = Following(
            self._poller, self._saver, self.query, self._check, self._clock, config.link_lifetime, emit
        )
        self._open = True
        if self._callbacks is not None:
            self._desk = CallbackDesk(self._callbacks, self._poller.hint, self.query)
            self._desk.start()
        self._tell_opened()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _open_gate(self) -> AnyGate:
        config, key = self.config, self.config.api_key or ""
        if self._shared_limit is not None:
            return await self._shared_limit.open(config.base_url, key, limits=config.limits)
        return Gate.shared(config.base_url, key, limits=config.limits)

    async def close(self) -> None:
        """Stop waiting and downloading, finish the submissions on the wire, close what was opened. Tasks go on.

        Waits end with a `SessionError`, batches that are still open as when stopped. When cancelled, the closing goes
        on by itself.
        """
        if self._open:
            self._open = False
            self._closing = asyncio.create_task(self._close(asyncio.current_task()), name="wanasync session closing")
        if self._closing is not None:
            await asyncio.shield(self._closing)

    async def _close(self, asked_by: asyncio.Task[Any] | None) -> None:
        async with contextlib.AsyncExitStack() as closing:
            # From the last to the first, each whatever becomes of the one before, as when a loop ends meanwhile.
            closing.push_async_callback(self._transport.close)
            closing.push_async_callback(self._announcer.close, asked_by)
            closing.callback(self._tell_closed)
            if isinstance(self._gate, SharedGate):
                closing.push_async_callback(self._gate.close)
            closing.push_async_callback(self._saver.close)
            closing.push_async_callback(self._poller.close)
            if self._desk is not None:
                closing.push_async_callback(self._desk.close)
            self._end_submitting()
            await self._submitter.drain()

    def _end_submitting(self) -> None:
        """Nobody waits at the gate for a session that is closed: it stays closed, however long the gate does."""
        self._admissions.call_off()
        for batch in self._batches:
            batch.stop("the session was closed", SessionError("the session was closed before its batch was left"))

    async def submit(self, request: VideoRequest | str) -> Task:
        """Have the provider make a video; returns as soon as it has taken the request.

        Waits at the gate as long as the provider's limits ask for. Raises `RequestValidationError`, an `APIError`
        where the provider refused, `APIConnectionError` where it can't be reached, and `SubmissionUnknownError` where
        the reply was lost (see `Config.on_unknown`, and `resolve`). When cancelled on the wire, the submission is
        still finished and its task id logged.
        """
        self._check()
        return await self._submit(as_request(request), calls.new_idempotency_key(_secrets))

    async def _submit(self, request: VideoRequest, key: str) -> Task:
        began = self._clock()
        lost: list[Unknown] = []
        cause: WanError | None = None
        try:
            snapshot = await self._sent(request, key, None if self._desk is None else self._desk.url(key, began), lost)
            if snapshot is not None:
                return self._handle(snapshot.id, snapshot, self._clock())
        except WanError as error:
            if not lost:
                raise
            cause = error
        # Whatever came of sending it again says nothing of the first time, which may be paid.
        if self._desk is not None:
            self._desk.note_lost(key, request, began)
        raise SubmissionUnknownError(lost[-1].reason, key, lost[-1].status, lost[-1].body) from cause

    async def _sent(
        self, request: VideoRequest, key: str, callback_url: str | None, lost: list[Unknown]
    ) -> TaskSnapshot | None:
        """The task that was made; None when it is not known whether one was. Replies without an answer go to `lost`."""
        waits = full_jitter(RETRY_BASE, RETRY_CAP)
        unreached = 0
        while True:
            self._check()
            came = self._clock()
            ticket = await self._admissions.admit(interactive=True)
            if ticket is None:
                raise SessionError("the session was closed while this waited at the gate; nothing was sent")
            result = await self._submitter.submit(
                ticket, request, key, NoLog(), waited=self._clock() - came, callback_url=callback_url
            )
            match result:
                case Accepted(snapshot=snapshot):
                    return snapshot
                case Refused(error=error):
                    raise error
                case Throttled():
                    continue  # the gate waits, for all at once
                case NeverSent(error=unreachable):
                    unreached += 1
                    if unreached >= self.config.connect_attempts:
                        raise unreachable
                case Unknown():
                    lost.append(result)
                    if self.config.on_unknown == "hold" or len(lost) >= self.config.connect_attempts:
                        return None
            await asyncio.sleep(next(waits))

    async def resolve(self, idempotency_key: str, *, timeout: float = CALLBACK_WAIT) -> Task:
        """The task of a submission whose reply was lost, once the provider has called back for it.

        `idempotency_key` is in the `SubmissionUnknownError`. The callback comes when the task has ended, so this takes
        minutes; it may have come already. What it says is confirmed by a query. Raises `SubmissionUnknownError` again
        where none has come within `timeout` seconds (no task was made, or its callback is lost), and `CallbackError`
        in a session without callbacks.
        """
        self._check()
        if self._desk is None:
            raise CallbackError("nobody receives callbacks here: open the session with callbacks=CallbackReceiver(...)")
        found = await self._desk.task_of(self._desk.lost(idempotency_key), timeout, self._is_known)
        if found is None:
            raise SubmissionUnknownError(f"no callback came within {timeout:g} s", idempotency_key)
        if self._emit is not None:
            at = self._clock()
            self._emit(events.SubmissionFound(at=at, task_id=found.id, idempotency_key=idempotency_key, by="callback"))
        self._submitter.recently_accepted.append(found.id)
        return self._handle(found.id, found)

    async def _is_known(self, task_id: str) -> bool:
        return task_id in self._submitter.recently_accepted

    def attach(self, task_id: str) -> Task:
        """A handle from an id alone, of this or any other program. Nothing is sent."""
        self._check()
        return self._handle(calls.check_task_id(task_id))

    def _handle(self, task_id: str, snapshot: TaskSnapshot | None = None, submitted_at: float | None = None) -> Task:
        return Task(task_id, snapshot, following=self._following, submitted_at=submitted_at)

    async def generate(
        self,
        request: VideoRequest | str,
        to: str | os.PathLike[str],
        *,
        state: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
        count_queue: bool = False,
    ) -> SavedVideo:
        """Submit, wait and save. `to` is a file that must not exist yet, a directory, or a URL (see `Task.save`).

        `timeout` (seconds) is for the making; time in the provider's queue counts with `count_queue` only, so that
        without it a task that never leaves the queue is waited for without end (see `Task.wait`). With callbacks, a
        submission whose reply was lost is waited for too (see `resolve`). Raises `TaskTimeoutError` carrying the id,
        and what `submit`, `Task.wait` and `Task.save` raise.
        """
        self._check()
        request = as_request(request)
        key = calls.new_idempotency_key(_secrets)
        whole = self._generate(request, key, to, state, timeout=timeout, count_queue=count_queue)
        return await (whole if self._emit is None else self._told(self._emit, whole, request, key))

    async def _generate(
        self,
        request: VideoRequest,
        key: str,
        to: str | os.PathLike[str],
        state: str | os.PathLike[str] | None,
        *,
        timeout: float | None,
        count_queue: bool,
    ) -> SavedVideo:
        place = await free_place(to, naming.slug(request.prompt) or "video", state)
        try:
            task = await self._submit(request, key)
        except SubmissionUnknownError:
            if self._desk is None or request.callback_url is not None:
                raise
            task = await self.resolve(key)
        return await task.save_at(place, timeout=timeout, count_queue=count_queue)

    async def _told(
        self, emit: Emit, whole: Coroutine[Any, Any, SavedVideo], request: VideoRequest, key: str
    ) -> SavedVideo:
        emit(events.GenerateStarted(at=self._clock(), idempotency_key=key, request=request))
        video: SavedVideo | None = None
        error: Exception | None = None
        try:
            video = await whole
        except Exception as raised:
            error = raised
            raise
        finally:
            emit(events.GenerateEnded(at=self._clock(), idempotency_key=key, video=video, error=error))
        return video

    def batch(
        self,
        requests: Requests,
        to: str | os.PathLike[str] | Destination,
        *,
        budget: float | None = None,
        limit: int | None = None,
        total: int | None = None,
        retry_failed: int = 0,
        journal: str | OpenJournal | None = None,
        state: str | os.PathLike[str] | None = None,
        name: str | NameTemplate | None = None,
    ) -> Batch:
        """Many requests with one durable journal in the directory `to`; the same call continues an earlier run.

        `to` may be a URL in an object store (``s3://bucket/prefix``); the journal is then in `state`, a directory on
        this machine, which the videos pass through (see `Destination`). `name` is a template for the names of the
        videos, such as ``"{index:06d}-{slug}.mp4"`` (see `NameTemplate`).

        `requests` is any iterable or async iterable of prompts, `VideoRequest`s or `BatchItem`s; it is read lazily.
        `budget` caps the credits of the whole batch, earlier runs included; `limit` the submissions of this run;
        `total` is the list's length, where known, for progress. `retry_failed` is how many further tasks may be asked
        for, in all runs together, for an item whose task failed by what the provider calls its own fault; each is
        paid for if it succeeds. `journal` is where what happens is written down: in the directory (None), or in a
        PostgreSQL database (its address, or a `PostgresJournal`). See `Batch`.
        """
        self._check()
        batch = Batch(
            requests,
            Destination.of(to, state),
            config=self.config,
            gate=self._gate,
            poller=self._poller,
            saver=self._saver,
            submitter=self._submitter,
            recent=self._recent,
            desk=self._desk,
            clock=self._clock,
            emit=self._emit,
            budget=budget,
            limit=limit,
            total=total,
            retry_failed=retry_failed,
            journal=journal,
            name=NameTemplate(name) if isinstance(name, str) else name,
        )
        self._batches.add(batch)
        return batch

    def shared_batch(
        self,
        to: str | os.PathLike[str] | Destination,
        *,
        journal: ShareJournal,
        until: str = "saved",
        retry_failed: int = 0,
    ) -> SharedBatch:
        """This process's part in a batch that several work on, over a `PostgresJournal`. See `SharedBatch`.

        `to` is a directory, a URL in an object store, or a `Destination`; for a URL its directory is where the videos
        pass through on this machine. `until` is how far items are brought here: `saved`, `made` (others save them) or
        `accepted` (others follow them too). `retry_failed` is as in `batch`. Who works on which rows is the caller's to
        share out, as `wanasync.cluster` does.
        """
        self._check()
        batch = SharedBatch(
            Destination.of(to),
            config=self.config,
            gate=self._gate,
            poller=self._poller,
            saver=self._saver,
            submitter=self._submitter,
            recent=self._recent,
            desk=self._desk,
            clock=self._clock,
            emit=self._emit,
            journal=journal,
            until=until,
            retry_failed=retry_failed,
        )
        self._batches.add(batch)
        return batch

    async def credits(self) -> Credits:
        """The account's balance; free, and a good check of the key. Raises `APIError`, `APIConnectionError`."""
        self._check()
        call = calls.credits_call(self.config.base_url)
        return await _repeated(lambda: self._read(call, replies.read_credits))

    def recent_tasks(self, *, status: str | None = None) -> AsyncIterator[TaskSnapshot]:
        """The account's recent tasks, newest first, where the host has a list of them; without links.

        Each is read as far as the list tells; `status` is the provider's word to choose by. Raises `NotFoundError`
        where there is no such list, else as `query`.
        """
        self._check()
        return self._recent.all(status)

    async def query(self, task_id: str) -> TaskSnapshot:
        """Look at a task once, now; what fails on the way is repeated a few times. Raises like `Task.refresh`."""
        self._check()
        return await _repeated(lambda: self._ask(task_id))

    def statistics(self) -> Statistics:
        """What this session, and the gate it shares, have done so far."""
        self._check()
        return self._statistics()

    def _statistics(self) -> Statistics:
        return Statistics(
            gate=self._gate.statistics(),
            poller=self._poller.statistics(),
            downloads=self._saver.statistics(),
            credits_reserved=self._submitter.credits_reserved,
            credits_used=self._credits_used,
            unknown_submissions=self._submitter.unknown,
        )

    def _check(self) -> None:
        if self._loop is None:
            raise SessionError("this session is not open: use `async with WanSession(...) as wan:`")
        if not self._open:
            raise SessionError("this session is closed; make a new WanSession")
        if _running_loop() is not self._loop:
            raise SessionError("this session belongs to the event loop it was opened in; open one for each loop")

    async def _ask(self, task_id: str) -> TaskSnapshot:
        return await self._read(calls.query_call(self.config.base_url, task_id), replies.read_task)

    async def _ask_many(self, task_ids: Sequence[str]) -> Sequence[TaskSnapshot]:
        return await self._read(calls.batch_query_call(self.config.base_url, task_ids), replies.read_tasks)

    async def _recent_page(self, page: int, status: str | None) -> replies.TaskPage:
        call = calls.list_call(self.config.base_url, page=page, status=status)
        return await _repeated(lambda: self._read(call, replies.read_task_list))

    async def _read(self, call: calls.Call, reader: Callable[..., T]) -> T:
        reply: Reply = await self._transport.send(call)
        return reader(reply, now=self._clock())

    def _observe(self, snapshot: TaskSnapshot) -> None:
        """Each change the poller sees, once, whoever listens."""
        if self._emit is not None:
            self._emit(events.TaskChanged(at=self._clock(), snapshot=snapshot))
        if snapshot.is_final:
            if self._desk is not None:
                self._desk.note_end()
            self._gate.finished(snapshot.id)
            self._credits_used += snapshot.credits_used or 0.0

    def _tell_miss(self, task_id: str, error: WanError) -> None:
        if self._emit is not None:
            self._emit(events.PollFailed(at=self._clock(), task_id=task_id, message=str(error)))

    def _tell_opened(self) -> None:
        if self._emit is None:
            return
        opened = events.SessionOpened(
            at=self._clock(),
            session=self._number,
            gate=id(self._gate),
            base_url=self.config.base_url,
            statistics=self._statistics,
        )
        self._emit(opened)

    def _tell_closed(self) -> None:
        if self._emit is not None:
            closed = events.SessionClosed(at=self._clock(), session=self._number, statistics=self._statistics())
            self._emit(closed)


def _settled(api_key: str | None, base_url: str | None, config: Config | None) -> Config:
    if config is None:
        config, _ = resolve({}, os.environ, {})
    if api_key is not None:
        config = attrs.evolve(config, api_key=api_key)
    if base_url is not None:
        config = attrs.evolve(config, base_url=base_url)
    if config.api_key is None and (from_environment := os.environ.get("WAN_API_KEY")):
        config = attrs.evolve(config, api_key=from_environment)
    if config.api_key is None:
        raise ConfigError("no API key: set WAN_API_KEY, or pass api_key=", "api_key")
    return config


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def _repeated(operation: Callable[[], Awaitable[T]]) -> T:
    return await retry(
        operation,
        attempts=READ_ATTEMPTS,
        retry_on=(APIConnectionError, ServerError, RateLimitError),
        wait=full_jitter(RETRY_BASE, RETRY_CAP),
    )
