"""Runs a command's coroutine under Ctrl-C and SIGTERM: the first asks it to leave, the second leaves at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from attrs import define

from wanasync.cli.exits import INTERRUPTED

__all__ = ["Interrupts", "run_interruptible"]

_SHOW_CURSOR = b"\x1b[?25h\n"


@define
class Interrupts:
    """`on_first` is called for the first signal and tells whether the command is then cancelled, as by default."""

    on_first: Callable[[], bool] = lambda: True
    asked: bool = False


def run_interruptible(main: Callable[[Interrupts], Awaitable[int]]) -> int:
    """The exit code of `main(interrupts)`; 130 where a signal cancelled it."""
    interrupts = Interrupts()
    try:
        return asyncio.run(_supervised(main, interrupts))
    except asyncio.CancelledError:
        return INTERRUPTED


async def _supervised(main: Callable[[Interrupts], Awaitable[int]], interrupts: Interrupts) -> int:
    loop = asyncio.get_running_loop()
    command = asyncio.current_task()

    def leave() -> None:
        if interrupts.on_first() and command is not None:
            command.cancel()

    def signalled(_: int, __: FrameType | None) -> None:
        if interrupts.asked:
            _leave_at_once()
        interrupts.asked = True
        loop.call_soon_threadsafe(leave)

    with _handling(signalled):
        return await main(interrupts)


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    # Not loop.add_signal_handler: it is missing on Windows, and can't leave while something blocks the loop.
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _leave_at_once() -> None:
    """Without any clean-up: all that matters is on disk already, and what hangs is not waited for."""
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), _SHOW_CURSOR)
    os._exit(INTERRUPTED)
