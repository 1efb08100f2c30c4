"""Forks children that have everything imported: a start in milliseconds, so that hundreds of kills take a minute.

Reads an `Order` a line from stdin and answers each with a line: the child's exit code, negative for a signal. This
process has one thread and no loop, so that forking it is sound.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
import traceback

import wanasync.cli.app
import wanasync.cli.run  # noqa: F401 - imported here, once, for all children
from tests.crash.child import Order, carry_out

_TICK = 0.001
PATIENCE = 60.0
"""Seconds after which a child that neither ends nor dies is taken for hung."""


def main() -> None:
    gc.freeze()
    for line in sys.stdin:
        print(_raise(Order(**json.loads(line))), flush=True)


def _raise(order: Order) -> int:
    child = os.fork()
    if child == 0:
        _live(order)
    return _wait(child, order.after)


def _live(order: Order) -> None:
    code = 70
    try:
        carry_out(order)
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is must not go on in a copy of the nursery
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _wait(child: int, after: float | None) -> int:
    """The child's exit code; killed `after` so many seconds, if it still lives then."""
    began = time.monotonic()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        age = time.monotonic() - began
        if age > PATIENCE:
            os.kill(child, signal.SIGABRT)
            after = None
        if after is not None and age >= after:
            # It is ours to wait for, so its number can't be another process's by now.
            os.kill(child, signal.SIGKILL)
            after = None
        time.sleep(_TICK)


if __name__ == "__main__":
    main()
