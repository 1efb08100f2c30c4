"""Small makers for tests of the emulator's parts."""

from __future__ import annotations

from typing import Any

from wanasync.emulator.tasks import Task
from wanasync.emulator.trouble import Fault
from wanasync.emulator.validation import Wish

T0 = 1_800_000_000.0
BODY = {"model": "wan2.5-text-to-video", "prompt": "A cat playing piano"}


def wish(prompt: str = BODY["prompt"], *, callback_url: str | None = None) -> Wish:
    return Wish(BODY["model"], prompt, "720p", "16:9", 5, callback_url)


def task(
    number: int = 1, *, takes: float = 100.0, outcome: str = "completed", quirks: tuple[Fault, ...] = (), **changes: Any
) -> Task:
    """Created at T0, pending for 2 s, ends after `takes`."""
    options: dict[str, Any] = {
        "id": f"task-unified-{int(T0)}-{number:08}",
        "wish": wish(),
        "request": BODY,
        "idempotency_key": None,
        "created": T0,
        "starts": T0 + 2,
        "planned_end": T0 + takes,
        "ends": T0 + takes,
        "credits": 5.0,
        "outcome": outcome,
        "quirks": quirks,
    }
    return Task(**options | changes)
