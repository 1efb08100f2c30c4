"""The pytest plugin, see `wanasync.testing`. Loaded at each start of pytest, so whatever can wait is imported later."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wanasync import WanSession
    from wanasync.emulator import Emulator
    from wanasync.testing.faults import Faults
    from wanasync.testing.recorder import EventRecorder
    from wanasync.testing.stage import Stage

MARKERS = (
    "wan_emulator(**options): options of the emulator that the fixtures use, see wanasync.emulator.Settings",
    "wan_session(**settings): settings of the session that the fixtures use, see wanasync.Config",
    "virtual_time: run the async test in virtual time, see wanasync.testing",
)


def pytest_configure(config: pytest.Config) -> None:
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    if config.pluginmanager.has_plugin("asyncio"):
        # Only here: it is pytest-asyncio that makes its fixtures.
        config.pluginmanager.register(importlib.import_module("wanasync.testing.on_asyncio"), "wanasync-on-asyncio")


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, name: str, obj: object) -> object:
    """A marked test becomes a plain one before other plugins see that it is async."""
    if not (inspect.iscoroutinefunction(obj) and collector.istestfunction(obj, name) and _is_marked(collector, obj)):
        return None
    from wanasync.testing.clocks import virtual_time

    plain = virtual_time(obj)
    setattr(collector.obj, name, plain)
    return collector.ihook.pytest_pycollect_makeitem(collector=collector, name=name, obj=plain)


def _is_marked(collector: pytest.Module | pytest.Class, test: object) -> bool:
    own = getattr(test, "pytestmark", ())
    return any(mark.name == "virtual_time" for mark in (*own, *collector.iter_markers()))


@pytest.fixture
def wan_stage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Emulator and session, open on the loop that the test runs on."""
    from wanasync.testing.runners import fixture_for

    stage: Stage = request.getfixturevalue(fixture_for(request))
    monkeypatch.setenv("WAN_BASE_URL", stage.emulator.base_url)
    monkeypatch.setenv("WAN_API_KEY", stage.emulator.api_key)
    return stage


@pytest.fixture
def wan_emulator(wan_stage: Stage) -> Emulator:
    """A running `wanasync.emulator.Emulator`; `WAN_BASE_URL` and `WAN_API_KEY` lead to it for the test's time."""
    return wan_stage.emulator


@pytest.fixture
def wan(wan_stage: Stage) -> WanSession:
    """An open `WanSession` with the test's own emulator."""
    return wan_stage.session


@pytest.fixture
def wan_events(wan_stage: Stage) -> EventRecorder:
    """What `wan` tells; as a listener (`on_event=wan_events`) also what other sessions do."""
    return wan_stage.events


@pytest.fixture
def wan_faults(wan_stage: Stage) -> Faults:
    """What goes wrong with the next requests to `wan_emulator`."""
    return wan_stage.faults


@pytest.fixture
def _wan_stage_in_virtual_time(request: pytest.FixtureRequest) -> Iterator[Stage]:
    from wanasync.testing.runners import virtual_stage

    with virtual_stage(request) as stage:
        yield stage


@pytest.fixture
async def _wan_stage_on_anyio(request: pytest.FixtureRequest) -> object:
    from wanasync.testing.stage import stage_for

    async with stage_for(request) as stage:
        yield stage
