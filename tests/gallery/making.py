"""Batches as their journals would have them, without a provider."""

from __future__ import annotations

import asyncio
import functools
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import wanasync.emulator
from wanasync import VideoRequest
from wanasync.edges.journal import Journal
from wanasync.rules.lifecycle import ItemEvent
from wanasync.rules.records import ItemRecord, PlannedItem

__all__ = ["NASTY", "NOW", "STATES", "clip", "make_batch"]

NOW = 1_800_000_000.0
NASTY = "</script><script>window.broken = 1</script><!--<img src=x onerror=alert(1)> \u2028 & \"quoted\" 'twice' \u202e"

_SENT: list[tuple[ItemEvent, dict[str, Any]]] = [(ItemEvent.SUBMIT, {})]
STATES = ("planned", "submitting", "following", "saving", "saved", "failed", "rejected", "unknown", "expired")


@functools.cache
def clip() -> Path:
    """A small whole video."""
    return next(Path(wanasync.emulator.__file__).parent.rglob("*.mp4"))


def steps(state: str, number: int) -> list[tuple[ItemEvent, dict[str, Any]]]:
    accepted = [*_SENT, (ItemEvent.ACCEPTED, {"task_id": f"task-{number}", "credits_reserved": 5.0})]
    ready = [
        *accepted,
        (ItemEvent.LINKED, {"links": ["https://v/x"], "link_deadline": NOW + 7200.0, "credits_used": 5.0}),
    ]
    saved = (ItemEvent.SAVED, {"bytes": clip().stat().st_size, "sha256": f"{number:064x}"})
    failed = {"error_code": "content_policy", "error_message": f"the provider would not: {NASTY}"}
    return {
        "planned": [],
        "submitting": _SENT,
        "following": accepted,
        "saving": ready,
        "saved": [*ready, saved],
        "failed": [*accepted, (ItemEvent.FAILED, failed)],
        "rejected": [*_SENT, (ItemEvent.REFUSED, {"error_code": "400", "error_message": "no such aspect ratio"})],
        "unknown": [*_SENT, (ItemEvent.REPLY_LOST, {"error_message": "the connection was reset"})],
        "expired": [*ready, (ItemEvent.EXPIRED, {"error_message": "the link is dead"})],
    }[state]


async def make_batch(directory: Path, states: Iterable[str] = STATES, prompts: Iterable[str] = ()) -> list[ItemRecord]:
    """A journal with an item in each of the states; videos of saved ones are there."""
    wanted = list(states)
    words = [*prompts, *(f"a cat, number {at}" for at in range(len(wanted)))]
    async with await Journal.open(directory, now=lambda: NOW) as journal:
        planned = await journal.plan(
            [PlannedItem(at, VideoRequest(words[at], duration=5)) for at in range(len(wanted))]
        )
        # At once, so that they share their commits.
        brought = (
            bring(journal, record, state, at) for at, (record, state) in enumerate(zip(planned, wanted, strict=True))
        )
        records = await asyncio.gather(*brought)
    for record, state in zip(records, wanted, strict=True):
        if state == "saved":
            shutil.copy(clip(), directory / record.file)
    return records


async def bring(journal: Journal, record: ItemRecord, state: str, number: int) -> ItemRecord:
    for event, changes in steps(state, number):
        if event is ItemEvent.SUBMIT:
            record = await journal.claim(record, submitted_at=NOW)
        else:
            record = await journal.record(record.key, event, **changes)
    return record
