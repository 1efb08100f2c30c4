"""What a web application needs of wanasync, and nothing of the web: jobs that survive restarts, and news of them.

Jobs go through one endless batch in `directory`, so that its journal is the application's database: a job that was
taken is in it before the caller is told so, and a restart, or a crash, goes on with whatever is there.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from attrs import define, field, frozen

from wanasync import (
    BatchHistory,
    BatchItem,
    Config,
    Event,
    JournalError,
    Outcome,
    OutcomeState,
    VideoRequest,
    WanSession,
)
from wanasync.events import ItemFinished, ItemStarted, SaveStarted, SubmissionAccepted, SubmissionFound, TaskChanged
from wanasync.webhooks import CallbackReceiver

__all__ = ["BusyError", "Job", "News", "Studio"]

MOST_WAITING = 1000
"""Jobs that may wait for the provider's limits; more are turned away rather than promised."""
SETTLED = frozenset({"saved", "failed", "rejected", "expired"})
"""States after which no news will come; an unknown submission may still be found."""


class BusyError(Exception):
    """No job can be taken now."""


@define(eq=False)
class Job:
    """One video on its way; lives as long as the application."""

    id: str
    prompt: str
    state: str = "queued"
    progress: int | None = None
    error: str | None = None
    path: Path | None = None
    version: int = 0
    _changed: asyncio.Event = field(factory=asyncio.Event, repr=False)

    def set(self, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(self, name, value)
        self.version += 1
        self.wake()

    def wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def news(self) -> None:
        """Return at the next change."""
        await self._changed.wait()

    def public(self) -> dict[str, Any]:
        """What a client is told."""
        return {
            "id": self.id,
            "prompt": self.prompt,
            "state": self.state,
            "progress": self.progress,
            "error": self.error,
            "video": f"/videos/{self.id}" if self.path else None,
        }


@frozen
class News:
    """A job as it stood at one moment; `id` is for the `Last-Event-ID` of whoever reads on later."""

    id: str
    job: dict[str, Any]


@define(eq=False)
class _Order:
    item: BatchItem
    taken: asyncio.Future[None]


class Studio:
    """`async with Studio(directory, callbacks=receiver) as studio`, on the application's event loop."""

    def __init__(
        self,
        directory: Path,
        *,
        callbacks: CallbackReceiver | None = None,
        config: Config | None = None,
        budget: float | None = None,
    ) -> None:
        self.directory = directory
        self._wan = WanSession(config=config, callbacks=callbacks, on_event=self._heard)
        self._budget = budget
        self._jobs: dict[str, Job] = {}
        self._of_task: dict[str, Job] = {}
        self._orders: asyncio.Queue[_Order] = asyncio.Queue()
        # Versions begin anew with each start of the application, and must not be taken for those of an earlier one.
        self._start = secrets.token_hex(4)
        self._hung_up = False

    async def __aenter__(self) -> Self:
        unsent = await self._remember()
        await self._wan.__aenter__()
        try:
            self._batch = self._wan.batch(self._items(unsent), to=self.directory, budget=self._budget)
            await self._batch.__aenter__()
        except BaseException:
            await self._wan.close()
            raise
        # Outcomes are heard as events; somebody has to read them, or the batch would wait for that.
        self._running = asyncio.create_task(self._batch.wait())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Tasks go on at the provider; the next start follows them and sends what was not sent."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await self._batch.__aexit__(kind, error, traceback)
        await self._wan.close()

    @property
    def trouble(self) -> str | None:
        """Why no jobs are taken any more: no credit, say, or a full disk. None while all is well."""
        if not self._running.done():
            return self._batch.progress().stopped
        error = None if self._running.cancelled() else self._running.exception()
        return str(error) if error else "stopped"

    async def start(self, job_id: str, request: VideoRequest) -> Job:
        """Take a job; returns once it can't be lost. The same id again is the same job. Raises `BusyError`."""
        if job_id in self._jobs:
            return self._jobs[job_id]
        waiting = self._orders.qsize() + self._batch.progress().planned
        if self.trouble or waiting >= MOST_WAITING:
            raise BusyError(self.trouble or f"{waiting} jobs are waiting")
        job = self._jobs[job_id] = Job(job_id, request.prompt)
        order = _Order(BatchItem(request, id=job_id), asyncio.get_running_loop().create_future())
        self._orders.put_nowait(order)
        ends: set[asyncio.Future[Any]] = {order.taken, self._running}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not order.taken.done():
            raise BusyError(self.trouble)
        return job

    def job(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def jobs(self) -> list[Job]:
        """Newest first."""
        return list(reversed(self._jobs.values()))

    def hang_up(self) -> None:
        """End all news, for a server that is about to stop; listeners come back with what they have seen."""
        self._hung_up = True
        for job in self._jobs.values():
            job.wake()

    async def news(self, job: Job, last_event_id: str | None = None) -> AsyncIterator[News]:
        """The job as it stands, unless that is what `last_event_id` has seen; then each change, to the last."""
        start, _, version = (last_event_id or "").partition(".")
        seen = int(version) if start == self._start and version.isdecimal() else -1
        while not self._hung_up and not (job.state in SETTLED and job.version == seen):
            if job.version == seen:
                await job.news()
                continue
            seen = job.version
            yield News(f"{self._start}.{seen}", job.public())

    async def _remember(self) -> list[BatchItem]:
        """Fill in what earlier runs have done; what they took and did not send is to be sent now."""
        unsent: list[BatchItem] = []
        try:
            async with BatchHistory(self.directory) as history:
                async for outcome in history.outcomes():
                    self._jobs[outcome.id] = Job(outcome.id, outcome.request.prompt if outcome.request else "")
                    self._settle(outcome)
                    if outcome.state is OutcomeState.NOT_STARTED and outcome.request:
                        unsent.append(BatchItem(outcome.request, id=outcome.id))
        except JournalError:
            if self.directory.joinpath(".wanasync").exists():
                raise  # a journal that can't be read must not be taken for none
        return unsent

    async def _items(self, unsent: list[BatchItem]) -> AsyncIterator[BatchItem]:
        for item in unsent:
            yield item
        while True:
            order = await self._orders.get()
            yield order.item
            # The batch asks for the next item when this one is in its journal.
            if not order.taken.done():
                order.taken.set_result(None)

    def _heard(self, event: Event) -> None:
        match event:
            case ItemStarted(item_id=item_id, task_id=task_id) if task_id:
                self._made(item_id, task_id)
            case SubmissionAccepted(item_id=item_id, snapshot=snapshot) if item_id:
                self._made(item_id, snapshot.id)
            case SubmissionFound(item_id=item_id, task_id=task_id) if item_id:
                self._made(item_id, task_id)
            case TaskChanged(snapshot=snapshot) if (job := self._of_task.get(snapshot.id)) and not snapshot.is_final:
                job.set(progress=snapshot.progress)
            case SaveStarted(task_id=task_id) if job := self._of_task.get(task_id):
                job.set(state="saving", progress=100)
            case ItemFinished(outcome=outcome):
                self._settle(outcome)

    def _made(self, job_id: str, task_id: str) -> None:
        if job := self._jobs.get(job_id):
            self._of_task[task_id] = job
            job.set(state="making", progress=0)

    def _settle(self, outcome: Outcome) -> None:
        if outcome.task_id:
            self._of_task.pop(outcome.task_id, None)
        if job := self._jobs.get(outcome.id):
            state = "queued" if outcome.state is OutcomeState.NOT_STARTED else outcome.state.value
            job.set(state=state, path=outcome.path, error=str(outcome.error) if outcome.error else None)
