"""The JSON of tasks, as the provider's document and recorded replies have it, and odd forms seen elsewhere. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from wanasync.emulator.tasks import FAILURES, Task
from wanasync.emulator.timing import Progress
from wanasync.emulator.trouble import Fault

__all__ = ["list_item", "submission_body", "task_body"]

Body = dict[str, Any]


def submission_body(task: Task, now: float, curve: Progress, estimated_time: int) -> Body:
    """The reply to a submission."""
    info: Body = {
        "can_cancel": task.status(now) == "pending",
        "estimated_time": estimated_time,
        "video_duration": task.wish.seconds,
    }
    if _quirk(task, "no_estimate"):
        del info["estimated_time"]
    body = _common(task, now, curve) | {"task_info": info}
    return body | {"usage": {"billing_rule": "per_second", "credits_reserved": task.credits, "user_group": "default"}}


def task_body(task: Task, now: float, curve: Progress, link: str) -> Body:
    """The reply to a query, and the body of a callback. `link` appears only when the task is completed."""
    status = task.status(now)
    body = _common(task, now, curve) | {"task_info": {"can_cancel": status == "pending"}}
    if status == "completed":
        body |= _completed(task, now, link)
    if status == "failed":
        body |= {"error": _failure(task)}
    for quirk in task.quirks:
        _QUIRKS.get(quirk.name, _none)(body, quirk, task, now)
    return body


def list_item(task: Task, now: float, curve: Progress) -> Body:
    """One line of `GET /v1/tasks`: no links, as seen in public client code."""
    status = task.status(now)
    return {
        "id": task.id,
        "model": task.wish.model,
        "type": "video",
        "status": status,
        "progress": task.progress(now, curve),
        "created_at": int(task.created),
        "has_results": status == "completed",
        "has_error": status == "failed",
        "credits_used": task.credits_used(now),
    }


def _common(task: Task, now: float, curve: Progress) -> Body:
    return {
        "created": int(task.created),
        "id": task.id,
        "model": task.wish.model,
        "object": "video.generation.task",
        "progress": task.progress(now, curve),
        "status": task.status(now),
        "type": "video",
    }


def _completed(task: Task, now: float, link: str) -> Body:
    ended = now if task.ends is None else task.ends
    return {
        "results": [link],
        # The seconds that the task took, not the length of the video (recorded reply).
        "duration": round(ended - task.created),
        "usage": {"credits_used": task.credits, "cost": {"credits": task.credits}},
    }


def _failure(task: Task) -> Body:
    code = task.failure or "service_error"
    return {"code": code, "message": FAILURES.get(code, FAILURES["unknown_error"]), "type": "task_error"}


def _quirk(task: Task, name: str) -> Fault | None:
    return next((quirk for quirk in task.quirks if quirk.name == name), None)


def _late_results(body: Body, quirk: Fault, task: Task, now: float) -> None:
    # Seen on another host of this API: completed at progress 50 with `results: null`, filled seconds later.
    if body["status"] == "completed" and task.ends is not None and now < task.ends + quirk.number(20.0):
        body |= {"results": None, "progress": 50, "error": None}
        body.pop("usage", None)


def _object_results(body: Body, _: Fault, __: Task, ___: float) -> None:
    if body.get("results"):
        body["results"] = [{"url": link, "content_type": "video/mp4"} for link in body["results"]]


def _result_data(body: Body, _: Fault, __: Task, ___: float) -> None:
    if body.get("results"):
        body["result_data"] = {"video_url": body.pop("results")[0]}


# Spellings of other hosts of this API family.
_OTHER_WORDS = {
    "pending": "queued",
    "processing": "RUNNING",
    "completed": "SUCCEEDED",
    "failed": "Error",
    "cancelled": "canceled",
}


def _odd_status(body: Body, quirk: Fault, task: Task, now: float) -> None:
    said = str(body["status"])
    body["status"] = _OTHER_WORDS[said] if task.ended(now) else quirk.word(_OTHER_WORDS[said])


def _falling_progress(body: Body, _: Fault, task: Task, now: float) -> None:
    # Climbs like a saw, and is at 50 in the end.
    body["progress"] = 50 if task.ended(now) else body["progress"] * 3 % 100


def _failed_without_error(body: Body, _: Fault, __: Task, ___: float) -> None:
    body.pop("error", None)


def _none(_: Body, __: Fault, ___: Task, ____: float) -> None: ...


_QUIRKS: Mapping[str, Callable[[Body, Fault, Task, float], None]] = {
    "late_results": _late_results,
    "object_results": _object_results,
    "result_data": _result_data,
    "odd_status": _odd_status,
    "falling_progress": _falling_progress,
    "failed_without_error": _failed_without_error,
}
