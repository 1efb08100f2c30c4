"""Commands about single tasks: generate, submit, status, fetch; and credits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from wanasync import (
    APIError,
    ConfigError,
    Credits,
    Destination,
    DownloadError,
    Event,
    NotFoundError,
    TaskSnapshot,
    TaskStatus,
    TaskTimeoutError,
    VideoRequest,
    WanError,
)
from wanasync.cli import exits, words
from wanasync.cli.connection import Connection, connected
from wanasync.cli.outcomes import error_object, request_object, video_object
from wanasync.cli.screen import Screen

if TYPE_CHECKING:
    from wanasync import SavedVideo, WanSession

__all__ = ["credits_left", "fetch", "generate", "statuses", "submit"]

WITHOUT_VIDEO = (TaskStatus.FAILED, TaskStatus.CANCELLED)
AT_ONCE = 16
"""Tasks asked for at the same time."""


class _Watcher:
    """Shows one task's way on one line, and remembers its id for the case of a Ctrl-C."""

    def __init__(self, screen: Screen) -> None:
        self.task_id: str | None = None
        self._screen = screen
        self._status = screen.console.status("submitting") if screen.live else None

    def __enter__(self) -> _Watcher:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def __call__(self, event: Event) -> None:
        snapshot: TaskSnapshot | None = getattr(event, "snapshot", None)
        if snapshot is None:
            return
        if self.task_id is None:
            self.task_id = snapshot.id
            self._screen.say(f"task {snapshot.id}", "dim")
        progress = f" {snapshot.progress} %" if snapshot.progress is not None else ""
        if self._status:
            self._status.update(Text(f"{snapshot.status}{progress}"))
        else:
            self._screen.detail(f"{snapshot.status}{progress}")


async def generate(
    request: VideoRequest,
    to: str,
    connection: Connection,
    screen: Screen,
    patience: float | None = None,
    state: Path | None = None,
) -> int:
    """One video: submitted, waited for (`patience` seconds at most) and saved."""
    watcher = _Watcher(screen)
    try:
        async with connected(connection, screen, watcher) as wan:
            with watcher:
                target = to if Destination.of(to).url or Path(to).suffix else str(_directory(Path(to)))
                video = await wan.generate(request, to=target, state=state, timeout=patience, count_queue=True)
    except asyncio.CancelledError:
        if watcher.task_id and not connection.emulator:
            screen.complain(f"interrupted; the task goes on. To save it: wanasync fetch {watcher.task_id}")
        raise
    except (DownloadError, TaskTimeoutError):
        if watcher.task_id and not connection.emulator:
            screen.complain(f"task {watcher.task_id} is paid for. To save its video: wanasync fetch {watcher.task_id}")
        raise
    _show_video(video, screen, request)
    return exits.DONE


def _directory(path: Path) -> Path:
    """Made where it is missing, so that it is taken for a directory. Raises `ConfigError`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: can't be made: {error.strerror or error}", "to") from error
    return path


def _show_video(video: SavedVideo, screen: Screen, request: VideoRequest | None = None) -> None:
    if screen.json:
        screen.record({**video_object(video), **request_object(request)})
    else:
        screen.result(video.location)
    cost = f", {words.credits(video.credits)} credits" if video.credits else ""
    screen.say(f"{words.size(video.bytes)}{cost}", "dim")


async def submit(requests: Sequence[VideoRequest], connection: Connection, screen: Screen) -> int:
    """Submit and print the ids; nothing is waited for. Stops at the first that is not taken."""
    async with connected(connection, screen) as wan:
        for request in requests:
            task = await wan.submit(request)
            if screen.json:
                screen.record({"task_id": task.id, "status": task.status.value, **request_object(request)})
            else:
                screen.result(task.id)
    return exits.DONE


async def statuses(task_ids: Sequence[str], connection: Connection, screen: Screen) -> int:
    """Look at each task once. 1 where one can't be looked at."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("task", "status", "progress", "credits", ""):
        table.add_column(heading, no_wrap=heading != "", overflow="fold")
    async with connected(connection, screen) as wan:
        looks = await _each(task_ids, lambda task_id: _look(wan, task_id))
    for task_id, look in zip(task_ids, looks, strict=True):
        if screen.json:
            screen.record(_status_object(task_id, look))
        else:
            table.add_row(*_status_row(task_id, look))
    if not screen.json:
        screen.print_result(table)
    return exits.FAILED if any(isinstance(look, WanError) for look in looks) else exits.DONE


async def _look(wan: WanSession, task_id: str) -> TaskSnapshot | WanError:
    try:
        return await wan.attach(task_id).refresh()
    except WanError as error:
        if exits.of_error(error) == exits.KEY_REFUSED:
            raise
        return error


async def _each(ids: Sequence[str], ask: Callable[[str], Awaitable[Any]]) -> list[Any]:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(task_id: str) -> Any:
        async with room:
            return await ask(task_id)

    refused: WanError | None = None
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(task_id)) for task_id in ids]
    except* WanError as errors:
        # Raised below: before 3.11.4, what is raised in here is put into a group again.
        refused = next(error for error in errors.exceptions if isinstance(error, WanError))
    if refused is not None:
        raise refused
    return [task.result() for task in tasks]


def _status_object(task_id: str, look: TaskSnapshot | WanError) -> dict[str, Any]:
    if isinstance(look, WanError):
        return {"task_id": task_id, "status": None, "error": error_object(look)}
    failure = look.failure
    return {
        "task_id": look.id,
        "status": look.status.value,
        "said_status": look.said_status,
        "progress": look.progress,
        "links": look.links,
        "credits": look.credits_used if look.credits_used is not None else look.credits_reserved,
        "error": {"type": "TaskFailure", "code": failure.code, "message": failure.message} if failure else None,
    }


_STATUS_STYLES = {TaskStatus.COMPLETED: "green", TaskStatus.FAILED: "red", TaskStatus.CANCELLED: "red"}


def _status_row(task_id: str, look: TaskSnapshot | WanError) -> tuple[Text, ...]:
    if isinstance(look, WanError):
        return Text(task_id), Text("?", "red"), Text(""), Text(""), Text(f"{look}; nor is it a directory here")
    amount = look.credits_used if look.credits_used is not None else look.credits_reserved
    failure = look.failure
    return (
        Text(look.id),
        Text(look.status.value, _STATUS_STYLES.get(look.status, "blue")),
        Text("" if look.progress is None else f"{look.progress} %"),
        Text("" if amount is None else words.credits(amount)),
        Text(failure.message or failure.code or "" if failure else ""),
    )


async def fetch(
    task_ids: Sequence[str],
    to: str,
    connection: Connection,
    screen: Screen,
    recent: float | None = None,
    state: Path | None = None,
) -> int:
    """Save the videos of tasks that were submitted elsewhere, waiting for those that are not finished.

    With `recent`, also those of the account's tasks of so many hours that are not in the directory yet.
    """
    destination = Destination.of(to, state)
    if destination.url is None:
        _directory(destination.directory)
    elif recent is not None:
        raise ConfigError("--recent compares with the files of a directory: give one, or the ids", "recent")
    async with connected(connection, screen) as wan:
        if recent is not None:
            listed = await _recent_ids(wan, recent * 3600.0, destination.directory)
            screen.say(f"{words.count(len(listed), 'video')} of recent tasks", "dim")
            task_ids = list(dict.fromkeys([*task_ids, *listed]))
        saved = await _each(task_ids, lambda task_id: _fetch_one(wan, task_id, destination, screen))
    return exits.DONE if all(saved) else exits.FAILED


async def _recent_ids(wan: WanSession, seconds: float, directory: Path) -> list[str]:
    """The account's tasks that have a video, or may come to one, and whose file is not there yet."""
    ids: list[str] = []
    earliest = time.time() - seconds
    try:
        async for task in wan.recent_tasks():
            if task.created is not None and task.created < earliest:
                break
            if task.status not in WITHOUT_VIDEO and not (directory / f"{task.id}.mp4").exists():
                ids.append(task.id)
    except NotFoundError as error:
        raise APIError("this provider has no list of recent tasks; give their ids", error.status) from error
    return ids


async def _fetch_one(wan: WanSession, task_id: str, to: Destination, screen: Screen) -> bool:
    try:
        task = wan.attach(task_id)
        # So that an id nobody knows is told at once, where following it would look for it for minutes.
        await task.refresh()
        video = await (task.save(f"{to.url}/", state=to.directory) if to.url else task.save(to.directory))
    except WanError as error:
        if exits.of_error(error) == exits.KEY_REFUSED:
            raise
        screen.complain(f"{error}" if task_id in str(error) else f"task {task_id}: {error}")
        if screen.json:
            screen.record({"id": task_id, "state": "failed", "task_id": task_id, "error": error_object(error)})
        return False
    _show_video(video, screen)
    return True


async def credits_left(connection: Connection, screen: Screen) -> int:
    """The account's balance."""
    async with connected(connection, screen) as wan:
        balance = await wan.credits()
    if screen.json:
        screen.record({"remaining": balance.remaining, "used": balance.used, "unlimited": balance.unlimited})
        return exits.DONE
    screen.result(_balance_words(balance))
    return exits.DONE


def _balance_words(balance: Credits) -> str:
    used = "" if balance.used is None else f" ({words.credits(balance.used)} used so far)"
    if balance.unlimited:
        return f"unlimited credits{used}"
    if balance.remaining is None:
        return f"the provider doesn't tell how many credits are left{used}"
    return f"{words.credits(balance.remaining)} credits left{used}"
