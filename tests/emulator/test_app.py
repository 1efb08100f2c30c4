from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.emulator.making import BODY
from wanasync.emulator import Emulator, FixedWindow
from wanasync.testing import virtual_time

KEY = "item-0000000000000001"


@asynccontextmanager
async def client(emulator: Emulator) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {emulator.api_key}"}
    async with aiohttp.ClientSession(emulator.base_url + "/", headers=headers) as session:
        yield session


async def call(emulator: Emulator, method: str, path: str, **more: Any) -> tuple[int, Any, Any]:
    """Status, JSON, headers."""
    async with client(emulator) as session, session.request(method, path, **more) as reply:
        return reply.status, await reply.json(), reply.headers


async def test_all_endpoints_answer_under_the_base_path() -> None:
    async with Emulator(durations=0) as emulator:
        status, task, _ = await call(emulator, "POST", "v1/videos/generations", json=BODY)
        assert status == 200
        for method, path, more in (
            ("GET", f"v1/tasks/{task['id']}", {}),
            ("POST", "v1/tasks/batch", {"json": {"task_ids": [task["id"]]}}),
            ("GET", "v1/tasks", {}),
            ("GET", "v1/credits", {}),
        ):
            status, body, _ = await call(emulator, method, path, **more)
            assert status == 200, (path, body)
        assert dict(emulator.ledger.counts) == {"submit": 1, "query": 1, "batch": 1, "list": 1, "credits": 1}


async def test_a_client_that_drops_the_base_path_finds_nothing() -> None:
    async with Emulator() as emulator:
        origin = emulator.base_url.removesuffix("/apiv1")
        status, body, _ = await call(emulator, "GET", f"{origin}/v1/credits")
        assert (status, body["error"]["code"]) == (404, 404)


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer wrong", "Basic wan-emulator-key", "wan-emulator-key", "Bearer schlüssel"]
)
async def test_each_endpoint_wants_the_key(authorization: str) -> None:
    async with Emulator() as emulator:
        for method, path in (
            ("POST", "v1/videos/generations"),
            ("GET", "v1/tasks/task-unified-1-x"),
            ("POST", "v1/tasks/batch"),
            ("GET", "v1/tasks"),
            ("GET", "v1/credits"),
        ):
            status, body, _ = await call(emulator, method, path, headers={"Authorization": authorization})
            assert (status, body["error"]["type"]) == (401, "authentication_error")
        assert len(emulator.tasks) == 0


async def test_the_newer_generation_speaks_in_words() -> None:
    async with Emulator(errors="string") as emulator:
        _, body, _ = await call(emulator, "GET", "v1/tasks/x")
        assert body["error"]["code"] == "invalid_task_id"


async def test_endpoints_may_be_missing() -> None:
    async with Emulator(batch_query=False, task_list=False) as emulator:
        status, _, headers = await call(emulator, "POST", "v1/tasks/batch", json={"task_ids": ["x"]})
        assert (status, headers["Allow"]) == (405, "GET")
        status, _, _ = await call(emulator, "GET", "v1/tasks")
        assert status == 404


async def test_a_body_must_be_json_in_name_and_in_fact_and_not_too_large() -> None:
    async with Emulator() as emulator:
        path = "v1/videos/generations"
        status, _, _ = await call(emulator, "POST", path, data={"prompt": "cat"})
        assert status == 400
        status, _, _ = await call(emulator, "POST", path, data=b"{", headers={"Content-Type": "application/json"})
        assert status == 400
        large = io.BytesIO(json.dumps(BODY | {"extra": "x" * 2_000_000}).encode())
        status, body, _ = await call(emulator, "POST", path, data=large, headers={"Content-Type": "application/json"})
        assert (status, body["error"]["type"]) == (413, "request_too_large_error")


async def test_a_429_carries_its_header() -> None:
    async with Emulator(limiter=FixedWindow(0), hint="both") as emulator:
        status, body, headers = await call(emulator, "POST", "v1/videos/generations", json=BODY)
        assert (status, headers["Retry-After"], body["error"]["fallback_suggestion"]) == (
            429,
            "60",
            "retry after 60 seconds",
        )
        assert emulator.ledger.refused == {"submit": 1}


async def test_a_replay_is_marked() -> None:
    async with Emulator() as emulator:
        headers = {"Idempotency-Key": KEY}
        _, first, plain = await call(emulator, "POST", "v1/videos/generations", json=BODY, headers=headers)
        _, again, marked = await call(emulator, "POST", "v1/videos/generations", json=BODY, headers=headers)
        assert "idempotency-replayed" not in plain
        assert marked["idempotency-replayed"] == "true"
        assert again["id"] == first["id"]
        assert emulator.ledger.replays == 1


@virtual_time
async def test_the_same_key_meanwhile_has_an_unknown_outcome() -> None:
    async with Emulator(latency=5.0) as emulator:
        headers = {"Idempotency-Key": KEY}
        first = asyncio.create_task(call(emulator, "POST", "v1/videos/generations", json=BODY, headers=headers))
        await asyncio.sleep(1)
        status, body, _ = await call(emulator, "POST", "v1/videos/generations", json=BODY, headers=headers)
        assert (status, body["error"]["code"]) == (409, "paid_outcome_unknown")
        assert (await first)[0] == 200


@virtual_time
async def test_a_client_that_leaves_has_bought_all_the_same() -> None:
    async with Emulator(latency=5.0) as emulator:
        caller = asyncio.create_task(call(emulator, "POST", "v1/videos/generations", json=BODY))
        await asyncio.sleep(1)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await asyncio.sleep(10)
        assert len(emulator.ledger.entries) == 1


async def test_a_task_takes_its_time() -> None:
    async with Emulator(durations=100) as emulator:
        _, task, _ = await call(emulator, "POST", "v1/videos/generations", json=BODY)
        seen = []
        for _ in range(3):
            _, body, _ = await call(emulator, "GET", f"v1/tasks/{task['id']}")
            seen.append(body["status"])
            emulator.advance(50)
        assert seen == ["pending", "processing", "completed"]
