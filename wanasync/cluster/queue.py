"""Procrastinate as the cluster's engine: one adapter, one page.

Its jobs, its worker registry and its notifications are used through its `JobManager`; the loop that takes jobs is ours
(`wanasync.cluster.worker`), since Procrastinate's own worker counts jobs where we count submissions, and ends when the
database does. Finished jobs are removed: with millions of them, taking one becomes slow.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import attrs
import procrastinate
import psycopg
from procrastinate import exceptions, jobs

from wanasync import JournalError
from wanasync.cluster.clocks import clocks, seconds_since
from wanasync.cluster.engine import WORK, Chunk, Held
from wanasync.cluster.schema import TASK, connection_info, label

__all__ = ["ProcrastinateQueue"]

logger: logging.Logger = logging.getLogger("wanasync.cluster")

T = TypeVar("T")

AT_ONCE = 1000
"""Jobs handed in with one statement."""
ANSWER_WITHIN = 20.0
AGAIN = 0.5
CONNECTIONS = 4

_NOT_SET_UP = "the queue is not set up, or not for this version: run `wanasync cluster init`"

# Finished jobs are removed, so that these are all there are.
_CHUNKS = "SELECT args FROM procrastinate_jobs WHERE status IN ('todo', 'doing') ORDER BY id"
_REMEMBER = """
INSERT INTO batch (name, place) SELECT * FROM unnest(%(names)s::text[], %(places)s::text[])
ON CONFLICT (name) DO UPDATE SET place = excluded.place WHERE batch.place <> excluded.place
RETURNING name
"""
_SWEEP = """
UPDATE sweep SET at = clock_timestamp() WHERE id = (
    SELECT id FROM sweep WHERE at <= clock_timestamp() - make_interval(secs => %s) FOR UPDATE SKIP LOCKED
) RETURNING id
"""
_LET_GO = "SET LOCAL idle_in_transaction_session_timeout = '60s'"


class ProcrastinateQueue:
    """The queue in a PostgreSQL database, for one event loop. `async with` opens it.

    A worker that has been silent for `rescue_after` seconds counts as dead. `patience` is for how many seconds a
    database that is out of reach is waited for. Raises `JournalError`.
    """

    def __init__(self, dsn: str, *, rescue_after: float = 30.0, patience: float = 3600.0) -> None:
        self.rescue_after = rescue_after
        self._patience = patience
        self._dsn = dsn
        self._app = procrastinate.App(
            connector=procrastinate.PsycopgConnector(
                conninfo=connection_info(dsn), min_size=1, max_size=CONNECTIONS, timeout=ANSWER_WITHIN / 2
            )
        )
        self._manager = self._app.job_manager
        self._me: int | None = None
        self._is_struck_off = False
        self._heard = clocks()
        self._held: dict[int, Held] = {}
        self._taking = asyncio.Lock()
        self._news = asyncio.Event()
        self._listener: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            # One that isn't there is told at once; patience is for one that was.
            await (await psycopg.AsyncConnection.connect(connection_info(self._dsn))).close()
            await self._app.open_async()
        except psycopg.Error as error:
            await self._app.close_async()
            raise self._error(error) from error
        if not await self._patiently(self._manager.check_connection_async):
            await self._app.close_async()
            raise JournalError(_NOT_SET_UP, label(self._dsn))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
        if self._me is not None:
            # What is held still goes to others at once, as from one that is pruned.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(ANSWER_WITHIN):
                    await self._manager.unregister_worker(self._me)
        await self._app.close_async()

    # Handing in

    async def put(self, chunks: Sequence[Chunk]) -> None:
        places = {chunk.batch: chunk.to for chunk in chunks}
        if places:
            await self._ask(_REMEMBER, names=list(places), places=list(places.values()))
        deferring = self._app.configure_task(TASK, queue=WORK)
        for start in range(0, len(chunks), AT_ONCE):
            some = [attrs.asdict(chunk) for chunk in chunks[start : start + AT_ONCE]]
            await self._patiently(lambda some=some: deferring.batch_defer_async(*some))  # type: ignore[misc]

    async def chunks(self, batch: str) -> list[Chunk]:
        return (await self.all_chunks()).get(batch, [])

    async def all_chunks(self) -> dict[str, list[Chunk]]:
        found: dict[str, list[Chunk]] = {}
        for row in await self._ask(_CHUNKS):
            chunk = Chunk(**row["args"])
            found.setdefault(chunk.batch, []).append(chunk)
        return found

    async def places(self) -> Mapping[str, str]:
        return {row["name"]: row["place"] for row in await self._ask("SELECT name, place FROM batch")}

    async def _ask(self, query: str, **values: Any) -> list[dict[str, Any]]:
        ask = self._manager.connector.execute_query_all_async
        return list(await self._patiently(lambda: ask(query, **values)))

    # Taking

    async def take(self, lanes: Iterable[str]) -> Held | None:
        async with self._taking:
            me = await self._registered()
            job = await self._patiently(lambda: self._manager.fetch_job(list(lanes), me))
            if job is None or job.id is None:
                return None
            held = self._held[job.id] = Held(_chunk(job), job.id, me)
            return held

    async def wait(self, seconds: float) -> None:
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen(), name="wanasync cluster listener")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._news.clear()

    async def _listen(self) -> None:
        """Hear of new jobs; what is missed while the connection is made anew, the next look finds."""

        async def heard(**_: object) -> None:
            self._news.set()

        while True:
            with contextlib.suppress(exceptions.ConnectorException, psycopg.Error, OSError):
                await self._manager.listen_for_jobs(on_notification=heard)
            await asyncio.sleep(AGAIN)

    async def done(self, held: Held) -> None:
        finish = self._manager.finish_job_by_id_async
        await self._end(held, lambda: finish(job_id=held.job, status=jobs.Status.SUCCEEDED, delete_job=True))

    async def give_back(self, held: Held, *, after: float = 0.0, lane: str | None = None) -> None:
        at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=after)
        retry = self._manager.retry_job_by_id_async
        if await self._end(held, lambda: retry(job_id=held.job, retry_at=at, queue=lane)):
            return
        # Whoever has it now may have seen an item as unknown whose answer came to us after all, and be done with it.
        # One that still waits is read afresh by whoever takes it.
        if not await self._list(id=held.job, status="todo"):
            anew = self._app.configure_task(TASK, queue=lane or WORK, schedule_at=at)
            await self._patiently(lambda: anew.defer_async(**attrs.asdict(held.chunk)))

    async def _end(self, held: Held, end: Callable[[], Awaitable[None]]) -> bool:
        """Whether it was ours to end."""
        # Procrastinate would let anybody end a job. To end one that another holds costs a rescue, should that die too.
        is_ours = held.holder == self._me and bool(await self._list(id=held.job, worker_id=held.holder, status="doing"))
        if is_ours:
            await self._patiently(end)
        else:
            logger.info("chunk %s is held by another worker now", held.job)
        self._held.pop(held.job, None)
        return is_ours

    # Being alive

    async def beat(self) -> bool:
        async with self._taking:
            me = await self._registered()
            await self._patiently(lambda: self._manager.update_heartbeat(me))
            silent, self._heard = seconds_since(self._heard), clocks()
            if silent > self.rescue_after or self._is_struck_off:
                self._me, self._is_struck_off = None, False
                self._held.clear()
                return False
            # A job whose answer was lost on its way to us would be nobody's: it is doing, and its worker is alive.
            for job in await self._list(worker_id=me, status="doing"):
                if job.id is not None and job.id not in self._held:
                    await self._hand_out(job)
            return True

    async def rescue(self) -> int:
        silent = self._manager.get_stalled_jobs
        # Those of workers that were pruned are among them: theirs is none.
        stalled = list(await self._patiently(lambda: silent(seconds_since_heartbeat=self.rescue_after)))
        for job in stalled:
            await self._hand_out(job)
        # Only after their jobs: then whoever was silent and is not dead knows by its jobs that it was taken for it.
        await self._patiently(lambda: self._manager.prune_stalled_workers(20 * self.rescue_after))
        return len(stalled)

    @contextlib.asynccontextmanager
    async def sweeping(self, every: float) -> AsyncIterator[bool]:
        try:
            # A transaction of its own: one that dies in the midst of it has not swept.
            async with await psycopg.AsyncConnection.connect(connection_info(self._dsn)) as connection:
                await connection.execute(_LET_GO)
                mine = await (await connection.execute(_SWEEP, (every,))).fetchone()
                yield mine is not None
        except psycopg.Error as error:
            raise self._error(error) from error

    async def _hand_out(self, job: jobs.Job) -> None:
        logger.warning("chunk %s of a worker that is gone is handed out anew", job.id)
        await self._patiently(lambda: self._manager.retry_job(job))

    async def _registered(self) -> int:
        if self._me is None:
            self._me = await self._patiently(self._manager.register_worker)
            self._heard = clocks()
        return self._me

    async def _list(self, **which: Any) -> list[jobs.Job]:
        return list(await self._patiently(lambda: self._manager.list_jobs_async(**which)))

    # A database that is away for a while

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> Any:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._patience
        while True:
            try:
                async with asyncio.timeout(ANSWER_WITHIN):
                    return await attempt()
            except (exceptions.ConnectorException, psycopg.Error, TimeoutError, OSError) as error:
                # A timeout's own cause is that the attempt was cancelled, which says nothing of the database.
                reason = error if isinstance(error, TimeoutError) else error.__cause__ or error
                if isinstance(reason, psycopg.errors.RaiseException):
                    return None  # "Job was not found": what was repeated had been done
                if isinstance(reason, psycopg.errors.ForeignKeyViolation):
                    # The worker that we were was struck off meanwhile: `beat` tells, and begins as another.
                    self._is_struck_off = True
                    return None
                if not _is_passing(reason) or loop.time() > give_up:
                    raise self._error(reason) from error
                logger.info("the queue is out of reach: %s; trying again", " ".join(str(reason).split()))
            await asyncio.sleep(AGAIN)

    def _error(self, reason: BaseException) -> JournalError:
        if isinstance(reason, psycopg.errors.UndefinedFunction | psycopg.errors.UndefinedTable):
            return JournalError(_NOT_SET_UP, label(self._dsn))
        words = " ".join(str(reason).split()) or "the database does not answer"
        return JournalError(f"the queue is out of order: {words}", label(self._dsn))


def _is_passing(error: BaseException) -> bool:
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | TimeoutError | OSError)


def _chunk(job: jobs.Job) -> Chunk:
    return Chunk(**job.task_kwargs)  # type: ignore[arg-type]
