"""The connections to one PostgreSQL, and how long a lost one is waited for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool

from wanasync.edges.retrying import full_jitter
from wanasync.errors import ConfigError, JournalError

__all__ = ["Connection", "Database", "fetch", "is_passing"]

logger: logging.Logger = logging.getLogger("wanasync.postgres")

T = TypeVar("T")

Connection = AsyncConnection[tuple[Any, ...]]

_NETWORK = {
    # A server that is gone without a word (a cable, a frozen machine) is noticed by these; all may be given in the DSN.
    "connect_timeout": "10",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
# A connection that was cut in the midst of a transaction must not keep its rows locked for everybody: the server is to
# notice as soon as we do, and not to wait for long for what should come next.
_NOTICE = (
    "SET tcp_keepalives_idle = 5",
    "SET tcp_keepalives_interval = 2",
    "SET tcp_keepalives_count = 3",
    "SET tcp_user_timeout = 10000",
)
_IDLE = "SET idle_in_transaction_session_timeout"
_MOST_READERS = 4
_WAIT_BASE, _WAIT_CAP = 0.1, 2.0


class Database:
    """One PostgreSQL, for one event loop: a pool for what is read, and connections of their own for writers.

    `dsn` is what libpq takes, TLS included (`sslmode=verify-full`, `sslrootcert=`). `patience` is how many seconds a
    lost connection is tried to be made again before whoever waits gets a `JournalError`; `answer_within` those that the
    server has for one transaction, after which the connection is taken for lost; `subject` what errors speak of.
    """

    def __init__(
        self, dsn: str, *, patience: float = 60.0, answer_within: float = 20.0, subject: str = "the journal"
    ) -> None:
        try:
            given = conninfo_to_dict(dsn)
        except psycopg.ProgrammingError as error:
            # Its message is not passed on: it quotes what is wrong, which may be the password.
            raise ConfigError("is no address of a PostgreSQL database", "journal") from error.with_traceback(None)
        self.patience = patience
        self.answer_within = answer_within
        self._subject = subject
        self.label: str = _label(given)
        """Where it is, without who asks and with which password."""
        self._conninfo = make_conninfo("", **(_NETWORK | given))
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            self._conninfo,
            min_size=0,
            max_size=_MOST_READERS,
            open=False,
            kwargs={"autocommit": True},
            timeout=answer_within / 2,
            configure=_by_index,
        )

    async def __aenter__(self) -> Self:
        await self._pool.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._pool.close()

    async def connect(self, name: str) -> Connection:
        """A connection outside the pool, for the caller to close. `name` is its application_name at the server."""
        connection = await AsyncConnection.connect(
            make_conninfo(self._conninfo, application_name=name), autocommit=True
        )
        try:
            await connection.execute("; ".join((*_NOTICE, f"{_IDLE} = {self.answer_within * 1000:.0f}")).encode())
        except BaseException:
            await connection.close()
            raise
        return connection

    async def fetch(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query that changes nothing. Raises `JournalError`."""

        async def ask() -> list[tuple[Any, ...]]:
            async with asyncio.timeout(self.answer_within), self._pool.connection() as connection:
                return await (await connection.execute(query.encode(), values)).fetchall()

        return await self.persist(ask, "could not be read")

    async def persist(self, attempt: Callable[[], Awaitable[T]], failed: str) -> T:
        """Await `attempt()` again and again while the database is out of reach. Raises `JournalError`."""
        loop = asyncio.get_running_loop()
        give_up: float | None = None
        waits = full_jitter(_WAIT_BASE, _WAIT_CAP)
        while True:
            try:
                return await attempt()
            except (psycopg.Error, TimeoutError, OSError) as error:
                give_up = give_up or loop.time() + self.patience
                wait = next(waits)
                if not is_passing(error) or loop.time() + wait > give_up:
                    raise self.error(failed, error) from error
                logger.info("%s: %s; trying again", self.label, _words(error))
            await asyncio.sleep(wait)

    def error(self, what: str, error: Exception) -> JournalError:
        return JournalError(f"{self._subject} {what}: {_words(error)}", self.label)


def is_passing(error: Exception) -> bool:
    """Whether the same may succeed in a moment: the server is out of reach, restarting, or was busy with another."""
    if isinstance(error, errors.ReadOnlySqlTransaction | errors.IdleInTransactionSessionTimeout):
        return True  # a standby that is about to take over; a transaction within which we were frozen
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | TimeoutError | OSError)


async def fetch(connection: Connection, query: str, *values: Any) -> list[tuple[Any, ...]]:
    return await (await connection.execute(query.encode(), values)).fetchall()


async def _by_index(connection: Connection) -> None:
    # A table that was filled a moment ago has no statistics, and the planner takes it for small: it would sort all of
    # it for each of its slices, which an index has in order.
    await connection.execute("SET enable_bitmapscan = off")


def _label(given: dict[str, Any]) -> str:
    host = given.get("host") or given.get("hostaddr") or "localhost"
    port = f":{given['port']}" if given.get("port") else ""
    return f"postgresql://{host}{port}/{given.get('dbname') or ''}"


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the database does not answer"
    if isinstance(error, errors.LockNotAvailable):
        return "it waits for another process that hands a list in and says nothing, frozen or cut off: end that one"
    return " ".join(str(error).split()) or type(error).__name__
