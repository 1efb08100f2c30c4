"""A program of a user's. Nobody runs it: type checkers read it, in test_user_program.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, assert_type

from wanasync import (
    Batch,
    BatchHistory,
    BatchItem,
    BatchProgress,
    Config,
    Credits,
    Limits,
    Outcome,
    OutcomeState,
    RateLimitError,
    RequestValidationError,
    SavedVideo,
    Statistics,
    SubmissionUnknownError,
    Task,
    TaskFailedError,
    TaskSnapshot,
    TaskStatus,
    TaskTimeoutError,
    VideoRequest,
    WanError,
    WanSession,
)
from wanasync.emulator import Emulator, FixedWindow, Trouble
from wanasync.events import Event, GatePaused, VideoSaved
from wanasync.webhooks import CallbackReceiver


async def one_video() -> None:
    async with WanSession() as wan:
        assert_type(wan, WanSession)
        video = await wan.generate("A cat playing piano", to="cat.mp4")
        assert_type(video, SavedVideo)
        assert_type(video.path, Path)
        assert_type(video.bytes, int)
        assert_type(video.sha256, str)

        task = await wan.submit(VideoRequest("Rain", quality="1080p", duration=10, aspect_ratio="4:3"))
        assert_type(task, Task)
        assert_type(task.progress, int | None)
        async for snapshot in task.updates():
            assert_type(snapshot, TaskSnapshot)
            assert_type(snapshot.status, TaskStatus)
            assert_type(snapshot.links, tuple[str, ...])
        assert_type(await task.wait(timeout=600), TaskSnapshot)
        assert_type(await wan.attach(task.id).save(Path("rain.mp4")), SavedVideo)
        assert_type(await wan.credits(), Credits)
        assert_type(wan.statistics(), Statistics)


async def prompts() -> AsyncIterator[VideoRequest | str | BatchItem]:
    yield "A cat"
    yield VideoRequest("A dog", quality="480p")


def listen(event: Event) -> None:
    match event:
        case GatePaused():
            print("paused")
        case VideoSaved(video=video):
            assert_type(video, SavedVideo)


async def batch_of_videos(to: Path) -> dict[OutcomeState, int]:
    counts: dict[OutcomeState, int] = {}
    config = Config(limits=Limits(requests=60, per=60.0), max_downloads=4)
    async with WanSession(config=config, on_event=listen) as wan, wan.batch(prompts(), to=to, budget=500) as batch:
        assert_type(batch, Batch)
        async for outcome in batch:
            assert_type(outcome, Outcome)
            assert_type(outcome.path, Path | None)
            assert_type(outcome.error, WanError | None)
            counts[outcome.state] = counts.get(outcome.state, 0) + 1
        assert_type(batch.progress(), BatchProgress)
    async with BatchHistory(to) as history:
        async for outcome in history.outcomes():
            assert_type(outcome, Outcome)
    return counts


async def mishaps(wan: WanSession) -> str:
    try:
        await wan.generate("A cat", to="cat.mp4", timeout=60)
    except RequestValidationError as error:
        return error.field
    except TaskFailedError as error:
        return error.task_id
    except TaskTimeoutError as error:
        return error.task_id
    except SubmissionUnknownError as error:
        return error.idempotency_key
    except RateLimitError as error:
        assert_type(error.retry_after, float | None)
        return error.message
    return "saved"


async def in_a_test() -> None:
    async with (
        Emulator(limiter=FixedWindow(60, per=60), trouble=Trouble(cut_downloads=0.2)) as emulator,
        WanSession(api_key=emulator.api_key, base_url=emulator.base_url) as wan,
    ):
        await wan.generate("A cat", to="cat.mp4")


def web(headers: dict[str, str]) -> Any:
    receiver = CallbackReceiver(public_url="https://app.example.com/hooks/wan", secret="sixteen bytes or more")
    WanSession(callbacks=receiver)
    return receiver.handle("POST", "/hooks/wan/token", headers, b"{}")


if __name__ == "__main__":
    asyncio.run(one_video())
