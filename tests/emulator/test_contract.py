"""The provider's document drives schemathesis against the emulator: what it takes, refuses and answers."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi import checks

from tests.helpers.background import in_background
from wanasync.emulator import Emulator, FixedWindow, Trouble

DOCUMENT = schemathesis.openapi.from_path(Path(__file__).parents[1] / "provider" / "openapi.yaml").raw_schema
CLIP = b"\x00\x00\x00\x18ftypisom" + bytes(2000)
SUBMIT, QUERY = "/v1/videos/generations", "/v1/tasks/{task_id}"

modest = settings(
    max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def documented() -> dict[str, Any]:
    """The document, with the one reply that only the public pages of the API family list: 400 for a malformed id."""
    document = copy.deepcopy(DOCUMENT)
    replies = document["paths"][QUERY]["get"]["responses"]
    replies["400"] = copy.deepcopy(document["paths"][SUBMIT]["post"]["responses"]["400"])
    return document


def in_schema() -> dict[str, Any]:
    """The document with its prose as schema, so that all that it generates ought to be accepted."""
    document = documented()
    request = document["components"]["schemas"]["Wan25TextToVideoRequest"]
    fields = request["properties"]
    fields["quality"]["enum"] = ["480p", "720p", "1080p"]
    fields["aspect_ratio"]["enum"] = ["16:9", "9:16", "1:1", "4:3", "3:4"]
    fields["duration"]["enum"] = [5, 10]
    fields["callback_url"] |= {"pattern": r"^https://hooks\.example\.com/[a-z]{1,40}$", "maxLength": 2048}
    for field in ("quality", "aspect_ratio", "duration", "callback_url"):
        fields[field].pop("format", None)
    request["not"] = {
        "required": ["quality", "aspect_ratio"],
        "properties": {"quality": {"const": "480p"}, "aspect_ratio": {"enum": ["4:3", "3:4"]}},
    }
    return document


def loaded(document: dict[str, Any], *modes: GenerationMode) -> Any:
    schema = schemathesis.openapi.from_dict(document, config=SchemathesisConfig())
    schema.config.generation.update(modes=list(modes))
    return schema


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    # No callback is sent to the hosts that schemathesis makes up.
    with in_background(Emulator(clip=CLIP, callbacks=False)) as running:
        yield running


def judge(case: Case[Any], emulator: Emulator, *, excluded: list[Any]) -> None:
    case.call_and_validate(
        base_url=emulator.base_url,
        headers={"Authorization": f"Bearer {emulator.api_key}"},
        excluded_checks=excluded,
        timeout=10,
    )


everything = loaded(documented(), GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


@everything.parametrize()  # type: ignore[untyped-decorator]
@modest
def test_each_reply_is_as_documented_and_wrong_requests_are_refused(case: Case[Any], emulator: Emulator) -> None:
    # The document keeps its allowed values in prose, so its schema alone generates what has to be refused.
    judge(case, emulator, excluded=[checks.positive_data_acceptance])


acceptable = loaded(in_schema(), GenerationMode.POSITIVE)


@acceptable.include(path=SUBMIT).parametrize()  # type: ignore[untyped-decorator]
@modest
def test_what_the_document_allows_is_accepted(case: Case[Any], emulator: Emulator) -> None:
    accepted = len(emulator.tasks)
    if case.method == "POST":
        judge(case, emulator, excluded=[])
        assert len(emulator.tasks) == accepted + 1


REPLY_CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
answers = loaded(documented(), GenerationMode.POSITIVE)
WISH = {"model": "wan2.5-text-to-video", "prompt": "A cat playing piano"}


def submit(emulator: Emulator, key: str | None = None, **changes: Any) -> Any:
    case = answers[SUBMIT]["POST"].Case(body=WISH | changes, media_type="application/json")
    headers = {"Authorization": f"Bearer {key or emulator.api_key}"}
    return case.call_and_validate(base_url=emulator.base_url, headers=headers, timeout=10, checks=REPLY_CHECKS)


def query(emulator: Emulator, task_id: str) -> Any:
    case = answers[QUERY]["GET"].Case(path_parameters={"task_id": task_id})
    headers = {"Authorization": f"Bearer {emulator.api_key}"}
    return case.call_and_validate(base_url=emulator.base_url, headers=headers, timeout=10, checks=REPLY_CHECKS)


def test_a_task_is_as_documented_in_each_of_its_states() -> None:
    trouble = Trouble.script(task=["ok", "failed=content_policy_violation"])
    with in_background(Emulator(clip=CLIP, durations=100, trouble=trouble)) as emulator:
        ids = [submit(emulator).json()["id"] for _ in range(2)]
        seen = []
        for pause in (0, 50, 60):
            emulator.advance(pause)
            seen += [query(emulator, task_id).json()["status"] for task_id in ids]
        assert seen == ["pending", "pending", "processing", "processing", "completed", "failed"]


@pytest.mark.parametrize("status", [500, 502, 503])
def test_documented_failures_are_as_documented(status: int) -> None:
    with in_background(Emulator(clip=CLIP, trouble=Trouble.script(submit=[f"http_{status}"]))) as emulator:
        reply = submit(emulator)
        assert (reply.status_code, reply.json()) == (status, documented_example(status))


def documented_example(status: int) -> Any:
    return DOCUMENT["paths"][SUBMIT]["post"]["responses"][str(status)]["content"]["application/json"]["example"]


def test_the_documents_own_examples_of_refusals_are_what_is_answered() -> None:
    with in_background(
        Emulator(clip=CLIP, no_access=["wan2.5-text-to-video"], hint=60, limiter=FixedWindow(0))
    ) as emulator:
        unauthorized = submit(emulator, key="another")
        assert (unauthorized.status_code, unauthorized.json()) == (401, documented_example(401))
        forbidden = submit(emulator)
        assert (forbidden.status_code, forbidden.json()) == (403, documented_example(403))
        unknown = submit(emulator, model="wan9")
        assert (unknown.status_code, unknown.json()) == (404, documented_example(404))
        emulator.no_access = ()
        throttled = submit(emulator)
        assert (throttled.status_code, throttled.json()) == (429, documented_example(429))
