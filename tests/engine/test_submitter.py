"""A submission goes on whatever becomes of its caller, and its task id is never lost without a word."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from wanasync.config import Config
from wanasync.edges.transport import Transport
from wanasync.engine.gate import Gate, Ticket
from wanasync.engine.submitter import NoLog, SubmissionLog, SubmitResult, Submitter
from wanasync.errors import JournalError
from wanasync.models import VideoRequest
from wanasync.rules.calls import Call
from wanasync.rules.replies import Accepted, Reply

KEY = "wan-0123456789abcdef"
TAKEN = Reply(200, {}, json.dumps({"id": "task-1", "status": "pending"}).encode())


class Wire(Transport):
    """A transport whose one reply comes when a test says so."""

    def __init__(self) -> None:
        self.reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.sent = asyncio.Event()

    async def send(self, call: Call) -> Reply:
        self.sent.set()
        return await self.reply


class FullDisk(NoLog):
    async def answered(self, _result: SubmitResult, /) -> None:
        raise JournalError("the disk is full")


class Submission:
    """One submission on the wire, and the task that waits for it."""

    def __init__(self) -> None:
        self.wire, self.gate = Wire(), Gate()
        config = Config(api_key="sk-0123456789abcdef")
        self.submitter = Submitter(config, self.wire, self.gate, clock=lambda: 0.0, emit=lambda _: None)

    async def begin(self, log: SubmissionLog | None = None) -> asyncio.Task[object]:
        ticket: Ticket = await self.gate.admit()
        caller = asyncio.create_task(self.submitter.submit(ticket, VideoRequest("A cat"), KEY, log or NoLog()))
        await self.wire.sent.wait()
        return caller


async def test_the_caller_gets_the_result() -> None:
    submission = Submission()
    caller = await submission.begin()
    submission.wire.reply.set_result(TAKEN)
    result = await caller
    assert isinstance(result, Accepted)
    assert result.snapshot.id == "task-1"


async def test_the_caller_gets_what_is_raised() -> None:
    submission = Submission()
    caller = await submission.begin()
    submission.wire.reply.set_exception(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await caller
    assert submission.gate.statistics().in_flight == 0


@pytest.mark.parametrize("turns", range(4))
async def test_the_task_of_a_caller_that_was_cancelled_is_told(turns: int, caplog: pytest.LogCaptureFixture) -> None:
    """Cancelled before the reply comes, in the same turn of the loop, and in the ones in which it is read."""
    submission = Submission()
    caller = await submission.begin()
    with caplog.at_level(logging.WARNING, "wanasync.submit"):
        if turns:
            submission.wire.reply.set_result(TAKEN)
        for _ in range(turns - 1):
            await asyncio.sleep(0)
        was_told_itself = caller.done()
        caller.cancel()
        if not turns:
            submission.wire.reply.set_result(TAKEN)
        await asyncio.wait([caller])
        await submission.submitter.drain()
        await asyncio.sleep(0)
    assert was_told_itself or "task-1" in caplog.text
    assert submission.gate.statistics().accepted == 1


async def test_an_error_after_the_caller_was_cancelled_is_not_lost_on_the_loop() -> None:
    submission = Submission()
    caller = await submission.begin()
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    caller.cancel()
    await asyncio.wait([caller])
    submission.wire.reply.set_exception(ZeroDivisionError())
    await submission.submitter.drain()
    await asyncio.sleep(0)
    assert complaints == []
    assert submission.gate.statistics().in_flight == 0


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_task_that_could_not_be_written_down_is_told(
    is_cancelled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    submission = Submission()
    caller = await submission.begin(FullDisk())
    if is_cancelled:
        caller.cancel()
        await asyncio.wait([caller])
    with caplog.at_level(logging.ERROR, "wanasync.submit"):
        submission.wire.reply.set_result(TAKEN)
        await asyncio.wait([caller])
        await submission.submitter.drain()
    assert "wanasync fetch task-1" in caplog.text


async def test_a_caller_cancelled_before_anything_was_sent_costs_nothing() -> None:
    submission = Submission()
    caller = asyncio.create_task(
        submission.submitter.submit(await submission.gate.admit(), VideoRequest("A cat"), KEY, NoLog())
    )
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    submission.wire.reply.set_result(TAKEN)
    await submission.submitter.drain()
    assert not submission.wire.sent.is_set()
    assert submission.gate.statistics().in_flight == 0
    assert submission.gate.statistics().accepted == 0
