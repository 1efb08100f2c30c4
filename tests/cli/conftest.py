"""The command line is tried against an emulator that lives in a thread of its own: commands run their own loop."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from tests.helpers.background import in_background
from wanasync.cli import main
from wanasync.emulator import Emulator
from wanasync.engine.batch import lost

KEY = "test-key-that-nobody-may-see"


@pytest.fixture
def emulate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Emulator]]:
    """Start an emulator with these options, and point the environment at it."""
    with ExitStack() as running:

        def start(**options: Any) -> Emulator:
            quick: dict[str, Any] = {"durations": 0.2, "estimated_time": 1, "queue_time": 0.05}
            emulator = running.enter_context(in_background(Emulator(api_key=KEY, **{**quick, **options})))
            monkeypatch.setenv("WAN_BASE_URL", emulator.base_url)
            monkeypatch.setenv("WAN_API_KEY", KEY)
            return emulator

        yield start


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test in a directory of its own, out of reach of the developer's settings and of any provider."""
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    settings = [name for name in os.environ if name.startswith("WAN_")]
    for name in (*settings, "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WAN_BASE_URL", "http://127.0.0.1:9/never")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(autouse=True)
def _look_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider's list is asked soon after a lost reply: commands run in real time."""
    monkeypatch.setattr(lost, "LOOK_UP_AFTER", 0.3)


@frozen
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        assert self.out, self.err
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def wanasync(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run a command line in this process."""

    def run(*arguments: str | Path) -> Ended:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert KEY not in out + err
        return Ended(code, out, err)

    return run
