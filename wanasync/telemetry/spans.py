"""From events to spans: which one begins, under which parent, and which one ends.

Times are the events' own, so that a trace is whole also where the session's clock is not this machine's.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatchmethod

from attrs import define, field
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)

from wanasync import OutcomeState, TaskStatus, VideoRequest, events
from wanasync.telemetry.measures import Bounded

__all__ = ["Spans"]

WORTH_A_SPAN = 0.001
"""Seconds at the gate."""
FINE = (OutcomeState.SAVED, OutcomeState.NOT_STARTED, OutcomeState.PENDING)

Attributes = Mapping[str, str | int | float | bool]


@define(eq=False)
class _Whole:
    """The span of a `generate` or an item, and the ids by which the events of its parts are known."""

    span: Span
    keys: list[str]
    tasks: list[str] = field(factory=list)


@define(eq=False)
class _Wait:
    span: Span
    waiting: int = 1


class Spans:
    """The spans that are open. What is forgotten, since there are too many, is ended as it stands."""

    def __init__(self, tracer: Tracer, *, record_prompts: bool = False) -> None:
        self._tracer = tracer
        self._record_prompts = record_prompts
        self._by_key: Bounded[str, _Whole] = Bounded(forget=lambda whole: whole.span.end())
        self._by_task: Bounded[str, _Whole] = Bounded()
        self._submitted: Bounded[str, SpanContext] = Bounded()
        self._submits: Bounded[str, Span] = Bounded(forget=_end)
        self._waits: Bounded[str, _Wait] = Bounded(forget=lambda wait: wait.span.end())
        self._saves: Bounded[str, Span] = Bounded(forget=_end)

    @singledispatchmethod
    def hear(self, event: events.Event) -> None:
        """Begin and end what the event says."""

    # Wholes

    @hear.register
    def _(self, event: events.GenerateStarted) -> None:
        attributes = self._of_request(event.request)
        span = self._tracer.start_span("wanasync.generate", attributes=attributes, start_time=_ns(event.at))
        self._by_key[event.idempotency_key] = _Whole(span, [event.idempotency_key])

    @hear.register
    def _(self, event: events.GenerateEnded) -> None:
        self._end_whole(event.idempotency_key, event.at, event.error)

    @hear.register
    def _(self, event: events.ItemStarted) -> None:
        whole = self._by_key.get(event.idempotency_key)
        if whole is None:
            attributes = {"wanasync.item.id": event.item_id, **self._of_request(event.request)}
            span = self._tracer.start_span("wanasync.item", attributes=attributes, start_time=_ns(event.at))
            whole = self._by_key[event.idempotency_key] = _Whole(span, [event.idempotency_key])
        if event.task_id is not None:
            self._belongs(whole, event.task_id)

    @hear.register
    def _(self, event: events.ItemRetried) -> None:
        whole = self._by_task.get(event.task_id or "")
        if whole is not None:
            whole.keys.append(event.idempotency_key)
            self._by_key[event.idempotency_key] = whole
            whole.span.add_event("retried", {"wanasync.task.id": event.task_id or ""}, _ns(event.at))

    @hear.register
    def _(self, event: events.ItemFinished) -> None:
        whole = self._by_key.get(event.idempotency_key or "")
        if whole is not None:
            whole.span.set_attribute("wanasync.item.state", event.outcome.state.value)
            error = None if event.outcome.state in FINE else event.outcome.error
            self._end_whole(whole.keys[0], event.at, error)

    def _end_whole(self, key: str, now: float, error: Exception | None) -> None:
        whole = self._by_key.get(key)
        if whole is None:
            return
        for each in whole.keys:
            self._by_key.pop(each, None)
        for task_id in whole.tasks:
            self._by_task.pop(task_id, None)
            self._submitted.pop(task_id, None)
        if error is not None:
            _fail(whole.span, type(error).__name__, str(error), now)
        whole.span.end(_ns(now))

    def _belongs(self, whole: _Whole, task_id: str) -> None:
        if task_id not in whole.tasks:
            whole.tasks.append(task_id)
        whole.span.set_attribute("wanasync.task.id", task_id)
        self._by_task[task_id] = whole

    # Submissions

    @hear.register
    def _(self, event: events.SubmissionStarted) -> None:
        whole = self._by_key.get(event.idempotency_key)
        if event.waited >= WORTH_A_SPAN:
            gate = self._begin("wanasync.gate", event.at - event.waited, whole, {})
            gate.end(_ns(event.at))
        attributes = {"wanasync.idempotency_key": event.idempotency_key, **self._of_request(event.request)}
        self._submits[event.idempotency_key] = self._begin(
            "wanasync.submit", event.at, whole, attributes, kind=SpanKind.CLIENT
        )

    @hear.register
    def _(self, event: events.SubmissionAccepted) -> None:
        span, whole = self._submits.pop(event.idempotency_key, None), self._by_key.get(event.idempotency_key)
        if whole is not None:
            self._belongs(whole, event.snapshot.id)
        if span is None:
            return
        span.set_attribute("wanasync.task.id", event.snapshot.id)
        if event.snapshot.credits_reserved is not None:
            span.set_attribute("wanasync.credits.reserved", event.snapshot.credits_reserved)
        if whole is None:
            self._submitted[event.snapshot.id] = span.get_span_context()
        span.end(_ns(event.at))

    @hear.register
    def _(self, event: events.SubmissionRefused) -> None:
        span = self._submits.pop(event.idempotency_key, None)
        if span is None:
            return
        span.set_attribute("http.response.status_code", event.status)
        span.set_attribute("wanasync.throttled", event.again)
        if not event.again:
            _fail(span, str(event.code or event.status), event.message, event.at)
        span.end(_ns(event.at))

    @hear.register
    def _(self, event: events.SubmissionUnknown) -> None:
        self._end_submit(event.idempotency_key, "unknown", event.reason, event.at)

    @hear.register
    def _(self, event: events.SubmissionNotSent) -> None:
        self._end_submit(event.idempotency_key, "not_sent", event.reason, event.at)

    def _end_submit(self, key: str, kind: str, message: str, now: float) -> None:
        span = self._submits.pop(key, None)
        if span is not None:
            _fail(span, kind, message, now)
            span.end(_ns(now))

    @hear.register
    def _(self, event: events.SubmissionFound) -> None:
        whole = self._by_key.get(event.idempotency_key)
        if whole is not None:
            self._belongs(whole, event.task_id)

    # Waiting

    @hear.register
    def _(self, event: events.WaitStarted) -> None:
        wait = self._waits.get(event.task_id)
        if wait is not None:
            wait.waiting += 1
            return
        self._waits[event.task_id] = _Wait(self._begin_of_task("wanasync.wait", event.at, event.task_id))

    @hear.register
    def _(self, event: events.TaskChanged) -> None:
        wait = self._waits.get(event.snapshot.id)
        if wait is not None:
            wait.span.set_attribute("wanasync.task.status", event.snapshot.status.value)

    @hear.register
    def _(self, event: events.PollFailed) -> None:
        wait = self._waits.get(event.task_id)
        if wait is not None:
            wait.span.add_event("poll failed", {"exception.message": event.message}, _ns(event.at))

    @hear.register
    def _(self, event: events.WaitEnded) -> None:
        wait = self._waits.get(event.task_id)
        if wait is None:
            return
        wait.waiting -= 1
        if wait.waiting:
            return
        del self._waits[event.task_id]
        if event.error is not None:
            _fail(wait.span, type(event.error).__name__, str(event.error), event.at)
        elif event.snapshot is None:
            wait.span.set_attribute("wanasync.given_up", value=True)
        elif event.snapshot.status is not TaskStatus.COMPLETED:
            failure = event.snapshot.failure
            code, words = (failure.code, failure.message) if failure else (None, "")
            _fail(wait.span, code or event.snapshot.status.value, words, event.at)
        wait.span.end(_ns(event.at))

    # Saving

    @hear.register
    def _(self, event: events.SaveStarted) -> None:
        span = self._begin_of_task("wanasync.save", event.at, event.task_id)
        span.set_attribute("file.path", str(event.path))
        span.set_attribute("wanasync.save.waited", event.waited)
        self._saves[str(event.path)] = span

    @hear.register
    def _(self, event: events.LinkRenewed) -> None:
        span = self._saves.get(str(event.path))
        if span is not None:
            span.add_event("link renewed", None, _ns(event.at))

    @hear.register
    def _(self, event: events.VideoSaved) -> None:
        span = self._saves.pop(str(event.video.path), None)
        if span is not None:
            span.set_attribute("file.size", event.video.bytes)
            span.end(_ns(event.at))

    @hear.register
    def _(self, event: events.SaveFailed) -> None:
        span = self._saves.pop(str(event.path), None)
        if span is None:
            return
        if event.error is not None:
            _fail(span, type(event.error).__name__, str(event.error), event.at)
        else:
            span.set_attribute("wanasync.given_up", value=True)
        span.end(_ns(event.at))

    # Beginning

    def _begin_of_task(self, name: str, at: float, task_id: str) -> Span:
        links = [Link(context)] if (context := self._submitted.get(task_id)) is not None else []
        return self._begin(name, at, self._by_task.get(task_id), {"wanasync.task.id": task_id}, links=links)

    def _begin(
        self,
        name: str,
        at: float,
        whole: _Whole | None,
        attributes: Attributes,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        links: list[Link] | None = None,
    ) -> Span:
        """Under its whole, linked to the caller's span where that is of another trace; else under the caller's."""
        links = links or []
        parent: Context | None = None
        if whole is not None:
            parent = set_span_in_context(whole.span)
            caller = get_current_span().get_span_context()
            if caller.is_valid and caller.trace_id != whole.span.get_span_context().trace_id:
                links.append(Link(caller))
        return self._tracer.start_span(
            name, context=parent, kind=kind, attributes=attributes, links=links, start_time=_ns(at)
        )

    def _of_request(self, request: VideoRequest) -> dict[str, str | int]:
        given: dict[str, str | int | None] = {
            "gen_ai.request.model": request.model,
            "wanasync.request.quality": request.quality,
            "wanasync.request.aspect_ratio": request.aspect_ratio,
            "wanasync.request.duration": request.duration,
            "wanasync.request.prompt": request.prompt if self._record_prompts else None,
        }
        return {name: value for name, value in given.items() if value is not None}


def _fail(span: Span, kind: str, message: str, now: float) -> None:
    """In our own words: a traceback may hold what other libraries say of a link."""
    span.set_attribute("error.type", kind)
    span.add_event("exception", {"exception.type": kind, "exception.message": message}, _ns(now))
    span.set_status(Status(StatusCode.ERROR, message))


def _end(span: Span) -> None:
    span.end()


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
