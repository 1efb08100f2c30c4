"""Each fault of the API lanes, as a client sees it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from attrs import frozen

from tests.emulator.making import BODY
from tests.emulator.test_app import call, client
from wanasync.emulator import FAULTS, Emulator, Trouble
from wanasync.testing import virtual_time


@frozen
class Seen:
    """What came of one submission: a status and body or the client's error, and whether it was paid."""

    paid: bool
    status: int | None = None
    body: bytes = b""
    kind: str = ""
    error: str | None = None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def submit(fault: str, **options: Any) -> Seen:
    async with Emulator(trouble=Trouble.script(submit=[fault]), **options) as emulator, client(emulator) as session:
        try:
            async with session.post("v1/videos/generations", json=BODY) as reply:
                body = await reply.read()
        except aiohttp.ClientError as error:
            return Seen(bool(emulator.ledger.entries), error=type(error).__name__)
        return Seen(bool(emulator.ledger.entries), reply.status, body, reply.content_type)


@pytest.mark.parametrize(("fault", "error"), [("reset", "ClientOSError"), ("hangup", "ServerDisconnectedError")])
async def test_a_connection_may_end_without_a_reply_before_or_after(fault: str, error: str) -> None:
    assert await submit(fault) == Seen(paid=False, error=error)
    assert await submit(f"processed:{fault}") == Seen(paid=True, error=error)


async def test_a_lost_reply_was_paid_for() -> None:
    assert (await submit("lost_reply")).paid


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 524])
async def test_a_proxy_may_speak_html_before_or_after(status: int) -> None:
    for prefix, paid in (("", False), ("processed:", True)):
        seen = await submit(f"{prefix}html_{status}")
        assert (seen.paid, seen.status, seen.kind) == (paid, status, "text/html")
        assert b"<html>" in seen.body


@pytest.mark.parametrize(
    ("status", "type_"), [(500, "internal_server_error"), (503, "service_unavailable_error"), (504, "upstream_error")]
)
async def test_a_failure_may_be_json(status: int, type_: str) -> None:
    seen = await submit(f"http_{status}")
    assert (seen.paid, seen.status, seen.json["error"]["type"]) == (False, status, type_)


async def test_a_missing_model_is_another_404_than_a_missing_task() -> None:
    assert (await submit("http_404")).json["error"]["message"] == "Specified model not found"
    async with Emulator(trouble=Trouble.script(query=["http_404"])) as emulator:
        _, body, _ = await call(emulator, "GET", "v1/tasks/task-unified-1-x")
        assert body["error"]["message"] == "Task not found or expired"


async def test_a_reply_may_be_empty() -> None:
    assert await submit("empty_503") == Seen(False, 503, b"", "application/octet-stream")
    assert await submit("empty_200") == Seen(True, 200, b"", "application/json")


async def test_a_reply_may_be_cut_by_the_connection_or_in_its_text() -> None:
    assert await submit("cut_reply") == Seen(paid=True, error="ClientPayloadError")
    truncated = await submit("truncated_json")
    assert (truncated.paid, truncated.status) == (True, 200)
    with pytest.raises(ValueError, match="line 1"):
        _ = truncated.json


async def test_a_reply_may_be_a_page_or_a_list() -> None:
    assert (await submit("html_200")).kind == "text/html"
    assert (await submit("not_an_object")).json == ["ok"]


async def test_a_reply_may_lack_its_id() -> None:
    seen = await submit("without_id")
    assert (seen.paid, "id" in seen.json, seen.json["status"]) == (True, False, "pending")


async def test_a_reply_may_have_the_wrong_types_throughout() -> None:
    body = (await submit("wrong_types")).json
    assert isinstance(body["id"], int)
    assert isinstance(body["progress"], str)
    assert isinstance(body["task_info"], list)


async def test_a_refusal_may_hide_in_a_success() -> None:
    seen = await submit("success_false=system busy")
    assert (seen.paid, seen.status, seen.json) == (False, 200, {"success": False, "code": 500, "msg": "system busy"})


async def test_a_429_may_come_out_of_the_blue() -> None:
    seen = await submit("throttled=7")
    assert (seen.paid, seen.status) == (False, 429)
    assert seen.json["error"]["fallback_suggestion"] == "retry after 7 seconds"


@virtual_time
async def test_a_reply_may_be_late() -> None:
    loop = asyncio.get_running_loop()
    for fault, low in (("slow=30", 30), ("hang=10", 10)):
        began = loop.time()
        await submit(fault)
        assert low <= loop.time() - began < low + 2


@virtual_time
async def test_a_slow_reply_follows_the_fast_clock() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await submit("slow=60", speed=60.0)
    assert 1 <= loop.time() - began < 2


async def test_a_refusal_is_not_made_a_success_by_trouble() -> None:
    assert (await submit("empty_200", credit=0)).status == 402
    assert (await submit("lost_reply", credit=0)).paid is False


@pytest.mark.parametrize("lane", ["query", "batch", "list", "credits"])
@pytest.mark.parametrize("fault", sorted(set(FAULTS["query"]) - {"hang", "slow"}))
async def test_no_fault_breaks_the_emulator_itself(lane: str, fault: str) -> None:
    """After the fault the next request of the lane is served as if nothing had been."""
    requests: dict[str, tuple[str, str, dict[str, Any]]] = {
        "query": ("GET", "v1/tasks/task-unified-1-x", {}),
        "batch": ("POST", "v1/tasks/batch", {"json": {"task_ids": ["x"]}}),
        "list": ("GET", "v1/tasks", {}),
        "credits": ("GET", "v1/credits", {}),
    }
    method, path, more = requests[lane]
    async with Emulator(trouble=Trouble.script(**{lane: [fault]})) as emulator:
        for expected in (None, 404 if lane == "query" else 200):
            async with client(emulator) as session:
                try:
                    async with session.request(method, path, **more) as reply:
                        await reply.read()
                except aiohttp.ClientError:
                    assert expected is None
                else:
                    assert expected in (None, reply.status)
        first, *others = emulator.ledger.notes
        assert first.fault is not None
        # Perhaps several: aiohttp's client repeats a GET by itself when the connection breaks.
        assert {note.fault for note in others} == {None}
        assert all(note.status != 500 for note in emulator.ledger.notes)
