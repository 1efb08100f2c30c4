"""A batch's records as the JSON objects that the page reads. Nothing here is HTML: the page writes text only."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import attrs

from wanasync import BatchStatus, ItemStatus, PaceSample

__all__ = ["advice", "entry", "json_text", "pace_object", "script_json", "status_object"]

_HIDDEN_FIELDS = ("prompt", "callback_url")
"""The prompt has a place of its own; who holds a callback's address can knock there."""

_NOT_CHARGED = ("failed", "rejected")


def entry(item: ItemStatus) -> dict[str, Any]:
    """An item. What is absent is null; `file` is there for saved ones only."""
    request = item.request
    settings = {} if request is None else {**request.fields(), "model": request.model, **request.extra}
    told = {
        "number": item.number,
        "index": item.index,
        "id": item.id,
        "state": item.state,
        "prompt": request.prompt if request else "",
        "settings": {name: value for name, value in settings.items() if name not in _HIDDEN_FIELDS},
        "file": item.file if item.state == "saved" else None,
        "task": item.task_id,
        "attempt": item.attempt if item.attempt > 1 else None,
        "bytes": item.bytes,
        "sha256": item.sha256,
        "credits": item.credits if item.state not in _NOT_CHARGED else None,
        "code": item.error_code,
        "error": item.error_message,
        "submitted": item.submitted_at,
        "estimate": item.estimated_time,
        "deadline": item.link_deadline if item.state == "saving" else None,
        "updated": item.updated_at,
    }
    return {name: value for name, value in told.items() if value is not None}


def status_object(status: BatchStatus) -> dict[str, Any]:
    told = attrs.asdict(status)
    del told["directory"]
    return told


def pace_object(sample: PaceSample) -> dict[str, Any]:
    return {name: value for name, value in attrs.asdict(sample).items() if value not in (None, "")}


def advice(directory: Path | str, command: str | None = None, shared: str | None = None) -> dict[str, dict[str, str]]:
    """For each state of the page: what it means, and the command that mends it; `{task}` stands for the task's id.

    `shared` is the name of a batch that workers share.
    """
    place = shlex.quote(str(directory))
    if shared is not None:
        return _as_objects(_shared_advice(shlex.quote(shared), place))
    again = command or f"wanasync run LIST --to {place}"
    fetch = f"wanasync fetch {{task}} --to {place}"
    told = {
        "failed": (
            "The provider could not make it; not charged. This tries those again that failed by its own fault.",
            f"{again} --retry-failed 1",
        ),
        "rejected": ("Refused when it was submitted; not charged. The next run sends it again.", again),
        "unknown": (
            "Sent, and the reply was lost: it may be paid for, so it is held. "
            "This asks again with the same key, which a host that honours it charges once.",
            f"{again} --on-unknown replay",
        ),
        "expired": ("Made and paid, but its links died before it was saved. A host may give fresh ones.", fetch),
        "pending": ("Paid for and not saved yet: nobody works on it now. The next run goes on with it.", again),
        "waiting": ("Not submitted yet. The next run goes on with it.", again),
    }
    return _as_objects(told)


def _shared_advice(name: str, place: str) -> dict[str, tuple[str, str]]:
    worker = "wanasync cluster worker"
    again = f"wanasync cluster submit LIST --batch {name} --to {place}"
    return {
        "failed": (
            "The provider could not make it; not charged. "
            "Handed in again, workers started with --retry-failed 1 try it once more.",
            again,
        ),
        "rejected": ("Refused when it was submitted; not charged. Handed in again, it is sent again.", again),
        "unknown": (
            "Sent, and the reply was lost: it may be paid for, so it is held. "
            "This asks again with the same key, which a host that honours it charges once.",
            f"wanasync cluster resolve {name} --on-unknown replay",
        ),
        "expired": (
            "Made and paid, but its links died before it was saved. A host may give fresh ones.",
            f"wanasync fetch {{task}} --to {place}",
        ),
        "pending": ("Paid for and not saved yet: nobody works on it now. A worker goes on with it.", worker),
        "waiting": ("Not submitted yet. A worker goes on with it.", worker),
    }


def _as_objects(told: dict[str, tuple[str, str]]) -> dict[str, dict[str, str]]:
    return {state: {"meaning": meaning, "command": mend} for state, (meaning, mend) in told.items()}


def json_text(content: Any) -> str:
    """JSON on one line."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


# In a script element only `</script` and `<!--` end what they should not; without these signs there is neither. The
# last two end lines in old scripts.
_UNSAFE = str.maketrans({sign: f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"})


def script_json(content: Any) -> str:
    """JSON that may stand in a script element, whatever strangers wrote into it."""
    return json_text(content).translate(_UNSAFE)
