from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests.emulator.making import BODY, T0
from wanasync.emulator import ConcurrentTasks, FixedWindow, Hint, Settings, Trouble
from wanasync.emulator.links import Links
from wanasync.emulator.provider import Answer, Provider
from wanasync.emulator.refusals import Refusal
from wanasync.emulator.tasks import Task, TaskBook
from wanasync.emulator.trouble import Dice

KEY, OTHER_KEY = "item-0000000000000001", "item-0000000000000002"


class Desk:
    """A provider with a clock to turn by hand; submits the way the HTTP side does."""

    def __init__(self, **options: Any) -> None:
        self.settings = Settings(**{"durations": 100} | options)
        self.now = T0
        self.begun: list[Task] = []
        self.provider = Provider(
            settings=self.settings,
            book=TaskBook(),
            dice=Dice(lambda: self.settings.trouble, Random(1)),
            rng=Random(0),
            links=Links(b"secret"),
            now=lambda: self.now,
            link_base=lambda: "http://videos.example",
            on_task=self.begun.append,
        )

    def submit(self, key: str | None = None, **changes: Any) -> Answer:
        body, wish = self.provider.check(json.dumps(BODY | changes).encode())
        replay = self.provider.claim(key, body)
        if replay is not None:
            return replay
        try:
            return self.provider.submit(body, wish, key)
        except Refusal:
            self.provider.unclaim(key)
            raise

    def new_id(self, **changes: Any) -> str:
        return str(self.submit(**changes).body["id"])

    def query(self, task_id: str) -> Any:
        return self.provider.query(task_id).body


def refused(call: Callable[..., object], *args: Any, **keywords: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        call(*args, **keywords)
    return caught.value


def test_a_task_goes_its_way_and_is_paid_at_its_end() -> None:
    desk = Desk()
    task_id = desk.new_id()
    assert re.fullmatch(r"task-unified-1800000000-[a-z0-9]{8}", task_id)
    assert desk.query(task_id)["status"] == "pending"
    assert desk.provider.credit_left == 999_995
    desk.now += 50
    assert desk.query(task_id)["status"] == "processing"
    desk.now += 50
    done = desk.query(task_id)
    assert done["results"][0].startswith(f"http://videos.example/videos/{task_id}.mp4?Expires=1800086500&")
    assert desk.provider.credits().body["data"]["user"] == {"remaining_credits": 999_995, "used_credits": 5}
    assert [one.id for one in desk.begun] == [task_id]


@pytest.mark.parametrize(
    ("changes", "price"),
    [({}, 5), ({"duration": 10}, 10), ({"quality": "480p"}, 2.5), ({"quality": "1080p", "duration": 10}, 15)],
)
def test_the_price_goes_by_seconds_and_quality(changes: dict[str, Any], price: float) -> None:
    assert Desk().submit(**changes).body["usage"]["credits_reserved"] == price


def test_a_failed_task_costs_nothing() -> None:
    desk = Desk(trouble=Trouble.script(task=["failed=generation_timeout"]))
    task_id = desk.new_id()
    desk.now += 100
    assert desk.query(task_id)["error"]["code"] == "generation_timeout"
    assert desk.provider.credit_left == 1_000_000


def test_without_credit_nothing_is_accepted() -> None:
    desk = Desk(credit=12)
    desk.submit()
    desk.submit()
    assert refused(desk.submit).status == 402
    assert len(desk.provider.book) == 2
    assert desk.provider.credit_left == 2


def test_a_key_may_lack_access_to_a_model() -> None:
    assert refused(Desk(no_access=["wan2.5-text-to-video"]).submit).status == 403


# --- limits


def test_a_refused_submission_says_when_to_come_back_and_is_not_accepted() -> None:
    desk = Desk(limiter=FixedWindow(1, per=60))
    desk.submit()
    desk.now += 17.5
    refusal = refused(desk.submit)
    assert (refusal.status, refusal.suggestion, refusal.headers) == (429, "retry after 43 seconds", {})
    assert len(desk.provider.book) == 1
    desk.now += 42.5
    desk.submit()


@pytest.mark.parametrize(
    ("hint", "text", "header"),
    [
        ("text", "retry after 60 seconds", None),
        ("header", None, "60"),
        ("both", "retry after 60 seconds", "60"),
        ("date", None, "Fri, 15 Jan 2027 08:01:00 GMT"),
        ("none", None, None),
        (5, "retry after 5 seconds", None),
        (Hint("header", factor=0.5), None, "30"),
    ],
)
def test_the_hint_may_be_told_in_many_ways(hint: Any, text: str | None, header: str | None) -> None:
    desk = Desk(limiter=FixedWindow(1, per=60), hint=hint)
    desk.submit()
    refusal = refused(desk.submit)
    assert (refusal.suggestion, refusal.headers.get("Retry-After")) == (text, header)


def test_refused_submissions_may_use_up_the_limit_too() -> None:
    desk = Desk(limiter=FixedWindow(2, per=60), refused_counts=True)
    desk.submit()
    desk.submit()
    desk.now += 59
    refused(desk.submit)
    desk.now += 1
    desk.submit()


def test_a_quota_is_freed_as_tasks_end() -> None:
    desk = Desk(limiter=ConcurrentTasks(2))
    desk.submit()
    desk.now += 40
    desk.submit()
    assert refused(desk.submit).suggestion == "retry after 60 seconds"
    desk.now += 60
    desk.submit()


def test_queries_may_have_a_limit_of_their_own() -> None:
    desk = Desk(poll_limiter=FixedWindow(1, per=10))
    task_id = desk.new_id()
    desk.query(task_id)
    assert refused(desk.query, task_id).status == 429
    desk.submit()


# --- idempotency


def test_a_replay_answers_the_first_task_and_costs_nothing() -> None:
    desk = Desk()
    first = desk.submit(KEY)
    desk.now += 50
    again = desk.submit(KEY)
    assert again.headers == {"idempotency-replayed": "true"}
    assert again.body["id"] == first.body["id"]
    assert again.body["status"] == "processing"
    assert len(desk.provider.book) == 1
    assert desk.submit(OTHER_KEY).body["id"] != first.body["id"]


def test_a_key_used_for_another_request_is_a_conflict() -> None:
    desk = Desk()
    desk.submit(KEY)
    refusal = refused(desk.submit, KEY, prompt="A dog")
    assert (refusal.kind, refusal.status) == ("idempotency_conflict", 409)


def test_a_key_whose_first_use_still_runs_has_an_unknown_outcome() -> None:
    desk = Desk()
    desk.provider.claim(KEY, BODY)
    assert refused(desk.submit, KEY).kind == "paid_outcome_unknown"


def test_a_refusal_leaves_the_key_free() -> None:
    desk = Desk(limiter=FixedWindow(1, per=60))
    desk.submit()
    assert refused(desk.submit, KEY).status == 429
    desk.now += 60
    assert desk.submit(KEY).headers == {}


@pytest.mark.parametrize("key", ["short", "x" * 97, "item 0000000000000001", "ключ-0000000000000001"])
def test_a_malformed_key_is_refused(key: str) -> None:
    assert refused(Desk().submit, key).param == "Idempotency-Key"


def test_a_host_may_know_nothing_of_keys() -> None:
    desk = Desk(idempotency=False)
    assert desk.submit(KEY).body["id"] != desk.submit(KEY).body["id"]


# --- asking


def test_only_tasks_of_this_account_are_found() -> None:
    desk = Desk()
    assert refused(desk.query, "task-unified-1-abc").kind == "no_task"
    assert refused(desk.query, "1").kind == "bad_task_id"


def test_a_batch_query_leaves_out_what_is_unknown() -> None:
    desk = Desk()
    ids = [desk.new_id() for _ in range(3)]
    asked = [ids[2], "task-unified-1-abc", "nonsense", ids[0], ids[0]]
    answer = desk.provider.batch(json.dumps({"task_ids": asked}).encode())
    assert [one["id"] for one in answer.body["data"]] == [ids[2], ids[0]]


@pytest.mark.parametrize(
    "body", [[], {}, {"task_ids": "x"}, {"task_ids": [1]}, {"task_ids": []}, {"task_ids": ["x"] * 51}]
)
def test_a_malformed_batch_query_is_refused(body: object) -> None:
    assert refused(Desk().provider.batch, json.dumps(body).encode()).kind == "bad_request"


def test_the_list_is_paged_newest_first_and_filtered() -> None:
    desk = Desk(trouble=Trouble.script(task=["ok", "failed", "ok", "ok"]))
    ids = [desk.new_id() for _ in range(4)]
    desk.now += 100
    page = desk.provider.tasks({"status": "completed", "page": "1", "page_size": "2"}).body
    assert ([one["id"] for one in page["data"]], page["total"]) == ([ids[3], ids[2]], 3)
    page = desk.provider.tasks({"status": "completed", "page": "2", "page_size": "2"}).body
    assert [one["id"] for one in page["data"]] == [ids[0]]
    assert desk.provider.tasks({"type": "image"}).body["data"] == []
    assert len(desk.provider.tasks({}).body["data"]) == 4


@pytest.mark.parametrize(
    "query", [{"page": "0"}, {"page": "x"}, {"page_size": "-1"}, {"page": "9" * 12}, {"page": "²"}]
)
def test_a_malformed_page_is_refused(query: dict[str, str]) -> None:
    assert refused(Desk().provider.tasks, query).kind == "bad_request"


def test_old_tasks_are_forgotten() -> None:
    desk = Desk(tasks_expire=3600)
    task_id = desk.new_id()
    desk.now += 3600
    assert refused(desk.query, task_id).kind == "no_task"
    assert desk.provider.tasks({}).body["total"] == 0


def test_a_fresh_query_may_give_a_fresh_link() -> None:
    for fresh in (False, True):
        desk = Desk(fresh_links=fresh)
        task_id = desk.new_id()
        desk.now += 100
        first = desk.query(task_id)["results"]
        desk.now += 3600
        assert (desk.query(task_id)["results"] != first) is fresh


def test_tasks_take_as_long_as_was_drawn_for_them() -> None:
    desk = Desk(durations=iter_of(10.0, 20.0))
    for seconds in (10, 20):
        desk.submit()
        assert desk.begun[-1].ends == T0 + seconds


def iter_of(*seconds: float) -> Callable[[Random], float]:
    left = iter(seconds)
    return lambda _: next(left)


def test_the_same_seed_gives_the_same_tasks() -> None:
    one, two = (Desk(durations=(60, 180)) for _ in range(2))
    assert [one.new_id() for _ in range(5)] == [two.new_id() for _ in range(5)]
    assert [task.ends for task in one.begun] == [task.ends for task in two.begun]
