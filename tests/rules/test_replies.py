from __future__ import annotations

import json
import pickle
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.test_wire import json_values, nested, task_like
from tests.samples import load
from wanasync import errors
from wanasync.errors import (
    APIError,
    BadRequestError,
    InsufficientCreditError,
    NotFoundError,
    RateLimitError,
    ResponseFormatError,
    ServerError,
)
from wanasync.models import Credits, TaskSnapshot, TaskStatus
from wanasync.rules.replies import (
    Accepted,
    Refused,
    Reply,
    Submission,
    Throttled,
    Unknown,
    api_error,
    read_credits,
    read_submission,
    read_task,
    read_task_list,
    read_tasks,
)

NOW = 1_763_000_000.0
ID = "task-unified-1763000001-a1b2c3d4"
CREATED = {"id": ID, "status": "pending", "progress": 0}
DOCUMENTED_503 = {"error": {"code": 503, "message": "away", "type": "service_unavailable_error"}}

ERRORS = [
    pytest.param(kind, sample, id=f"{name}-{kind}-{sample['status']}-{number}")
    for name in ("errors_integer_codes", "errors_string_codes")
    for kind in ("submit", "query")
    for number, sample in enumerate(load(name)[kind])
]
ENVELOPES = load("refusals_in_success")["replies"]


def reply(status: int, body: object = None, **headers: str) -> Reply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, data)


def submission(status: int, body: object = None, **headers: str) -> Submission:
    return read_submission(reply(status, body, **headers), now=NOW)


def accepted(status: int, body: object = None, **headers: str) -> TaskSnapshot:
    outcome = submission(status, body, **headers)
    assert isinstance(outcome, Accepted)
    return outcome.snapshot


def refused(status: int, body: object = None, **headers: str) -> APIError:
    outcome = submission(status, body, **headers)
    assert isinstance(outcome, Refused)
    return outcome.error


def unknown(status: int, body: object = None, **headers: str) -> Unknown:
    outcome = submission(status, body, **headers)
    assert isinstance(outcome, Unknown)
    assert outcome.status == status
    return outcome


# Errors


@pytest.mark.parametrize(("kind", "sample"), ERRORS)
def test_both_generations_of_errors_become_the_right_class(kind: str, sample: dict[str, Any]) -> None:
    error = api_error(reply(sample["status"], sample["body"]), now=NOW)
    said = sample["body"]["error"]
    assert type(error) is getattr(errors, sample["error"])
    assert (error.status, error.code, error.type) == (sample["status"], said["code"], said["type"])
    assert (error.message, error.param) == (said["message"], said.get("param"))
    assert error.suggestion == said.get("fallback_suggestion")
    assert error.retry_after == sample.get("retry_after")
    assert said["message"] in str(error)


@pytest.mark.parametrize(("kind", "sample"), ERRORS)
def test_a_query_raises_what_its_error_reply_is(kind: str, sample: dict[str, Any]) -> None:
    for read in (read_task, read_tasks, read_task_list, read_credits):
        with pytest.raises(getattr(errors, sample["error"])):
            read(reply(sample["status"], sample["body"]), now=NOW)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": "text"}, "text"),
        ({"code": 5, "message": "text"}, "text"),
        ({"success": False, "msg": "text"}, "text"),
        ({"detail": "text"}, "text"),
        ({"error": {"code": "x"}, "message": "text"}, "text"),
        ({"error": {"message": "text\x1b[0m"}}, "text"),
        ("text", "text"),
        ({}, "Bad Request"),
        ({"error": None}, "Bad Request"),
        ({"error": {"message": ""}}, "Bad Request"),
        ({"error": {"message": 5, "code": [], "type": {}, "param": True}}, "Bad Request"),
        ([], "Bad Request"),
        (None, "Bad Request"),
        (b"", "Bad Request"),
        (b"\xff\xfe", "Bad Request"),
        (b'{"error": {"mess', "Bad Request"),
    ],
)
def test_every_envelope_gives_a_message(body: object, message: str) -> None:
    error = api_error(reply(400, body), now=NOW)
    assert type(error) is BadRequestError
    assert error.message == message


def test_a_web_page_is_told_as_one_and_not_shown_as_the_message() -> None:
    error = api_error(reply(502, b"<html><title>502</title><h1>cloud</h1></html>"), now=NOW)
    assert isinstance(error, ServerError)
    assert error.message.startswith("Bad Gateway")
    assert "<" not in error.message
    assert "base_url" in error.message


def test_a_status_without_a_name_is_told_by_its_number() -> None:
    assert api_error(reply(524, b""), now=NOW).message == "HTTP 524"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_says_what_to_do_about_it(status: int) -> None:
    error = refused(status, b"", location="https://elsewhere.example/v1")
    assert "https://elsewhere.example/v1" in error.message
    assert "base_url" in error.message
    with pytest.raises(APIError, match="base_url"):
        read_task(reply(status, b"", location="https://elsewhere.example/v1"), now=NOW)


def test_the_status_decides_before_code_and_type() -> None:
    said = {"error": {"code": "rate_limit_exceeded", "type": "rate_limit_error", "message": "x"}}
    assert type(api_error(reply(400, said), now=NOW)) is BadRequestError
    assert type(api_error(reply(402, {"error": {"code": "quota_exceeded"}}), now=NOW)) is InsufficientCreditError
    assert type(api_error(reply(418, said), now=NOW)) is APIError


def test_404_about_the_model_is_the_request_s_fault() -> None:
    assert type(api_error(reply(404, {"error": {"code": "model_not_found"}}), now=NOW)) is BadRequestError
    assert type(api_error(reply(404, b"<html>"), now=NOW)) is NotFoundError
    assert type(api_error(reply(410, {"error": {"message": "expired"}}), now=NOW)) is NotFoundError


def test_the_request_id_is_kept() -> None:
    assert api_error(reply(500, {}, x_request_id="req-1"), now=NOW).request_id == "req-1"
    assert api_error(reply(500, {"error": {"request_id": "req-2"}}), now=NOW).request_id == "req-2"
    assert api_error(reply(500, {}), now=NOW).request_id is None


def test_a_wait_is_read_from_header_or_text() -> None:
    text = {"error": {"message": "retry in 7 seconds"}}
    assert api_error(reply(429, text), now=NOW).retry_after == 7
    assert api_error(reply(429, text, retry_after="5"), now=NOW).retry_after == 5
    assert api_error(reply(429, {}, retry_after=formatdate(NOW + 9, usegmt=True)), now=NOW).retry_after == 9
    assert api_error(reply(429, {}), now=NOW).retry_after is None


def test_no_key_and_no_control_character_gets_into_an_error() -> None:
    key = "sk-Abcdef0123456789Abcdef"
    said = {key: f"Bearer {key}\x1b[2J"}
    fields = ("message", "code", "type", "param", "fallback_suggestion", "request_id")
    error = api_error(reply(401, {"error": {name: f"{name} {key}\x1b[2J\u202e" for name in fields}, **said}), now=NOW)
    shown = f"{error} {error.body} {error.code} {error.type} {error.request_id} {error.suggestion}"
    assert "Abcdef" not in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert len(error.body) <= 500


def test_errors_of_replies_pickle() -> None:
    error = api_error(reply(429, {"error": {"message": "slow down"}}, retry_after="5"), now=NOW)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(again), str(again), again.retry_after) == (RateLimitError, str(error), 5)


# Submissions


@pytest.mark.parametrize("name", ["submit_accepted", "submit_accepted_older"])
def test_a_documented_success_is_accepted(name: str) -> None:
    sample = load(name)
    task = accepted(sample["status"], sample["body"])
    assert (task.id, task.status) == (sample["body"]["id"], TaskStatus.PENDING)


def test_a_replayed_submission_says_so() -> None:
    assert submission(200, CREATED, idempotency_replayed="true") == Accepted(accepted(200, CREATED), replayed=True)
    assert submission(200, CREATED, idempotency_replayed="false") == Accepted(accepted(200, CREATED))


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize(
    "fields",
    [
        {"progress": "none"},
        {"progress": True},
        {"status": None},
        {"status": 5},
        {"task_info": []},
        {"usage": "free"},
        {"usage": {"credits_reserved": "5"}},
        {"created": "now", "model": 5, "results": 5, "error": 5, "duration": {}},
        {"error": {"code": 500, "message": "but it was created"}},
        {"success": False},
        {"anything": nested(200)},
    ],
)
def test_a_paid_task_s_id_survives_whatever_else_is_malformed(status: int, fields: dict[str, Any]) -> None:
    assert accepted(status, {**CREATED, **fields}).id == ID


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(CREATED).encode()[:-1],
        json.dumps({**CREATED, "usage": {"credits_reserved": 5}}).encode()[:-20],
        b'{"id": "' + ID.encode() + b'", "model": "\xff\xfe"}',
        b'{"id": "' + ID.encode() + b'", "created": ' + b"9" * 5000 + b"}",
        b'{"id": "' + ID.encode() + b'", "a": ' + b"[" * 100_000,
        b'{"id" : "' + ID.encode() + b'"',
    ],
    ids=["no brace", "cut short", "not UTF-8", "huge number", "too deep", "spaced"],
)
def test_a_whole_id_is_saved_from_a_broken_reply(body: bytes) -> None:
    task = accepted(200, body)
    assert (task.id, task.status) == (ID, TaskStatus.UNKNOWN)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>ok</html>",
        b"OK",
        b"null",
        b"[]",
        b"{}",
        b'{"id": null, "status": "pending"}',
        b'{"id": "", "status": "pending"}',
        b'{"id": 5, "status": "pending"}',
        b'{"id": ["task-1"], "status": "pending"}',
        json.dumps(CREATED).encode()[: len(ID) // 2],
        b'{"id": "' + ID.encode(),
        b"<p>" + json.dumps(CREATED).encode()[:-1],
        b'{"id": "task-unified-1-a", "parent": {"id": "task-unified-2-b"}, ',
        b'{"success": true}',
        b'{"data": null, "code": 200}',
        b'{"success": true, "data": {"status": "pending"}}',
    ],
)
def test_a_success_without_a_usable_id_is_unknown(body: bytes) -> None:
    assert "usable task id" in unknown(200, body).reason


@pytest.mark.parametrize("sample", ENVELOPES, ids=json.dumps)
def test_an_error_inside_a_success_is_believed_only_where_it_is_a_refusal(sample: dict[str, Any]) -> None:
    outcome = submission(200, sample["body"])
    assert type(outcome).__name__ == sample["submission"]
    if isinstance(outcome, Refused | Throttled):
        assert type(outcome.error) is getattr(errors, sample["error"])


@pytest.mark.parametrize("sample", ENVELOPES, ids=json.dumps)
def test_a_query_raises_an_error_inside_a_success(sample: dict[str, Any]) -> None:
    with pytest.raises(APIError) as caught:
        read_task(reply(200, sample["body"]), now=NOW)
    assert type(caught.value) is getattr(errors, sample["error"])
    assert caught.value.status == 200


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 413, 415, 422])
@pytest.mark.parametrize("body", [{"error": {"message": "no"}}, b"<html>", b""])
def test_a_refusal_is_one_whatever_its_body(status: int, body: object) -> None:
    assert refused(status, body).status == status


@pytest.mark.parametrize("body", [{"error": {"message": "slow down"}}, b"<html>", b"", {"id": ID}])
def test_429_is_always_throttled(body: object) -> None:
    assert isinstance(submission(429, body), Throttled)


def test_the_wait_of_a_429_comes_along() -> None:
    said = load("errors_integer_codes")["submit"][6]
    outcome = submission(said["status"], said["body"])
    assert isinstance(outcome, Throttled)
    assert outcome.retry_after == 60
    assert isinstance(outcome.error, RateLimitError)


@pytest.mark.parametrize(
    "body", [DOCUMENTED_503, {"error": {"code": "service_unavailable", "message": "away", "type": "api_error"}}]
)
def test_only_the_documented_503_is_throttled(body: object) -> None:
    outcome = submission(503, body, retry_after="30")
    assert isinstance(outcome, Throttled)
    assert outcome.retry_after == 30


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>503</html>",
        b'{"error": {"code": 503, "type": "service_unava',
        {},
        {"message": "no healthy upstream"},
        {"error": "service_unavailable_error"},
        {"error": {"code": 503, "message": "away"}},
        {"error": {"code": 503, "type": "upstream_error"}},
        {"code": "service_unavailable"},
    ],
)
def test_any_other_503_is_unknown(body: object) -> None:
    assert "HTTP 503" in unknown(503, body).reason


@pytest.mark.parametrize("status", [408, 409, 425, 499, 500, 501, 502, 504, 520, 521, 522, 523, 524, 599, 100, 0])
@pytest.mark.parametrize("body", [{"error": {"message": "it broke"}}, DOCUMENTED_503, b"<html>", b""])
def test_what_a_proxy_may_say_after_the_fact_is_unknown(status: int, body: object) -> None:
    assert unknown(status, body).reason


@pytest.mark.parametrize("status", [200, 400, 409, 422, 429, 500])
def test_an_outcome_that_the_provider_does_not_know_is_unknown(status: int) -> None:
    said = {"error": {"code": "paid_outcome_unknown", "message": "still running"}}
    assert isinstance(submission(status, said), Unknown)


@pytest.mark.parametrize("status", [400, 409, 422, 429, 500])
def test_a_key_used_for_another_request_is_refused(status: int) -> None:
    said = {"error": {"code": "idempotency_conflict", "message": "another body"}}
    assert refused(status, said).code == "idempotency_conflict"


def test_an_unknown_outcome_keeps_the_start_of_what_came() -> None:
    body = b'{"oops": "sk-Abcdef0123456789", "x": "' + b"y" * 5000
    kept = unknown(200, body).body
    assert kept.startswith('{"oops": "[removed]')
    assert len(kept) <= 500


# Looks at tasks


def test_a_look_at_a_task() -> None:
    task = read_task(reply(200, load("task_completed_recorded")["body"]), now=NOW)
    assert (task.status, task.credits_used) == (TaskStatus.COMPLETED, 13.5)


def test_a_failed_task_is_no_error() -> None:
    for name in ("task_failed", "task_failed_without_error", "task_failed_unlisted_code"):
        assert read_task(reply(200, load(name)["body"]), now=NOW).status is TaskStatus.FAILED


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"", "$: is empty"),
        (b"<html>", "$: is HTML"),
        (b'{"id": "task-1", "st', "$: is not JSON, or cut short"),
        (b"[]", "$: an object expected"),
        (b"{}", "$.id: text expected, not null"),
        (b'{"id": 5, "status": "pending"}', "$.id: "),
        (b'{"id": "task-1"}', "$.status: text expected"),
        (b'{"id": "task-1", "status": "processing", "progress": "50"}', "$.progress: "),
        (b'{"id": "task-1", "status": "processing", "usage": []}', "$.usage: "),
    ],
)
def test_a_look_that_can_t_be_understood_names_the_place(body: bytes, place: str) -> None:
    with pytest.raises(ResponseFormatError) as caught:
        read_task(reply(200, body), now=NOW)
    assert caught.value.reason.startswith(place)
    assert (caught.value.status, caught.value.body) == (200, body.decode())


@pytest.mark.parametrize(
    "task",
    [
        {"status": "completed", "results": ["https://files.example/v.mp4"], "usage": "free"},
        {"status": "failed", "error": 5},
        {"status": "cancelled", "progress": "none"},
    ],
)
def test_a_finished_task_is_not_lost_over_a_side_field(task: dict[str, Any]) -> None:
    snapshot = read_task(reply(200, {"id": ID, **task}), now=NOW)
    assert snapshot.is_final
    assert set(snapshot.extra) >= set(task) - {"status", "results"}


def test_a_batch_query_gives_the_tasks_that_can_be_read() -> None:
    items = [CREATED, {"id": 5}, None, {"id": "task-2", "status": "running", "progress": "?"}, {**CREATED, "id": "t3"}]
    for body in ({"data": items}, items):
        assert [task.id for task in read_tasks(reply(200, body), now=NOW)] == [ID, "t3"]
    assert read_tasks(reply(200, {"data": []}), now=NOW) == ()


def test_a_page_of_the_task_list() -> None:
    page = read_task_list(reply(200, load("task_list")["body"]), now=NOW)
    assert ([task.status for task in page.tasks], page.total, page.page) == ([TaskStatus.COMPLETED], 1, 1)


def test_a_page_without_figures_counts_itself() -> None:
    page = read_task_list(reply(200, {"data": [CREATED], "total": "many", "page": True}), now=NOW)
    assert (page.total, page.page) == (1, 1)


@pytest.mark.parametrize("body", [{}, {"data": None}, {"data": {}}, {"tasks": []}, None, "text"])
def test_a_list_that_is_none_is_a_format_error(body: object) -> None:
    for read in (read_tasks, read_task_list):
        with pytest.raises(ResponseFormatError, match=r"\$\.data"):
            read(reply(200, body), now=NOW)


def test_the_balance() -> None:
    assert read_credits(reply(200, load("credits")["body"]), now=NOW) == Credits(1024.75, 512.5)


# Whatever comes

statuses = st.sampled_from([200, 200, 200, 201, 204, 302, 400, 401, 402, 404, 409, 429, 500, 502, 503, 524, 999])
headers = st.dictionaries(
    st.sampled_from(["retry-after", "date", "location", "x-request-id", "idempotency-replayed"]), st.text(max_size=20)
)
error_like = st.dictionaries(
    st.sampled_from(["error", "code", "message", "msg", "success", "data", "detail", "id"]), json_values | task_like
)
bodies = st.binary(max_size=60) | (json_values | task_like | error_like).map(lambda value: json.dumps(value).encode())
truncated = st.tuples(bodies, st.integers(0, 60)).map(lambda pair: pair[0][: pair[1]])
replies = st.builds(Reply, statuses, headers, bodies | truncated)


@given(replies)
def test_any_reply_to_a_submission_has_an_outcome(any_reply: Reply) -> None:
    outcome = read_submission(any_reply, now=NOW)
    assert isinstance(outcome, Accepted | Throttled | Refused | Unknown)
    if isinstance(outcome, Accepted):
        assert outcome.snapshot.id.encode() in any_reply.body
    if any_reply.status >= 500 and any_reply.status != 503:
        assert isinstance(outcome, Unknown | Refused)


@given(replies)
def test_any_reply_to_a_query_is_a_record_or_one_of_our_errors(any_reply: Reply) -> None:
    for read in (read_task, read_tasks, read_task_list, read_credits):
        try:
            read(any_reply, now=NOW)
        except (APIError, ResponseFormatError) as error:
            sentence = str(error)
            assert sentence.isprintable()
            pickle.dumps(error)


@given(replies)
def test_any_reply_can_be_told_as_an_error(any_reply: Reply) -> None:
    error = api_error(any_reply, now=NOW)
    assert error.message
    assert error.retry_after is None or 0.5 <= error.retry_after <= 3600


@pytest.mark.parametrize(
    ("headers", "firm"), [({"retry-after": "60"}, True), ({}, False), ({"retry-after": "soon"}, False)]
)
def test_a_wait_is_firm_only_when_a_header_gives_it(headers: dict[str, str], firm: bool) -> None:
    body = b'{"error": {"code": 429, "message": "Too many", "fallback_suggestion": "retry after 60 seconds"}}'
    result = read_submission(Reply(429, headers, body), now=NOW)
    assert isinstance(result, Throttled)
    assert (result.retry_after, result.firm) == (60.0, firm)
