"""One submission, from the gate's door to a reply that has been understood and written down.

The step from intent to recorded reply must not be split: a POST whose reply nobody reads is money nobody can account
for. So it runs as a task of its own, which a cancelled caller leaves running; `Submitter.drain` waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol, assert_never

from attrs import frozen

from wanasync import events
from wanasync.config import Config
from wanasync.edges.transport import ReplyLostError, Transport
from wanasync.engine.announcer import Emit
from wanasync.engine.gate import AnyGate, Ticket
from wanasync.errors import APIConnectionError, APIError
from wanasync.models import TaskSnapshot, VideoRequest
from wanasync.rules import calls
from wanasync.rules.replies import Accepted, Refused, Throttled, Unknown, read_submission
from wanasync.rules.resolution import Lost

logger: logging.Logger = logging.getLogger("wanasync.submit")


class NeverSent:
    """The provider was not reached; nothing was sent."""

    def __init__(self, error: APIConnectionError) -> None:
        self.error = error


SubmitResult = Accepted | Throttled | Refused | Unknown | NeverSent


class SubmissionLog(Protocol):
    """What a caller wants done around a POST. Each call has returned before the next thing happens."""

    async def intent(self) -> None:
        """Before anything is sent. An error raised here stops the submission; nothing is lost."""

    async def answered(self, result: SubmitResult, /) -> None:
        """Right after the reply, before anything else happens to it."""


class NoLog:
    """For calls whose caller keeps the handle itself."""

    async def intent(self) -> None:
        return None

    async def answered(self, _result: SubmitResult, /) -> None:
        return None


@frozen
class _Submission:
    """What is to be sent, and what is to be told of it."""

    ticket: Ticket
    request: VideoRequest
    key: str
    log: SubmissionLog
    item_id: str | None
    waited: float
    callback_url: str | None


class Submitter:
    """Sends submissions through the gate. One per session."""

    def __init__(
        self,
        config: Config,
        transport: Transport,
        gate: AnyGate,
        *,
        clock: Callable[[], float],
        emit: Emit | None = None,
    ) -> None:
        self._config = config
        self._transport = transport
        self._gate = gate
        self._clock = clock
        self._emit = emit
        self._pauses_told = gate.statistics().pauses
        self._under_way: set[asyncio.Task[SubmitResult]] = set()
        self.recently_accepted: deque[str] = deque(maxlen=10_000)
        self.recently_lost: deque[Lost] = deque(maxlen=1_000)
        self.credits_reserved: float = 0.0
        self.unknown: int = 0

    async def submit(
        self,
        ticket: Ticket,
        request: VideoRequest,
        key: str,
        log: SubmissionLog,
        item_id: str | None = None,
        *,
        waited: float = 0.0,
        callback_url: str | None = None,
    ) -> SubmitResult:
        """Send one POST with an admitted `ticket`; settles the ticket. When cancelled, the POST is still finished.

        `waited` is how many seconds it took to get the ticket, for those who listen. `callback_url` goes with a
        request that has none itself, the same one whenever `key` is the same.
        """
        # A step that has succeeded answers by itself: asyncio.shield would take two more turns of the loop.
        answer: asyncio.Future[SubmitResult] = asyncio.get_running_loop().create_future()
        submission = _Submission(ticket, request, key, log, item_id, waited, callback_url)
        step = asyncio.create_task(self._answer(answer, submission))
        self._under_way.add(step)
        step.add_done_callback(partial(self._ended, answer))
        try:
            return await answer
        except asyncio.CancelledError:
            if isinstance(log, NoLog):
                # At once, where it is done already: a loop that ends may not come to its callbacks.
                if step.done():
                    _tell_orphan(step)
                else:
                    step.add_done_callback(_tell_orphan)
            raise

    def _ended(self, answer: asyncio.Future[SubmitResult], step: asyncio.Task[SubmitResult]) -> None:
        self._under_way.discard(step)
        error = None if step.cancelled() else step.exception()
        if answer.done():
            return
        if error is None:
            answer.cancel()
        else:
            answer.set_exception(error)

    async def _answer(self, answer: asyncio.Future[SubmitResult], submission: _Submission) -> SubmitResult:
        if answer.cancelled():
            # In the very turn in which it was to begin: nothing is written down yet, and nothing is to be sent.
            self._gate.release(submission.ticket)
            return NeverSent(APIConnectionError("it was cancelled before it was sent"))
        result = await self._step(submission)
        if not answer.done():
            answer.set_result(result)
        return result

    async def _step(self, submission: _Submission) -> SubmitResult:
        ticket, request, key = submission.ticket, submission.request, submission.key
        # The context settles the ticket as unknown if anything in here raises.
        with ticket:
            try:
                await submission.log.intent()
            except BaseException:
                self._gate.never_sent(ticket)
                raise
            if self._emit is not None:
                self._emit(self._started(submission))
            sent = self._clock()
            result = await self._post(request, key, submission.callback_url)
            self._settle(ticket, result)
            if isinstance(result, Unknown):
                self.recently_lost.append(Lost(key, request.model, sent, self._clock()))
        await self._write_down(submission, result)
        self._log(result, key)
        if self._emit is not None:
            self._tell(self._emit, result, key, submission.item_id)
        return result

    async def _write_down(self, submission: _Submission, result: SubmitResult) -> None:
        try:
            await submission.log.answered(result)
        except BaseException as error:
            # The caller may be gone, and nobody else knows of this task.
            if isinstance(result, Accepted):
                _tell_unwritten(submission.item_id or submission.key, result.snapshot.id, error)
            raise

    async def _post(self, request: VideoRequest, key: str, callback_url: str | None) -> SubmitResult:
        call = calls.submit_call(self._config.base_url, request, key, callback_url)
        try:
            reply = await self._transport.send(call)
        except ReplyLostError as error:
            return Unknown(str(error))
        except APIConnectionError as error:
            return NeverSent(error)
        return read_submission(reply, now=self._clock())

    def _settle(self, ticket: Ticket, result: SubmitResult) -> None:
        match result:
            case Accepted(snapshot=snapshot):
                self._gate.accepted(ticket, snapshot.id)
                self.recently_accepted.append(snapshot.id)
                self.credits_reserved += snapshot.credits_reserved or 0.0
            case Throttled(retry_after=retry_after, firm=firm):
                self._gate.throttled(ticket, retry_after, firm=firm)
            case Refused():
                self._gate.refused(ticket)
            case Unknown():
                self._gate.unknown(ticket)
                self.unknown += 1
            case NeverSent():
                self._gate.never_sent(ticket)
            case _:
                assert_never(result)

    def _log(self, result: SubmitResult, key: str) -> None:
        match result:
            case Accepted(snapshot=snapshot):
                logger.debug("task %s accepted", snapshot.id)
            case Unknown(reason=reason):
                logger.warning("a submission's outcome is unknown (%s); idempotency key %s", reason, key)
            case NeverSent(error=error):
                logger.info("the provider was not reached: %s", error)

    def _started(self, submission: _Submission) -> events.SubmissionStarted:
        return events.SubmissionStarted(
            at=self._clock(),
            idempotency_key=submission.key,
            request=submission.request,
            waited=max(submission.waited, 0.0),
            item_id=submission.item_id,
        )

    def _tell(self, emit: Emit, result: SubmitResult, key: str, item_id: str | None) -> None:
        now = self._clock()
        match result:
            case Accepted(snapshot=snapshot):
                emit(events.SubmissionAccepted(at=now, snapshot=snapshot, idempotency_key=key, item_id=item_id))
            case Throttled(error=error) | Refused(error=error):
                emit(_refusal(now, error, key, item_id, again=isinstance(result, Throttled)))
                self._tell_pause(emit, now)
            case Unknown(reason=reason):
                emit(events.SubmissionUnknown(at=now, reason=reason, idempotency_key=key, item_id=item_id))
            case NeverSent(error=unreached):
                emit(events.SubmissionNotSent(at=now, reason=str(unreached), idempotency_key=key, item_id=item_id))

    def _tell_pause(self, emit: Emit, now: float) -> None:
        gate = self._gate.statistics()
        if gate.pauses > self._pauses_told and gate.paused_for > 0:
            emit(events.GatePaused(at=now, seconds=gate.paused_for, why=gate.why))
        self._pauses_told = gate.pauses

    async def drain(self) -> None:
        """Wait for the POSTs that are on the wire now; each ends by the transport's timeouts."""
        if self._under_way:
            await asyncio.wait(set(self._under_way))


def _refusal(now: float, error: APIError, key: str, item_id: str | None, *, again: bool) -> events.SubmissionRefused:
    return events.SubmissionRefused(
        at=now,
        status=error.status,
        message=error.message,
        again=again,
        idempotency_key=key,
        code=error.code,
        item_id=item_id,
    )


def _tell_unwritten(name: str, task_id: str, error: BaseException) -> None:
    words = "item %s: task %s was accepted, and that could not be written down (%r); save its video: wanasync fetch %s"
    logger.error(words, name, task_id, error, task_id)


def _tell_orphan(step: asyncio.Task[SubmitResult]) -> None:
    """A submission whose caller was cancelled has ended: its task id must not vanish where no log has it."""
    if step.cancelled() or (step.exception() is not None):
        return
    result = step.result()
    if isinstance(result, Accepted):
        snapshot: TaskSnapshot = result.snapshot
        logger.warning("a cancelled submission was accepted: task %s goes on; attach() makes a handle", snapshot.id)
