"""The server that tests are given: what it has committed outlives every way of ending it."""

from __future__ import annotations

import signal

import psycopg

from tests.helpers.postgres import Server, running


def test_each_test_gets_a_database_of_its_own(postgres_server: Server, database: str) -> None:
    other = postgres_server.new_database()
    assert other != database
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE mine (number int)")
    with psycopg.connect(other) as connection:
        assert connection.execute("SELECT to_regclass('mine')").fetchone() == (None,)


def test_what_is_committed_outlives_a_crash() -> None:
    with running() as server:
        server.execute("CREATE TABLE kept (number int)")
        for number, how in enumerate((signal.SIGINT, signal.SIGKILL)):
            server.execute(f"INSERT INTO kept VALUES ({number})")  # noqa: S608 - a number of ours
            server.stop(how)
            server.start()
        assert server.execute("SELECT number FROM kept ORDER BY 1") == [(0,), (1,)]
