"""Aids for testing programs built on wanasync: a pytest plugin, and an event loop in virtual time.

Fixtures, for async tests run by pytest-asyncio (auto or strict), by anyio on asyncio, or by `virtual_time`:

    wan_emulator    a provider of the test's own, on a free port; WAN_BASE_URL and WAN_API_KEY lead to it
    wan             an open `WanSession` with it
    wan_events      an `EventRecorder` of what that session tells
    wan_faults      a `Faults`: what goes wrong with the next requests

and markers: `wan_emulator(**options)` for the options of `wanasync.emulator.Emulator`, `wan_session(**settings)` for
those of `wanasync.Config`, and `virtual_time`, which runs an async test in virtual time, whatever other plugins there
are.

The fixtures need the extra `wanasync[emulator]` for real videos only (`videos="real"`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wanasync.testing.clocks import START as START
    from wanasync.testing.clocks import VirtualTimeError as VirtualTimeError
    from wanasync.testing.clocks import VirtualTimeLoop as VirtualTimeLoop
    from wanasync.testing.clocks import busy as busy
    from wanasync.testing.clocks import now as now
    from wanasync.testing.clocks import run as run
    from wanasync.testing.clocks import virtual_time as virtual_time
    from wanasync.testing.faults import Faults as Faults
    from wanasync.testing.recorder import EventRecorder as EventRecorder

_HOMES = {
    "wanasync.testing.faults": ("Faults",),
    "wanasync.testing.recorder": ("EventRecorder",),
    "wanasync.testing.clocks": (
        "START",
        "VirtualTimeError",
        "VirtualTimeLoop",
        "busy",
        "now",
        "run",
        "virtual_time",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


# The plugin is loaded wherever wanasync is installed and pytest is run: it must not bring the rest along.
def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
