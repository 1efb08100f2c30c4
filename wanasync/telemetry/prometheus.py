"""Metrics for Prometheus, by its own client."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import ClassVar
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from wanasync.events import Event
from wanasync.telemetry.measures import (
    BUCKETS,
    COUNTERS,
    GAUGES,
    HISTOGRAMS,
    POLLS,
    Instrument,
    Measure,
    Measures,
    Sessions,
)

__all__ = ["Prometheus"]


class Prometheus:
    """A listener that counts into `registry`, the client's default one if none is given.

    Sessions of a process may share one, or have one each: those of the same registry count together.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._shelf = _Shelf.of(registry or REGISTRY)

    def __call__(self, event: Event) -> None:
        self._shelf.hear(event)


class _Shelf:
    """The instruments of one registry. They can be registered once only."""

    _made: ClassVar[WeakKeyDictionary[CollectorRegistry, _Shelf]] = WeakKeyDictionary()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def of(cls, registry: CollectorRegistry) -> _Shelf:
        with cls._lock:
            shelf = cls._made.get(registry)
            if shelf is None:
                shelf = cls._made[registry] = cls(registry)
            return shelf

    def __init__(self, registry: CollectorRegistry) -> None:
        self._hearing = threading.Lock()
        self._measures = Measures()
        self._sessions = Sessions()
        self._counters = {each.name: _counter(each, registry) for each in COUNTERS}
        self._histograms = {each.name: _histogram(each, registry) for each in HISTOGRAMS}
        registry.register(_Figures(self._sessions))

    def hear(self, event: Event) -> None:
        self._sessions.hear(event)
        # Sessions of several threads may share a registry.
        with self._hearing:
            for measure in self._measures.of(event):
                self._count(measure)

    def _count(self, measure: Measure) -> None:
        labels = {_plain(name): value for name, value in measure.labels.items()}
        if measure.name in self._counters:
            counter = self._counters[measure.name]
            (counter.labels(**labels) if labels else counter).inc(measure.value)
        else:
            histogram = self._histograms[measure.name]
            (histogram.labels(**labels) if labels else histogram).observe(measure.value)


class _Figures:
    """What is asked for at each scrape."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def collect(self) -> Iterator[Metric]:
        figures = self._sessions.gauges()
        for each in GAUGES:
            yield GaugeMetricFamily(_name(each), each.description, value=figures[each.name])
        yield CounterMetricFamily(_name(POLLS), POLLS.description, value=self._sessions.polls())

    def describe(self) -> Iterator[Metric]:
        return self.collect()


def _counter(each: Instrument, registry: CollectorRegistry) -> Counter:
    return Counter(_name(each), each.description, _labels(each), registry=registry)


def _histogram(each: Instrument, registry: CollectorRegistry) -> Histogram:
    return Histogram(_name(each), each.description, _labels(each), registry=registry, buckets=BUCKETS)


def _labels(each: Instrument) -> list[str]:
    return [_plain(label) for label in each.labels]


def _name(each: Instrument) -> str:
    """As Prometheus has it: with the unit at the end; the client adds `_total` to counters."""
    name = f"wanasync_{_plain(each.name)}"
    return f"{name}_seconds" if each.unit == "s" else name


def _plain(name: str) -> str:
    return name.replace(".", "_")
