"""Who runs an async test, and so on which loop its fixtures must be opened."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from wanasync.testing.clocks import VirtualTimeLoop, is_virtual, prepared
from wanasync.testing.stage import Stage, stage_for

__all__ = ["fixture_for", "virtual_stage"]

NOBODY = (
    "wanasync's fixtures need an async test that is run by pytest-asyncio (in strict mode marked "
    "@pytest.mark.asyncio), by anyio (marked @pytest.mark.anyio), or by @pytest.mark.virtual_time"
)


def fixture_for(request: pytest.FixtureRequest) -> str:
    """The name of the fixture that opens the stage on the test's own loop."""
    test = request.function
    if is_virtual(test):
        return "_wan_stage_in_virtual_time"
    if inspect.iscoroutinefunction(test):
        if _is_pytest_asyncios(request):
            return f"_wan_stage_on_{_loop_scope(request)}_loop"
        if "anyio_backend" in request.fixturenames:
            return "_wan_stage_on_anyio"
    pytest.fail(f"{test.__qualname__}: {NOBODY}", pytrace=False)


def _is_pytest_asyncios(request: pytest.FixtureRequest) -> bool:
    config = request.config
    if not config.pluginmanager.has_plugin("asyncio"):
        return False
    mode = config.getoption("asyncio_mode", None) or config.getini("asyncio_mode")
    return str(mode) == "auto" or request.node.get_closest_marker("asyncio") is not None


def _loop_scope(request: pytest.FixtureRequest) -> str:
    marker = request.node.get_closest_marker("asyncio")
    chosen = marker and (marker.kwargs.get("loop_scope") or marker.kwargs.get("scope"))
    return str(chosen or _default_loop_scope(request.config))


def _default_loop_scope(config: pytest.Config) -> str:
    try:
        return str(config.getini("asyncio_default_test_loop_scope") or "function")
    except (KeyError, ValueError):
        return "function"  # a pytest-asyncio that has no such setting yet


@contextmanager
def virtual_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The stage on a virtual loop, on which the test is then run too."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        opening = stage_for(request)
        stage = runner.run(opening.__aenter__())
        try:
            with prepared(runner):
                yield stage
        finally:
            runner.run(opening.__aexit__(None, None, None))
