"""A provider of one's own: `Emulator` speaks the API of Wan2.5 text-to-video, and misbehaves on request.

It knows nothing of the client: what it accepts and answers was written from the provider's document alone.
"""

from __future__ import annotations

from wanasync.emulator.emulator import Emulator
from wanasync.emulator.ledger import Entry, Ledger, RequestNote
from wanasync.emulator.limiters import (
    AllOf,
    ConcurrentTasks,
    FixedWindow,
    Hint,
    Limiter,
    Scheduled,
    SharedKey,
    SlidingWindow,
    TokenBucket,
)
from wanasync.emulator.settings import PRICES, Settings
from wanasync.emulator.timing import LogNormal, Uniform, coarse, linear, slow_start
from wanasync.emulator.trouble import FAULTS, Fault, Trouble

__all__ = [
    "FAULTS",
    "PRICES",
    "AllOf",
    "ConcurrentTasks",
    "Emulator",
    "Entry",
    "Fault",
    "FixedWindow",
    "Hint",
    "Ledger",
    "Limiter",
    "LogNormal",
    "RequestNote",
    "Scheduled",
    "Settings",
    "SharedKey",
    "SlidingWindow",
    "TokenBucket",
    "Trouble",
    "Uniform",
    "coarse",
    "linear",
    "slow_start",
]
