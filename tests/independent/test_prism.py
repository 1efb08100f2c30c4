"""Prism, which knows the provider's document and nothing of wanasync: as the provider, and as a judge in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from attrs import define, field

from tests.helpers.background import in_background
from tests.helpers.programs import prism
from wanasync import (
    APIError,
    AuthenticationError,
    BadRequestError,
    PermissionDeniedError,
    SubmissionUnknownError,
    TaskFailedError,
    VideoRequest,
    WanSession,
)
from wanasync.emulator import Emulator, FixedWindow, Trouble

KEY = "wan-emulator-key"
WHOLE_REQUEST = VideoRequest(
    "A cat playing piano", quality="1080p", aspect_ratio="3:4", duration=10, prompt_extend=False,
    callback_url="https://hooks.example.com/wan",
)  # fmt: skip


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prism(tmp_path_factory.mktemp("mock"), "mock") as address:
        yield address


class TestProviderByPrism:
    async def test_a_submission_is_taken_and_its_task_is_read(self, mock: str) -> None:
        async with WanSession(api_key=KEY, base_url=mock) as wan:
            task = await wan.submit(WHOLE_REQUEST)
            assert task.id == "task-unified-1757169743-7cvnl5zw"
            snapshot = await task.refresh()
        # Prism gives the first of the words that a status may be.
        assert (snapshot.status, snapshot.progress) == ("pending", 100)
        assert snapshot.links == ("http://example.com/video.mp4",)

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (400, BadRequestError),
            (401, AuthenticationError),
            (403, PermissionDeniedError),
            (404, BadRequestError),  # of the model; there is no task yet
            (500, SubmissionUnknownError),
            (502, SubmissionUnknownError),
        ],
    )
    async def test_each_documented_refusal_is_the_error_it_should_be(
        self, mock: str, status: int, error: type[Exception]
    ) -> None:
        async with (
            aiohttp.ClientSession(headers={"Prefer": f"code={status}"}) as client,
            WanSession(api_key=KEY, base_url=mock, client_session=client) as wan,
        ):
            with pytest.raises(error) as caught:
                await wan.submit(WHOLE_REQUEST)
        if isinstance(caught.value, APIError):
            assert (caught.value.status, caught.value.code) == (status, status)


@define
class Judge:
    """What Prism says of the requests and replies that pass it, in the header `sl-violations`."""

    address: str
    passed: list[tuple[str, str, int]] = field(factory=list)
    violations: list[str] = field(factory=list)

    def trace(self) -> aiohttp.TraceConfig:
        config = aiohttp.TraceConfig()
        config.on_request_end.append(self._listen)
        return config

    async def _listen(self, _: object, __: object, end: aiohttp.TraceRequestEndParams) -> None:
        if not str(end.url).startswith(self.address):
            return
        path = end.url.path
        self.passed.append((end.method, "/v1/tasks/" if path.startswith("/v1/tasks/") else path, end.response.status))
        for violation in json.loads(end.response.headers.get("sl-violations", "[]")):
            if violation["severity"] == "Error":
                self.violations.append(f"{end.method} {path}: {violation['location']} {violation['message']}")


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with in_background(Emulator(api_key=KEY, durations=0.5, callbacks=False, batch_query=False)) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prism(tmp_path_factory.mktemp("proxy"), "proxy", emulator.base_url) as address:
        yield address


@pytest.fixture
def judge(emulator: Emulator, proxy: str) -> Iterator[Judge]:
    judge = Judge(proxy)
    yield judge
    emulator.trouble, emulator.limiter = Trouble(), None
    assert judge.violations == []


class TestJudgeBetweenSessionAndEmulator:
    async def test_all_of_a_batch_is_valid(self, judge: Judge, tmp_path: Path) -> None:
        requests = [VideoRequest("a"), WHOLE_REQUEST, VideoRequest("c", quality="480p", aspect_ratio="1:1")]
        async with (
            WanSession(api_key=KEY, base_url=judge.address, trace_configs=[judge.trace()]) as wan,
            wan.batch(requests, to=tmp_path) as batch,
        ):
            outcomes = [outcome async for outcome in batch]
        assert [outcome.state for outcome in outcomes] == ["saved"] * 3
        assert judge.passed.count(("POST", "/v1/videos/generations", 200)) == 3
        assert judge.passed.count(("GET", "/v1/tasks/", 200)) >= 3

    async def test_a_failed_task_is_valid(self, emulator: Emulator, judge: Judge, tmp_path: Path) -> None:
        emulator.trouble = Trouble.script(task=["failed=content_policy_violation"])
        async with WanSession(api_key=KEY, base_url=judge.address, trace_configs=[judge.trace()]) as wan:
            with pytest.raises(TaskFailedError):
                await wan.generate("A cat", to=tmp_path / "cat.mp4")

    async def test_refusals_are_valid(self, emulator: Emulator, judge: Judge) -> None:
        async with WanSession(api_key="another-key", base_url=judge.address, trace_configs=[judge.trace()]) as stranger:
            with pytest.raises(AuthenticationError):
                await stranger.submit("A cat")
        emulator.limiter = FixedWindow(0)
        async with WanSession(api_key=KEY, base_url=judge.address, trace_configs=[judge.trace()]) as wan:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await wan.submit("A cat")
        assert {status for _, _, status in judge.passed} == {401, 429}

    async def test_the_judge_sees_what_is_wrong(self, judge: Judge) -> None:
        """So that its silence above means something."""
        async with aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {KEY}"}, trace_configs=[judge.trace()]
        ) as client:
            await client.post(f"{judge.address}/v1/videos/generations", json={"model": "wan2.5-text-to-video"})
        found, judge.violations = judge.violations, []
        assert any("prompt" in violation for violation in found)
