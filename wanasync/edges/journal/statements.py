"""Many rows by one statement.

Python lets its lock go in each step of SQLite, and a busy event loop is slow to give it back: with a statement for each
row, a commit of a hundred would wait a hundred times, and cost several times its own work.
"""

from __future__ import annotations

import functools
import itertools
import sqlite3
from collections.abc import Sequence
from typing import Any

__all__ = ["marks", "put"]

AT_ONCE = 50
"""Rows of a statement: of 13 values at most, and SQLite took 999 for long."""


def put(db: sqlite3.Connection, statement: str, rows: Sequence[tuple[Any, ...]], ending: str = "") -> None:
    """Carry out `statement` with the rows as its `VALUES`, all of the same length."""
    for start in range(0, len(rows), AT_ONCE):
        some = rows[start : start + AT_ONCE]
        db.execute(_text(statement, len(some), len(some[0]), ending), [*itertools.chain.from_iterable(some)])


def marks(values: Sequence[Any]) -> str:
    """What stands for the values, between the brackets of an IN."""
    return ", ".join("?" * len(values))


@functools.lru_cache(maxsize=1024)
def _text(statement: str, rows: int, columns: int, ending: str) -> str:
    row = f"({', '.join('?' * columns)})"
    return f"{statement} {', '.join([row] * rows)} {ending}".rstrip()
