"""Measures by themselves: durations by ids, nothing kept for ever, each instrument as it is described."""

from __future__ import annotations

import subprocess
import sys

import pytest

from wanasync import TaskSnapshot, TaskStatus, events
from wanasync.telemetry import measures
from wanasync.telemetry.measures import COUNTERS, HISTOGRAMS, Bounded, Measure, Measures
from wanasync.telemetry.spans import Spans

EVENTS = {name for name in events.__all__ if isinstance(getattr(events, name), type)} - {"Event"}
LABELS = {each.name: set(each.labels) for each in (*COUNTERS, *HISTOGRAMS)}


def test_durations_are_from_first_to_last() -> None:
    heard = Measures()
    list(heard.of(events.WaitStarted(at=10.0, task_id="task")))
    list(heard.of(events.WaitStarted(at=20.0, task_id="task")))
    done = TaskSnapshot("task", TaskStatus.COMPLETED, links=("https://v/x",))
    ended = events.WaitEnded(at=70.0, task_id="task", snapshot=done)
    assert list(heard.of(ended)) == [Measure("wait.duration", 60.0, {"status": "completed"})]
    assert list(heard.of(ended)) == []


def test_a_clock_set_back_makes_no_negative_duration() -> None:
    heard = Measures()
    list(heard.of(events.GenerateStarted(at=10.0, idempotency_key="k", request=None)))  # type: ignore[arg-type]
    ended = events.GenerateEnded(at=5.0, idempotency_key="k", video=object())  # type: ignore[arg-type]
    assert [measure.value for measure in heard.of(ended)] == [0.0]


def test_an_event_that_measures_nothing() -> None:
    assert list(Measures().of(events.EventsDropped(at=0.0, count=3))) == []


def test_each_event_is_measured_or_traced_or_said_to_be_neither() -> None:
    """A new event gets a measure in telemetry/measures.py, a span in telemetry/spans.py, or a name below."""
    neither = {"EventsDropped", "LinksExpiring"}
    by_sessions = {"SessionOpened", "SessionClosed"}
    measured = {each.__name__ for each in (*Measures.__dict__["of"].dispatcher.registry, *measures.COUNTED)}
    traced = {each.__name__ for each in Spans.__dict__["hear"].dispatcher.registry}
    assert EVENTS - measured - traced - by_sessions == neither


def test_the_oldest_are_forgotten_first_and_told() -> None:
    gone: list[int] = []
    kept: Bounded[str, int] = Bounded(2, gone.append)
    kept["a"], kept["b"], kept["c"] = 1, 2, 3
    assert list(kept) == ["b", "c"]
    assert gone == [1]


def test_names_are_said_once() -> None:
    names = [each.name for each in (*COUNTERS, *HISTOGRAMS, *measures.GAUGES, measures.POLLS)]
    assert len(names) == len(set(names))
    assert set(measures.COUNTED.values()) <= set(LABELS)


@pytest.mark.parametrize("extra", ["opentelemetry", "prometheus"])
def test_a_missing_extra_is_named(extra: str) -> None:
    library = {"opentelemetry": "opentelemetry", "prometheus": "prometheus_client"}[extra]
    name = {"opentelemetry": "OpenTelemetry", "prometheus": "Prometheus"}[extra]
    code = f"import sys; sys.modules['{library}'] = None; from wanasync.telemetry import {name}"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert shown.stderr.strip().endswith(f"ImportError: {name} needs its extra: pip install 'wanasync[{extra}]'")


def test_telemetry_loads_nothing_until_it_is_asked_for() -> None:
    code = "import sys, wanasync.telemetry; print({'opentelemetry', 'prometheus_client', 'aiohttp'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
