"""Traces and metrics as OpenTelemetry's own SDK has them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric, MetricsData
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span, StatusCode

from tests.helpers.emulated import emulated, session_on
from wanasync import APIError, DownloadError, SubmissionUnknownError, TaskTimeoutError, VideoRequest
from wanasync.emulator import FixedWindow, Trouble
from wanasync.telemetry import OpenTelemetry
from wanasync.testing import virtual_time


class Begun(SpanProcessor):
    """Counts the spans that were begun."""

    count = 0

    def on_start(self, span: object, parent_context: object = None) -> None:
        self.count += 1


class Traced:
    """A tracer and meter of the SDK, and the listener that uses them."""

    def __init__(self, *, record_prompts: bool = False) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.begun = Begun()
        provider.add_span_processor(self.begun)
        self.tracer = provider.get_tracer("a user's own")
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.listener = OpenTelemetry(
            tracer_provider=provider, meter_provider=self.meters, record_prompts=record_prompts
        )

    def spans(self, name: str = "") -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if name in ("", span.name)]

    def span(self, name: str) -> ReadableSpan:
        (found,) = self.spans(name)
        return found

    def under(self, parent: ReadableSpan | Span) -> set[str]:
        return {span.name for span in self.children(parent)}

    def children(self, parent: ReadableSpan | Span, name: str = "") -> list[ReadableSpan]:
        wanted = parent.get_span_context()
        assert wanted is not None
        return [span for span in self.spans(name) if span.parent and span.parent.span_id == wanted.span_id]

    def metrics(self) -> dict[str, list[dict[str, object]]]:
        data = self.reader.get_metrics_data()
        assert isinstance(data, MetricsData)
        return {metric.name: list(_points(metric)) for metric in _all(data)}

    def close(self) -> None:
        self.meters.shutdown()
        assert len(self.spans()) == self.begun.count, "spans are left open"


def _all(data: MetricsData) -> Iterator[Metric]:
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            yield from scope.metrics


def _points(metric: Metric) -> Iterator[dict[str, object]]:
    for point in metric.data.data_points:
        yield {"attributes": dict(point.attributes or {}), "sum": getattr(point, "sum", getattr(point, "value", None))}


@pytest.fixture
def traced() -> Iterator[Traced]:
    made = Traced()
    yield made
    made.close()


STEPS = {"wanasync.submit", "wanasync.wait", "wanasync.save"}


@virtual_time
async def test_a_call_of_generate_is_one_trace_under_its_callers(traced: Traced, tmp_path: Path) -> None:
    async with emulated(session={"on_event": traced.listener}) as (_, wan):
        with traced.tracer.start_as_current_span("request") as request:
            video = await wan.generate(VideoRequest("A secret cat", quality="480p"), to=tmp_path / "cat.mp4")
    generate = traced.span("wanasync.generate")
    assert traced.under(request) == {"wanasync.generate"}
    assert traced.under(generate) == STEPS
    assert generate.attributes is not None
    assert generate.attributes["wanasync.request.quality"] == "480p"
    assert generate.attributes["wanasync.task.id"] == video.task_id
    save, wait = traced.span("wanasync.save"), traced.span("wanasync.wait")
    assert save.attributes is not None
    assert save.attributes["file.size"] == video.bytes
    assert wait.start_time is not None
    assert wait.end_time is not None
    assert wait.end_time - wait.start_time > 30e9
    assert all(span.status.status_code is not StatusCode.ERROR for span in traced.spans())
    assert "secret" not in "".join(span.to_json() for span in traced.spans())


@virtual_time
async def test_requests_side_by_side_keep_their_own_parents(traced: Traced, tmp_path: Path) -> None:
    parents: list[Span] = []

    async def request(number: int) -> None:
        with traced.tracer.start_as_current_span(f"request {number}") as span:
            parents.append(span)
            await wan.generate(f"Cat {number}", to=tmp_path / f"{number}.mp4")

    async with emulated(limiter=FixedWindow(2, per=60), session={"on_event": traced.listener}) as (_, wan):
        await asyncio.gather(*map(request, range(6)))
    for parent in parents:
        assert traced.under(parent) == {"wanasync.generate"}
    wholes = traced.spans("wanasync.generate")
    assert all(traced.under(whole) - {"wanasync.gate"} == STEPS for whole in wholes)
    assert len(traced.spans("wanasync.gate")) >= 4


@virtual_time
async def test_items_of_a_batch_with_all_their_tries(traced: Traced, tmp_path: Path) -> None:
    trouble = Trouble.script(task=["failed"], submit=["ok", "http_400"])
    async with emulated(trouble=trouble, session={"on_event": traced.listener}) as (_, wan):
        with traced.tracer.start_as_current_span("job") as job:
            async with wan.batch(["again", "refused", "well"], tmp_path, retry_failed=1) as batch:
                told = {outcome.id: outcome async for outcome in batch}
    assert traced.under(job) == {"wanasync.item"}
    items = traced.spans("wanasync.item")
    assert {item.attributes["wanasync.item.id"] for item in items if item.attributes} == set(told)
    states = {item.attributes["wanasync.item.state"]: item for item in items if item.attributes}
    assert set(states) == {"saved", "rejected"}
    assert states["rejected"].status.status_code is StatusCode.ERROR
    (tried,) = [item for item in items if any(event.name == "retried" for event in item.events)]
    assert len(traced.children(tried, "wanasync.submit")) == 2
    assert traced.under(tried) - {"wanasync.gate"} == STEPS


@virtual_time
async def test_steps_by_hand_stand_under_their_own_callers_and_are_linked(traced: Traced, tmp_path: Path) -> None:
    async with emulated(session={"on_event": traced.listener}) as (_, wan):
        with traced.tracer.start_as_current_span("post") as post:
            task = await wan.submit("A cat")
        with traced.tracer.start_as_current_span("get") as get:
            await task.save(tmp_path / "cat.mp4")
    assert traced.under(post) == {"wanasync.submit"}
    assert traced.under(get) == {"wanasync.wait", "wanasync.save"}
    submit = traced.span("wanasync.submit").context
    assert [link.context.span_id for link in traced.span("wanasync.save").links] == [submit.span_id]


@virtual_time
async def test_one_task_may_be_saved_twice_at_once(traced: Traced, tmp_path: Path) -> None:
    async with emulated(trouble=Trouble.script(download=["expired"]), session={"on_event": traced.listener}) as (
        _,
        wan,
    ):
        task = await wan.submit("A cat")
        await asyncio.gather(*(task.save(tmp_path / f"{number}.mp4") for number in range(2)))
    saves = traced.spans("wanasync.save")
    assert len(saves) == 2
    assert len(traced.spans("wanasync.wait")) == 1
    assert [event.name for save in saves for event in save.events] == ["link renewed"]


@virtual_time
async def test_errors_are_told_and_links_are_not(traced: Traced, tmp_path: Path) -> None:
    options = {"on_event": traced.listener, "download_attempts": 2}
    trouble = Trouble.script(submit=["http_400", "lost_reply", "ok"], task=["ok", "ok", "stuck"])
    async with emulated(trouble=trouble | Trouble(http_500_downloads=1.0), session=options) as (emu, wan):
        with pytest.raises(APIError):
            await wan.submit("refused")
        with pytest.raises(SubmissionUnknownError):
            await wan.submit("lost")
        with pytest.raises(DownloadError):
            await wan.generate("not saved", to=tmp_path / "a.mp4")
        with pytest.raises(TaskTimeoutError):
            await wan.generate("stuck", to=tmp_path / "b.mp4", timeout=60, count_queue=True)
    failed = [span for span in traced.spans() if span.status.status_code is StatusCode.ERROR]
    kinds = [(span.name, span.attributes["error.type"]) for span in failed if span.attributes]
    assert ("wanasync.submit", "unknown") in kinds
    assert ("wanasync.save", "DownloadError") in kinds
    assert ("wanasync.generate", "DownloadError") in kinds
    assert ("wanasync.generate", "TaskTimeoutError") in kinds
    assert len(kinds) == 5
    whole = "".join(span.to_json() for span in traced.spans())
    assert "Signature=" not in whole
    assert emu.api_key not in whole


@virtual_time
async def test_a_run_that_goes_on_with_an_earlier_ones_task(traced: Traced, tmp_path: Path) -> None:
    async with emulated() as (emu, wan):
        async with wan.batch(["a cat"], tmp_path):
            await asyncio.sleep(10)
        async with session_on(emu, on_event=traced.listener) as again, again.batch(["a cat"], tmp_path) as batch:
            assert len([outcome async for outcome in batch]) == 1
    assert traced.under(traced.span("wanasync.item")) == STEPS - {"wanasync.submit"}


@virtual_time
async def test_prompts_where_they_are_asked_for(tmp_path: Path) -> None:
    traced = Traced(record_prompts=True)
    async with emulated(session={"on_event": traced.listener}) as (_, wan):
        await wan.submit("A cat")
    attributes = traced.span("wanasync.submit").attributes
    assert attributes is not None
    assert attributes["wanasync.request.prompt"] == "A cat"
    traced.close()


@virtual_time
async def test_metrics_with_names_and_units(traced: Traced, tmp_path: Path) -> None:
    async with emulated(session={"on_event": traced.listener}) as (_, wan):
        video = await wan.generate("A cat", to=tmp_path / "cat.mp4")
        figures = traced.metrics()
        polls = wan.statistics().poller.polls
    assert figures["wanasync.submissions"] == [{"attributes": {"outcome": "accepted"}, "sum": 1.0}]
    assert figures["wanasync.save.bytes"][0]["sum"] == video.bytes
    assert figures["wanasync.polls"][0]["sum"] == polls
    assert figures["wanasync.sessions"][0]["sum"] == 1
    (waited,) = figures["wanasync.wait.duration"]
    assert waited["attributes"] == {"status": "completed"}
    assert isinstance(waited["sum"], float)
    assert waited["sum"] > 30


def test_without_providers_it_costs_little_and_breaks_nothing() -> None:
    from wanasync.events import GatePaused

    OpenTelemetry()(GatePaused(at=0.0, seconds=1.0, why="so"))
