"""Uses an installed wanasync as a stranger would: `python smoke.py bare` (no extra) or `cli`.

Imports nothing but the standard library and wanasync; run it where no source tree is on the path.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path
from types import ModuleType

import wanasync
from wanasync.emulator import Emulator

DOORS = ("config", "emulator", "errors", "events", "gallery", "models", "telemetry", "webhooks")


def import_everything() -> None:
    assert "site-packages" in wanasync.__file__, wanasync.__file__
    assert importlib.metadata.version("wanasync") == wanasync.__version__
    for name in wanasync.__all__:
        getattr(wanasync, name)
    for door in DOORS:
        importlib.import_module(f"wanasync.{door}")
    assert resources.files("wanasync").joinpath("py.typed").is_file()


async def make_videos(folder: Path) -> None:
    async with (
        Emulator(speed=60, durations=5.0) as emulator,
        wanasync.WanSession(api_key=emulator.api_key, base_url=emulator.base_url) as wan,
        wan.batch(["A cat", "A dog"], to=folder) as batch,
    ):
        states = [outcome.state async for outcome in batch]
    assert states == ["saved", "saved"], states
    page = command("report", str(folder)) if sys.argv[1] == "cli" else None
    assert page is None or (folder / "index.html").is_file(), page


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("wanasync")
    return subprocess.run([program, *arguments], capture_output=True, text=True)


def ask_for_its_version() -> None:
    shown = command("--version")
    if sys.argv[1] == "bare":
        assert (shown.returncode, shown.stdout) == (2, ""), shown
        assert "pip install 'wanasync[cli]'" in shown.stderr, shown
    else:
        assert (shown.returncode, shown.stdout) == (0, f"wanasync {wanasync.__version__}\n"), shown


def name_missing_extras() -> None:
    telemetry = importlib.import_module("wanasync.telemetry")
    assert "pip install 'wanasync[opentelemetry]'" in refusal(telemetry, "OpenTelemetry")
    assert "pip install 'wanasync[prometheus]'" in refusal(telemetry, "Prometheus")


def refusal(module: ModuleType, name: str) -> str:
    try:
        getattr(module, name)
    except ImportError as error:
        return str(error)
    return f"{name} is there without its extra"


if __name__ == "__main__":
    import_everything()
    ask_for_its_version()
    name_missing_extras()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(make_videos(Path(folder)))
