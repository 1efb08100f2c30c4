from __future__ import annotations

import json
import math
import pickle
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.samples import load
from wanasync.errors import RequestValidationError, ResponseFormatError
from wanasync.models import Credits, JSONObject, TaskFailure, TaskSnapshot, TaskStatus, VideoRequest
from wanasync.rules import wire

TASK = {"id": "task-1", "status": "processing"}
LINK = "https://files.example/v.mp4"

FIELDS = {attribute.name for attribute in attrs.fields(VideoRequest)}

short = st.text(max_size=8)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | short
json_values = leaves | st.lists(leaves, max_size=3) | st.dictionaries(short, leaves | st.lists(leaves), max_size=3)
field_names = st.sampled_from(
    [
        "id",
        "task_id",
        "status",
        "progress",
        "results",
        "result_data",
        "output",
        "data",
        "video_url",
        "error",
        "model",
        "created",
        "created_at",
        "duration",
        "usage",
        "task_info",
        "credits_used",
        "object",
        "type",
        "anything",
    ]
)
inner_names = st.sampled_from(
    [
        "id",
        "status",
        "code",
        "message",
        "type",
        "url",
        "video_url",
        "credits_used",
        "credits_reserved",
        "cost",
        "credits",
        "estimated_time",
        "user",
        "token",
        "remaining_credits",
        "used_credits",
        "unlimited_credits",
    ]
)
inner_like = st.dictionaries(inner_names, json_values, max_size=3)
task_like = st.dictionaries(
    field_names, json_values | inner_like | st.dictionaries(inner_names, inner_like, max_size=2), max_size=6
)


def snapshot(**fields: Any) -> TaskSnapshot:
    return wire.task_snapshot({**TASK, **fields})


def wrong(**fields: Any) -> str:
    with pytest.raises(ResponseFormatError) as caught:
        snapshot(**fields)
    return caught.value.reason


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


# Samples


def test_a_submission_s_reply() -> None:
    task = wire.task_snapshot(load("submit_accepted")["body"])
    assert task == TaskSnapshot(
        id="task-unified-1762000001-a1b2c3d4",
        status=TaskStatus.PENDING,
        progress=0,
        model="wan2.5-text-to-video",
        created=1762000001.0,
        estimated_time=120.0,
        credits_reserved=5.0,
        said_status="pending",
        extra=JSONObject(
            {
                "object": "video.generation.task",
                "type": "video",
                "task_info": {"can_cancel": True, "video_duration": 5},
                "usage": {"billing_rule": "per_second", "user_group": "default"},
            }
        ),
    )


def test_an_older_submission_s_reply_has_one_figure_more() -> None:
    task = wire.task_snapshot(load("submit_accepted_older")["body"])
    assert task.credits_reserved == 252
    assert task.extra["usage"]["estimated_cost"] == 0.252


def test_a_completed_task() -> None:
    task = wire.task_snapshot(load("task_completed")["body"])
    assert (task.status, task.progress) == (TaskStatus.COMPLETED, 100)
    assert task.links == ("http://files.example/picture.jpg",)
    assert "results" not in task.extra


def test_a_completed_task_as_recorded() -> None:
    task = wire.task_snapshot(load("task_completed_recorded")["body"])
    assert task.links == ("https://files.example/clip.mp4",)
    assert (task.task_seconds, task.credits_used, task.credits_reserved) == (206, 13.5, None)
    assert task.extra["usage"] == {"cost": {"credits": 13.5, "usd": 0.199, "cny": 1.35}}


def test_a_failed_task() -> None:
    task = wire.task_snapshot(load("task_failed")["body"])
    assert task.status is TaskStatus.FAILED
    assert task.failure == TaskFailure(
        "content_policy_violation", "Refused by the content policy. A safety filter stopped it."
    )


def test_a_failed_task_with_a_code_nobody_listed() -> None:
    task = wire.task_snapshot(load("task_failed_unlisted_code")["body"])
    assert task.failure is not None
    assert (task.failure.code, task.failure.type) == ("video_probe_failed", "task_error")


def test_a_failed_task_that_says_no_reason() -> None:
    assert wire.task_snapshot(load("task_failed_without_error")["body"]).failure == TaskFailure()
    assert snapshot(status="failed", error=None).failure == TaskFailure()
    assert snapshot(status="failed", error={}).failure == TaskFailure()


def test_a_completed_task_whose_results_come_later() -> None:
    sample = load("task_completed_without_results")
    first, later = wire.task_snapshot(sample["first"]), wire.task_snapshot(sample["later"])
    assert (first.status, first.progress, first.links, first.failure) == (TaskStatus.COMPLETED, 50, (), None)
    assert later.links == ("https://files.example/out.png",)
    assert later.extra["results"] == ({"url": "https://files.example/out.png", "content_type": "image/png"},)


@pytest.mark.parametrize("shape", load("result_shapes")["shapes"], ids=json.dumps)
def test_every_known_shape_of_results_is_read(shape: dict[str, Any]) -> None:
    assert snapshot(status="completed", **shape).links == (LINK,)


def test_what_is_not_modelled_is_kept() -> None:
    assert wire.task_snapshot(load("billing")["body"]).extra["billing"]["refunded_credits"] == 13.5


def test_a_task_in_a_list_has_flat_credits_and_created_at() -> None:
    task = wire.task_snapshot(load("task_list")["body"]["data"][0])
    assert (task.created, task.credits_used, task.extra["has_results"]) == (1763000009, 13.5, True)


def test_the_balance() -> None:
    assert wire.credits(load("credits")["body"]) == Credits(remaining=1024.75, used=512.5)


# Fields of a task


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("pending", TaskStatus.PENDING),
        ("queued", TaskStatus.PENDING),
        ("QUEUED", TaskStatus.PENDING),
        ("processing", TaskStatus.PROCESSING),
        ("Running", TaskStatus.PROCESSING),
        ("in progress", TaskStatus.PROCESSING),
        ("IN-PROGRESS", TaskStatus.PROCESSING),
        ("completed", TaskStatus.COMPLETED),
        ("succeeded", TaskStatus.COMPLETED),
        (" SUCCESS ", TaskStatus.COMPLETED),
        ("failed", TaskStatus.FAILED),
        ("Error", TaskStatus.FAILED),
        ("cancelled", TaskStatus.CANCELLED),
        ("canceled", TaskStatus.CANCELLED),
        ("archived", TaskStatus.UNKNOWN),
        ("", TaskStatus.UNKNOWN),
        ("ｃompleted", TaskStatus.UNKNOWN),
    ],
)
def test_statuses_of_all_hosts_are_known_and_others_are_unknown(said: str, status: TaskStatus) -> None:
    task = snapshot(status=said)
    assert (task.status, task.said_status) == (status, said.strip())


@pytest.mark.parametrize(
    ("said", "progress"), [(0, 0), (100, 100), (45.7, 45), (-5, 0), (250, 100), (10**400, 100), (None, None)]
)
def test_progress_is_a_percentage_whatever_is_said(said: object, progress: int | None) -> None:
    assert snapshot(progress=said).progress == progress


@pytest.mark.parametrize("error", ["it broke", {"message": "it broke"}, {"message": "it\nbroke", "code": None}])
def test_a_failure_s_reason_is_read_from_text_or_object(error: object) -> None:
    assert snapshot(status="failed", error=error).failure == TaskFailure(message="it broke")


def test_an_integer_code_of_a_failure_is_read_as_text() -> None:
    assert snapshot(status="failed", error={"code": 500, "message": "x"}).failure == TaskFailure("500", "x")


@pytest.mark.parametrize(
    ("results", "links"),
    [
        ([LINK, LINK], (LINK,)),
        ([LINK, None, ""], (LINK,)),
        ([[LINK]], (LINK,)),
        (LINK, (LINK,)),
        ({"videos": [{"url": LINK}, {"url": f"{LINK}?2"}]}, (LINK, f"{LINK}?2")),
        ({"url": LINK, "video_url": f"{LINK}?2", "thumbnail_url": "https://files.example/t.jpg"}, (LINK,)),
        ([], ()),
        (None, ()),
        ("", ()),
    ],
)
def test_links_are_taken_from_nested_results(results: object, links: tuple[str, ...]) -> None:
    assert snapshot(status="completed", results=results).links == links


def test_the_first_field_with_links_counts() -> None:
    assert snapshot(results=None, result_data=[{"url": LINK}], video_url="https://other.example/v").links == (LINK,)


def test_a_task_wrapped_in_an_envelope_is_found() -> None:
    assert wire.task_snapshot({"code": 200, "data": {"task_id": "task-2", "status": "queued"}}).id == "task-2"


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"id": None}, "$.id: "),
        ({"id": 5}, "$.id: "),
        ({"id": ""}, "$.id: "),
        ({"id": "two words"}, "$.id: "),
        ({"id": ".."}, "$.id: "),
        ({"id": "a" * 257}, "$.id: "),
        ({"id": "\x1b[31m"}, "$.id: "),
        ({"status": None}, "$.status: text expected, not null"),
        ({"status": True}, "$.status: text expected, not a boolean"),
        ({"status": ["completed"]}, "$.status: text expected, not an array"),
        ({"progress": True}, "$.progress: a number expected, not a boolean"),
        ({"progress": "50"}, "$.progress: a number expected, not text"),
        ({"progress": {}}, "$.progress: a number expected, not an object"),
        ({"results": 5}, "$.results: "),
        ({"results": ["not a link"]}, "$.results: "),
        ({"results": [5]}, "$.results: "),
        ({"results": ["ftp://files.example/v"]}, "$.results: "),
        ({"error": 5}, "$.error: "),
        ({"error": ["x"]}, "$.error: "),
        ({"error": {"code": True}}, "$.error.code: "),
        ({"error": {"message": {}}}, "$.error.message: "),
        ({"model": 5}, "$.model: text expected, not a number"),
        ({"created": "yesterday"}, "$.created: "),
        ({"created": True}, "$.created: "),
        ({"created": -1}, "$.created: "),
        ({"created": 10**400}, "$.created: "),
        ({"duration": "206"}, "$.duration: "),
        ({"task_info": []}, "$.task_info: an object expected, not an array"),
        ({"task_info": {"estimated_time": "soon"}}, "$.task_info.estimated_time: "),
        ({"task_info": {"estimated_time": -5}}, "$.task_info.estimated_time: "),
        ({"usage": "free"}, "$.usage: "),
        ({"usage": {"credits_reserved": "5"}}, "$.usage.credits_reserved: "),
        ({"usage": {"credits_used": True}}, "$.usage.credits_used: "),
        ({"usage": {"cost": 5}}, "$.usage.cost: "),
        ({"usage": {"cost": {"credits": []}}}, "$.usage.cost.credits: "),
        ({"credits_used": "13"}, "$.credits_used: "),
        ({"anything": nested(30)}, "$.anything: is nested too deeply"),
    ],
)
def test_a_wrong_type_is_named_with_its_place(fields: dict[str, Any], place: str) -> None:
    assert wrong(**fields).startswith(place)


@pytest.mark.parametrize("body", [None, [], "text", 5, True, [TASK]])
def test_what_is_no_object_is_no_task(body: object) -> None:
    for read in (wire.task_snapshot, wire.salvaged_snapshot):
        with pytest.raises(ResponseFormatError, match=r"\$: an object expected"):
            read(body)


def test_snapshots_pickle_and_can_be_written_as_json() -> None:
    task = snapshot(anything={"a": [{"b": 1}]}, results=[{"url": LINK, "size": 5}])
    assert pickle.loads(pickle.dumps(task)) == task  # noqa: S301
    assert json.loads(json.dumps(task.extra)) == {"anything": {"a": [{"b": 1}]}, "results": [{"url": LINK, "size": 5}]}


@given(json_values | task_like | task_like.map(lambda fields: {**TASK, **fields}))
def test_any_json_is_a_snapshot_or_a_format_error(body: object) -> None:
    for read in (wire.task_snapshot, wire.salvaged_snapshot):
        try:
            task = read(body)
        except ResponseFormatError as error:
            place = error.reason
            assert place.startswith("$")
        else:
            assert task.progress is None or 0 <= task.progress <= 100
            hash(task)


@given(task_like)
def test_a_usable_id_is_always_salvaged_with_all_that_can_be_read(fields: dict[str, Any]) -> None:
    body = {**fields, "id": "task-1"}
    task = wire.salvaged_snapshot(body)
    assert task.id == "task-1"
    try:
        strict = wire.task_snapshot(body)
    except ResponseFormatError:
        return
    assert task == strict


def test_what_is_malformed_is_moved_aside() -> None:
    task = wire.salvaged_snapshot(
        {"id": "t", "status": 5, "progress": "?", "usage": [1], "model": "m", "x": nested(30)}
    )
    assert task == TaskSnapshot(
        "t", TaskStatus.UNKNOWN, model="m", extra=JSONObject({"status": 5, "progress": "?", "usage": [1]})
    )


# Credits


@pytest.mark.parametrize(
    ("data", "balance"),
    [
        ({"user": {"remaining_credits": 5, "used_credits": 1}}, Credits(5, 1)),
        ({"token": {"remaining_credits": 5, "used_credits": 1}}, Credits(5, 1)),
        ({"user": {"remaining_credits": 9}, "token": {"remaining_credits": 5}}, Credits(5)),
        ({"user": {"remaining_credits": 9}, "token": {"unlimited_credits": True}}, Credits(9)),
        (
            {"user": {"x": 1}, "token": {"unlimited_credits": True, "remaining_credits": 0}},
            Credits(None, unlimited=True),
        ),
        ({"user": {"remaining_credits": 0}}, Credits(0)),
    ],
)
def test_the_balance_is_the_tightest_that_is_told(data: object, balance: Credits) -> None:
    assert wire.credits({"success": True, "data": data}) == balance


@pytest.mark.parametrize(
    "body",
    [None, [], {}, {"data": None}, {"data": []}, {"data": {"user": 5}}, {"data": {"user": {"remaining_credits": "5"}}}],
)
def test_a_balance_that_can_t_be_read_is_a_format_error(body: object) -> None:
    with pytest.raises(ResponseFormatError, match=r"\$"):
        wire.credits(body)


@given(json_values | st.fixed_dictionaries({"data": st.dictionaries(inner_names, json_values | task_like)}))
def test_any_json_is_a_balance_or_a_format_error(body: object) -> None:
    try:
        balance = wire.credits(body)
    except ResponseFormatError:
        return
    assert balance.remaining is None or balance.remaining >= 0


# JSON


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"<!doctype html><title>502</title>", "is HTML"),
        (b'<?xml version="1.0"?>', "is HTML"),
        (b'{"id": "task-1", "sta', "cut short"),
        (b"id=task-1", "is not JSON"),
        (b'{"a": "\xff\xfe"}', "is not JSON"),
        (b'{"a": 1} trailing', "is not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_what_is_not_json_is_named(data: bytes, reason: str) -> None:
    with pytest.raises(ResponseFormatError, match=reason):
        wire.read_json(data)


def test_numbers_that_json_does_not_have_are_null() -> None:
    body = wire.read_json(b'{"a": NaN, "b": -Infinity, "c": 1e999, "d": 1.5, "e": 1E400}')
    assert body == {"a": None, "b": None, "c": None, "d": 1.5, "e": None}


def test_a_byte_order_mark_is_no_error() -> None:
    assert wire.read_json(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


def test_of_repeated_keys_the_last_counts() -> None:
    assert wire.read_json(b'{"id": "a", "id": "b"}') == {"id": "b"}


@given(json_values)
def test_json_reads_back(value: object) -> None:
    assert wire.read_json(json.dumps(value).encode()) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_a_format_error(data: bytes) -> None:
    try:
        value = wire.read_json(data)
    except ResponseFormatError:
        return
    assert not isinstance(value, float) or math.isfinite(value)


# Requests

prompts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60).filter(lambda text: bool(text.strip()))
extras = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda name: name not in FIELDS),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**70), 2**70)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(codec="utf-8")),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
        max_leaves=6,
    ),
    max_size=3,
).map(JSONObject)
text_requests = st.builds(
    VideoRequest,
    prompts,
    quality=st.sampled_from([None, "720p", "1080p"]),
    aspect_ratio=st.sampled_from([None, "16:9", "4:3"]),
    duration=st.sampled_from([None, 5, 10]),
    prompt_extend=st.sampled_from([None, True, False]),
    callback_url=st.sampled_from([None, "https://hooks.example.com/a"]),
    extra=extras,
)
image_requests = st.builds(
    VideoRequest, prompts, model=st.just("wan2.5-image-to-video"), image_urls=st.just(("https://example.com/a.png",))
)
requests = text_requests | image_requests


@given(requests)
def test_a_request_reads_back_from_its_json(request_: VideoRequest) -> None:
    text = wire.request_to_json(request_)
    assert "\n" not in text
    again = wire.request_from_json(text)
    assert again == request_
    assert wire.request_to_json(again) == text
    assert wire.request_body(again) == wire.request_body(request_)


@given(requests)
def test_a_request_s_body_says_what_was_given(request_: VideoRequest) -> None:
    body = json.loads(json.dumps(wire.request_body(request_)))
    assert body["model"] == request_.model
    assert set(body) == {"model", *request_.fields(), *request_.extra}
    assert None not in {name: body[name] for name in request_.fields()}.values()


def test_equal_requests_have_equal_json() -> None:
    one = VideoRequest("A cat", extra={"a": 1, "b": {"c": 2, "d": 3}})
    other = VideoRequest("A cat", extra={"b": {"d": 3, "c": 2}, "a": 1})
    assert wire.request_to_json(one) == wire.request_to_json(other)


def test_a_request_s_json_is_short() -> None:
    assert wire.request_to_json(VideoRequest("Kätzchen")) == '{"prompt":"Kätzchen"}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "5",
        '"text"',
        "{}",
        '{"prompt": ""}',
        '{"prompt": 5}',
        '{"prompt": "A cat", "duration": true}',
        '{"prompt": "A cat", "duration": "5"}',
        '{"prompt": "A cat", "prompt_extend": "false"}',
        '{"prompt": "A cat", "colour": "red"}',
        '{"prompt": "A cat", "image_urls": "https://example.com/a.png"}',
        '{"prompt": "A cat", "image_urls": 5}',
        '{"prompt": "A cat", "image_urls": [5]}',
        '{"prompt": "A cat", "extra": []}',
        '{"prompt": "A cat", "extra": {"model": "x"}}',
        "[" * 100_000,
    ],
)
def test_what_is_no_request_is_refused(text: str) -> None:
    with pytest.raises(RequestValidationError):
        wire.request_from_json(text)


@given(
    st.text()
    | json_values.map(json.dumps)
    | st.dictionaries(
        st.sampled_from(["prompt", "quality", "duration", "image_urls", "extra", "model", "colour"]), json_values
    ).map(json.dumps)
)
def test_any_text_is_a_request_or_a_validation_error(text: str) -> None:
    try:
        request = wire.request_from_json(text)
    except RequestValidationError:
        return
    assert request.prompt.strip()
