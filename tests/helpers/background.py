"""An emulator on a loop and thread of its own, for callers that block."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from wanasync.emulator import Emulator

__all__ = ["in_background"]


@contextlib.contextmanager
def in_background(emulator: Emulator) -> Iterator[Emulator]:
    """Serve until the block ends. Steer it with plain calls only while no request is under way."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="emulator")
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(emulator.__aenter__(), loop).result(10)
        try:
            yield emulator
        finally:
            asyncio.run_coroutine_threadsafe(emulator.__aexit__(None, None, None), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
