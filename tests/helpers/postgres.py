"""A PostgreSQL of the tests' own: made, started, killed and thrown away by them.

`postgres_server` is the session's server, one for each process that runs tests; `database` is an empty database on it.
A folder's conftest.py imports the fixtures. A test that kills a server starts its own with `running()`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

__all__ = ["Server", "database", "kept_database", "postgres_server", "running"]

SUPERUSER = "wan"
START_SECONDS = 30.0
PORTS = range(15_000, 32_000)
"""Below those the system gives to clients, so that a restarted server finds its own free again."""

_numbers = itertools.count(1)


class Server:
    """A cluster in a directory of its own. It answers on `port` of 127.0.0.1 and on a Unix socket, to anybody there."""

    def __init__(self, programs: Path, home: Path, *, durable: bool) -> None:
        self.home = home
        self._durable = durable
        self._tls: dict[str, str] = {}
        self.port = free_port()
        self._programs = programs
        self._account = _account()
        self._process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        if self._account:
            owner = pwd.getpwnam(self._account)
            os.chown(self.home, owner.pw_uid, owner.pw_gid)
        options = ("--no-sync", "--auth=trust", f"--username={SUPERUSER}", "--encoding=UTF8", "--locale=C")
        command = [f"{self._programs}/initdb", *options, "-D", f"{self.home}/data"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.home, **self._as_account())

    def start(self) -> None:
        """Returns when it takes connections. After a crash that is when it has recovered."""
        give_up = time.monotonic() + START_SECONDS
        while not self._answers():
            assert time.monotonic() < give_up, f"PostgreSQL did not start:\n{self.log()[-2000:]}"
            # The processes of one that was killed hold its memory for a moment, and a start is refused meanwhile.
            if self._process is None or self._process.poll() is not None:
                self._process = self._launch()
            time.sleep(0.05)

    def _launch(self) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.home,
            "max_connections": 200,
            "shared_buffers": "64MB",
            "fsync": "on" if self._durable else "off",
            # After a crash it would sync each of a thousand files by itself.
            "recovery_init_sync_method": "syncfs",
            **self._tls,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [f"{self._programs}/postgres", "-D", f"{self.home}/data", *options]
        with open(self.home / "log", "ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self.home, **self._as_account())

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            return False
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(self.dsn("postgres"), connect_timeout=2).close()
            return True
        return False

    def use_tls(self, chain: bytes, key: bytes) -> None:
        """From the next start on. Both as PEM."""
        for name, text in (("tls.crt", chain), ("tls.key", key)):
            path = self.home / name
            path.write_bytes(text)
            path.chmod(0o600)
            if self._account:
                os.chown(path, pwd.getpwnam(self._account).pw_uid, -1)
        self._tls = {"ssl": "on", "ssl_cert_file": f"{self.home}/tls.crt", "ssl_key_file": f"{self.home}/tls.key"}

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends it in order, SIGQUIT at once (`pg_ctl stop -m immediate`), SIGKILL as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(START_SECONDS)

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")

    def dsn(self, name: str, *, user: str = SUPERUSER, port: int | None = None) -> str:
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{name}"

    def new_database(self) -> str:
        """The address of a database that nobody else knows."""
        name = f"test_{os.getpid()}_{next(_numbers)}"
        self.execute(f'CREATE DATABASE "{name}"')
        return self.dsn(name)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Carry out one statement as the superuser; the rows it gives."""
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _as_account(self) -> dict[str, Any]:
        if self._account is None:
            return {}
        return {"user": self._account, "group": pwd.getpwnam(self._account).pw_gid, "extra_groups": []}


def free_port() -> int:
    while True:
        port = random.choice(PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def _account() -> str | None:
    """PostgreSQL refuses to run as root: then it is somebody else's."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


def programs() -> Path | None:
    """Where the newest server's programs are; Debian keeps them out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    where = str(found[-1]) if found else shutil.which("initdb")
    return Path(where).resolve().parent if where else None


@contextlib.contextmanager
def running(*, durable: bool = True) -> Iterator[Server]:
    """A server for one test, which may do to it what it likes."""
    where = programs()
    if where is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    home = Path(tempfile.mkdtemp(prefix="wanasync-pg-"))
    server = Server(where, home, durable=durable)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.stop(signal.SIGQUIT)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    # Nobody pulls its plug, so that it needn't sync each commit.
    with running(durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def kept_database(postgres_server: Server) -> str:
    return postgres_server.new_database()


@pytest.fixture
def database(postgres_server: Server, kept_database: str) -> Iterator[str]:
    """One that is empty. The same is emptied after each test, which is faster than to make another."""
    yield kept_database
    name = kept_database.rsplit("/", 1)[1]
    users = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database()"
    postgres_server.execute(f"{users} AND pid <> pg_backend_pid()", name)
    postgres_server.execute("DROP SCHEMA IF EXISTS wanasync, wanasync_queue CASCADE", name)
    postgres_server.execute("DROP SCHEMA public CASCADE", name)
    postgres_server.execute("CREATE SCHEMA public", name)
