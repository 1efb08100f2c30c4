"""Many machines, one key: workers that share lists over PostgreSQL. Needs the extra `wanasync[cluster]`.

The journal of each batch (`PostgresJournal`) says where every item stands, and by its claims who may submit it; the
queue (Procrastinate, in the same database) shares chunks of item references out among workers; a `WanSession` in each
of them does what it does in a batch. `wanasync cluster` is the same as commands.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from wanasync import ConfigError

if TYPE_CHECKING:
    from wanasync.cluster.engine import Chunk as Chunk
    from wanasync.cluster.engine import Held as Held
    from wanasync.cluster.engine import Queue as Queue
    from wanasync.cluster.mailbox import PostgresMailbox as PostgresMailbox
    from wanasync.cluster.queue import ProcrastinateQueue as ProcrastinateQueue
    from wanasync.cluster.schema import set_up as set_up
    from wanasync.cluster.submitting import Submitted as Submitted
    from wanasync.cluster.submitting import submit as submit
    from wanasync.cluster.worker import Worker as Worker

_HOMES = {
    "Chunk": "wanasync.cluster.engine",
    "Held": "wanasync.cluster.engine",
    "PostgresMailbox": "wanasync.cluster.mailbox",
    "ProcrastinateQueue": "wanasync.cluster.queue",
    "Queue": "wanasync.cluster.engine",
    "Submitted": "wanasync.cluster.submitting",
    "Worker": "wanasync.cluster.worker",
    "set_up": "wanasync.cluster.schema",
    "submit": "wanasync.cluster.submitting",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("procrastinate", "psycopg", "psycopg_pool"):
            raise
        words = f"many machines need more libraries ({error}): pip install 'wanasync[cluster]'"
        raise ConfigError(words, "cluster") from error
    globals()[name] = value
    return value
