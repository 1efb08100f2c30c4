"""What is measured, and which event measures what; no library in here, so that all doors tell the same.

OpenTelemetry's names are `wanasync.` and the name, Prometheus' `wanasync_`, the name with underscores and the unit:
`wanasync.save.duration` in seconds, `wanasync_save_duration_seconds`. There is no semantic convention for this yet
whose names would fit; where one has a name for an attribute (`error.type`), it is that.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from functools import singledispatchmethod
from typing import Generic, TypeAlias, TypeVar

from attrs import field, frozen

from wanasync import Statistics, events

__all__ = ["BUCKETS", "COUNTERS", "GAUGES", "HISTOGRAMS", "Bounded", "Instrument", "Measure", "Measures", "Sessions"]

BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
"""Seconds: a submission takes less than one, a video minutes, a wait at a small limit's gate an hour."""

OPEN = 100_000
"""Steps under way that are remembered at most, for their durations; the oldest are forgotten first."""

K = TypeVar("K")
V = TypeVar("V")


@frozen
class Instrument:
    """`unit` is UCUM's; `labels` are all attributes it has."""

    name: str
    unit: str
    description: str
    labels: tuple[str, ...] = ()


@frozen
class Measure:
    """One reading: what to add to a counter, or to put into a histogram."""

    name: str
    value: float = 1.0
    labels: Mapping[str, str] = field(factory=dict)


COUNTERS = (
    Instrument("submissions", "{submission}", "Submissions sent, by what came of them", ("outcome",)),
    Instrument("credits.reserved", "{credit}", "Credits that accepted submissions reserved"),
    Instrument("credits.used", "{credit}", "Credits that finished tasks used, as far as the provider tells"),
    Instrument("tasks.finished", "{task}", "Tasks seen to end, by how", ("status",)),
    Instrument("polls.failed", "{poll}", "Queries of tasks that failed and were repeated"),
    Instrument("videos.saved", "{video}", "Videos saved"),
    Instrument("save.bytes", "By", "Bytes of the videos saved"),
    Instrument("saves.failed", "{save}", "Videos that could not be saved, by why", ("error.type",)),
    Instrument("links.renewed", "{link}", "Dead links that were asked for anew"),
    Instrument("gate.pauses", "{pause}", "Pauses that the provider's refusals brought about"),
    Instrument("items.finished", "{item}", "Items of batches, by what became of them", ("state",)),
)
HISTOGRAMS = (
    Instrument("gate.wait.duration", "s", "Waits of submissions at the gate"),
    Instrument("submission.duration", "s", "Submissions, from the gate to the understood reply", ("outcome",)),
    Instrument("wait.duration", "s", "Waits for tasks that ended meanwhile", ("status",)),
    Instrument("save.wait.duration", "s", "Waits of finished videos for their turn to be fetched"),
    Instrument("save.duration", "s", "Fetching of videos that were saved"),
    Instrument("generate.duration", "s", "Calls of generate, from call to file"),
)
GAUGES = (
    Instrument("sessions", "{session}", "Open sessions"),
    Instrument("gate.waiting", "{submission}", "Submissions that wait at the gate"),
    Instrument("gate.in_flight", "{submission}", "Submissions on the wire"),
    Instrument("gate.paused", "s", "Seconds left of the longest pause"),
    Instrument("tasks.following", "{task}", "Tasks that are followed"),
    Instrument("saves.waiting", "{video}", "Finished videos that wait for their turn"),
    Instrument("saves.active", "{video}", "Videos being fetched"),
)
COUNTED: Mapping[type[events.Event], str] = {
    events.GatePaused: "gate.pauses",
    events.PollFailed: "polls.failed",
    events.LinkRenewed: "links.renewed",
}
"""Events of which nothing but their number matters."""
POLLS = Instrument("polls", "{poll}", "Queries of tasks")


class Bounded(OrderedDict[K, V], Generic[K, V]):
    """A dict that forgets its oldest entries; `forget` is told of each."""

    def __init__(self, most: int = OPEN, forget: Callable[[V], None] = lambda _: None) -> None:
        super().__init__()
        self._most = most
        self._forget = forget

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        while len(self) > self._most:
            _, oldest = self.popitem(last=False)
            self._forget(oldest)


Found: TypeAlias = Iterator[Measure]


class Measures:
    """From events to measures. Remembers when steps began, by their ids."""

    def __init__(self) -> None:
        self._submitting: Bounded[str, float] = Bounded()
        self._waiting: Bounded[str, float] = Bounded()
        self._generating: Bounded[str, float] = Bounded()

    @singledispatchmethod
    def of(self, event: events.Event) -> Found:
        """The measures that an event brings."""
        name = COUNTED.get(type(event))
        if name is not None:
            yield Measure(name)

    @of.register
    def _(self, event: events.SubmissionStarted) -> Found:
        self._submitting[event.idempotency_key] = event.at
        yield Measure("gate.wait.duration", event.waited)

    @of.register
    def _(self, event: events.SubmissionAccepted) -> Found:
        yield from self._submitted(event.idempotency_key, event.at, "accepted")
        if event.snapshot.credits_reserved:
            yield Measure("credits.reserved", event.snapshot.credits_reserved)

    @of.register
    def _(self, event: events.SubmissionRefused) -> Found:
        yield from self._submitted(event.idempotency_key, event.at, "throttled" if event.again else "refused")

    @of.register
    def _(self, event: events.SubmissionUnknown) -> Found:
        yield from self._submitted(event.idempotency_key, event.at, "unknown")

    @of.register
    def _(self, event: events.SubmissionNotSent) -> Found:
        yield from self._submitted(event.idempotency_key, event.at, "not_sent")

    def _submitted(self, key: str, now: float, outcome: str) -> Found:
        labels = {"outcome": outcome}
        yield Measure("submissions", labels=labels)
        began = self._submitting.pop(key, None)
        if began is not None:
            yield Measure("submission.duration", max(now - began, 0.0), labels)

    @of.register
    def _(self, event: events.TaskChanged) -> Found:
        if not event.snapshot.is_final:
            return
        yield Measure("tasks.finished", labels={"status": event.snapshot.status.value})
        if event.snapshot.credits_used:
            yield Measure("credits.used", event.snapshot.credits_used)

    @of.register
    def _(self, event: events.WaitStarted) -> Found:
        self._waiting.setdefault(event.task_id, event.at)
        yield from ()

    @of.register
    def _(self, event: events.WaitEnded) -> Found:
        began = self._waiting.pop(event.task_id, None)
        if began is not None and event.snapshot is not None:
            yield Measure("wait.duration", max(event.at - began, 0.0), {"status": event.snapshot.status.value})

    @of.register
    def _(self, event: events.SaveStarted) -> Found:
        yield Measure("save.wait.duration", event.waited)

    @of.register
    def _(self, event: events.VideoSaved) -> Found:
        yield Measure("videos.saved")
        yield Measure("save.bytes", event.video.bytes)
        yield Measure("save.duration", event.seconds)

    @of.register
    def _(self, event: events.SaveFailed) -> Found:
        reason = "cancelled" if event.error is None else type(event.error).__name__
        yield Measure("saves.failed", labels={"error.type": reason})

    @of.register
    def _(self, event: events.GenerateStarted) -> Found:
        self._generating[event.idempotency_key] = event.at
        yield from ()

    @of.register
    def _(self, event: events.GenerateEnded) -> Found:
        began = self._generating.pop(event.idempotency_key, None)
        if began is not None and event.video is not None:
            yield Measure("generate.duration", max(event.at - began, 0.0))

    @of.register
    def _(self, event: events.ItemFinished) -> Found:
        yield Measure("items.finished", labels={"state": event.outcome.state.value})


class Sessions:
    """The open sessions' figures, summed. Events come on the sessions' loops, questions from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, events.SessionOpened] = {}
        self._last: dict[int, Statistics] = {}
        self._polls_before = 0

    def hear(self, event: events.Event) -> None:
        with self._lock:
            if isinstance(event, events.SessionOpened):
                self._open[event.session] = event
            elif isinstance(event, events.SessionClosed) and self._open.pop(event.session, None) is not None:
                self._last.pop(event.session, None)
                self._polls_before += event.statistics.poller.polls

    def polls(self) -> int:
        with self._lock:
            return self._polls_before + sum(self._statistics(number).poller.polls for number in self._open)

    def gauges(self) -> dict[str, float]:
        """By the names of GAUGES. A gate that several sessions share counts once."""
        with self._lock:
            each = {number: self._statistics(number) for number in self._open}
            gates = {event.gate: each[number].gate for number, event in self._open.items()}.values()
        return {
            "sessions": len(each),
            "gate.waiting": sum(gate.waiting for gate in gates),
            "gate.in_flight": sum(gate.in_flight for gate in gates),
            "gate.paused": max((gate.paused_for for gate in gates), default=0.0),
            "tasks.following": sum(one.poller.following for one in each.values()),
            "saves.waiting": sum(one.downloads.waiting for one in each.values()),
            "saves.active": sum(one.downloads.active for one in each.values()),
        }

    def _statistics(self, number: int) -> Statistics:
        try:
            self._last[number] = self._open[number].statistics()
        except RuntimeError:
            # Asked in another thread while the loop changes what is counted: the figures of before will do.
            return self._last.get(number, Statistics())
        return self._last[number]
