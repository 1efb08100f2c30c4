"""Metrics and traces for OpenTelemetry, by its API alone: what becomes of them is the application's choice."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation, get_meter
from opentelemetry.trace import TracerProvider, get_tracer

from wanasync import __version__
from wanasync.events import Event
from wanasync.telemetry.measures import BUCKETS, COUNTERS, GAUGES, HISTOGRAMS, POLLS, Measure, Measures, Sessions
from wanasync.telemetry.spans import Spans

__all__ = ["OpenTelemetry"]

Observe = Callable[[CallbackOptions], Iterable[Observation]]


class OpenTelemetry:
    """A listener that makes spans and metrics; one serves all sessions of a process.

    Spans: `wanasync.generate` for each call of `generate`, `wanasync.item` for each item of a batch, and under it
    `wanasync.gate` (where there was a wait), `wanasync.submit`, `wanasync.wait` and `wanasync.save`. Its parent is the
    current span of whoever called, or opened the batch. Without `generate` or a batch each of these stands under the
    current span of its own call, linked to the submission. Metrics: `wanasync.telemetry.measures`.

    The providers are the global ones if none are given. `record_prompts` adds each prompt to its spans.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        record_prompts: bool = False,
    ) -> None:
        self._spans = Spans(get_tracer("wanasync", __version__, tracer_provider), record_prompts=record_prompts)
        self._measures = Measures()
        self._sessions = Sessions()
        meter = get_meter("wanasync", __version__, meter_provider)
        self._record: dict[str, Callable[[Measure], None]] = {**_counters(meter), **_histograms(meter)}
        self._observe(meter)

    def __call__(self, event: Event) -> None:
        self._sessions.hear(event)
        self._spans.hear(event)
        for measure in self._measures.of(event):
            self._record[measure.name](measure)

    def _observe(self, meter: Meter) -> None:
        for each in GAUGES:
            callback = self._observer(each.name)
            meter.create_observable_gauge(f"wanasync.{each.name}", [callback], each.unit, each.description)
        polls: Observe = lambda _: [Observation(self._sessions.polls())]  # noqa: E731 — as short as its type is long
        meter.create_observable_counter(f"wanasync.{POLLS.name}", [polls], POLLS.unit, POLLS.description)

    def _observer(self, name: str) -> Observe:
        return lambda _: [Observation(self._sessions.gauges()[name])]


def _counters(meter: Meter) -> dict[str, Callable[[Measure], None]]:
    record: dict[str, Callable[[Measure], None]] = {}
    for each in COUNTERS:
        counter = meter.create_counter(f"wanasync.{each.name}", each.unit, each.description)
        record[each.name] = lambda measure, counter=counter: counter.add(measure.value, measure.labels)  # type: ignore[misc]
    return record


def _histograms(meter: Meter) -> dict[str, Callable[[Measure], None]]:
    record: dict[str, Callable[[Measure], None]] = {}
    for each in HISTOGRAMS:
        histogram = meter.create_histogram(
            f"wanasync.{each.name}", each.unit, each.description, explicit_bucket_boundaries_advisory=BUCKETS
        )
        record[each.name] = lambda measure, histogram=histogram: histogram.record(measure.value, measure.labels)  # type: ignore[misc]
    return record
