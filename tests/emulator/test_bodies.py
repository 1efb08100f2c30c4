from __future__ import annotations

from itertools import pairwise
from typing import Any

from tests.emulator.making import T0, task
from wanasync.emulator.bodies import list_item, submission_body, task_body
from wanasync.emulator.tasks import Task
from wanasync.emulator.timing import linear
from wanasync.emulator.trouble import Fault

LINK = "http://videos.example/1.mp4"
RUNNING, ENDED = T0 + 51, T0 + 100


def body(one: Task, now: float = ENDED) -> dict[str, Any]:
    return task_body(one, now, linear, LINK)


def quirky(name: str, value: float | str | None = None, **changes: Any) -> Task:
    return task(quirks=(Fault(name, value),), **changes)


def test_a_submission_is_answered_as_documented() -> None:
    assert submission_body(task(), T0, linear, 120) == {
        "created": int(T0),
        "id": task().id,
        "model": "wan2.5-text-to-video",
        "object": "video.generation.task",
        "progress": 0,
        "status": "pending",
        "task_info": {"can_cancel": True, "estimated_time": 120, "video_duration": 5},
        "type": "video",
        "usage": {"billing_rule": "per_second", "credits_reserved": 5.0, "user_group": "default"},
    }


def test_an_estimate_may_be_missing() -> None:
    assert "estimated_time" not in submission_body(quirky("no_estimate"), T0, linear, 120)["task_info"]


def test_links_and_bill_come_with_completion_only() -> None:
    assert not {"results", "usage", "error"} & set(body(task(), RUNNING))
    done = body(task())
    assert done["results"] == [LINK]
    assert done["usage"]["credits_used"] == 5.0
    assert done["duration"] == 100


def test_a_failed_task_says_why() -> None:
    failed = body(task(outcome="failed", failure="content_policy_violation"))
    assert failed["error"]["code"] == "content_policy_violation"
    assert failed["error"]["type"] == "task_error"
    assert (failed["progress"], "results" in failed) == (0, False)


def test_an_unlisted_reason_is_passed_on() -> None:
    assert body(task(outcome="failed", failure="video_probe_failed"))["error"]["code"] == "video_probe_failed"


def test_results_may_come_late() -> None:
    late = quirky("late_results", 30.0)
    early = body(late, ENDED + 29)
    assert (early["status"], early["results"], early["progress"], early["error"]) == ("completed", None, 50, None)
    assert body(late, ENDED + 30)["results"] == [LINK]


def test_results_may_be_objects_or_stand_elsewhere() -> None:
    assert body(quirky("object_results"))["results"] == [{"url": LINK, "content_type": "video/mp4"}]
    elsewhere = body(quirky("result_data"))
    assert elsewhere["result_data"] == {"video_url": LINK}
    assert "results" not in elsewhere
    assert "results" not in body(quirky("object_results"), RUNNING)


def test_quirks_add_up() -> None:
    both = task(quirks=(Fault("late_results", 10.0), Fault("object_results")))
    assert body(both, ENDED + 5)["results"] is None
    assert body(both, ENDED + 10)["results"][0]["url"] == LINK


def test_a_status_may_be_spelled_as_elsewhere() -> None:
    odd = quirky("odd_status")
    assert [body(odd, now)["status"] for now in (T0, RUNNING, ENDED)] == ["queued", "RUNNING", "SUCCEEDED"]
    assert body(quirky("odd_status", outcome="failed"))["status"] == "Error"
    assert body(quirky("odd_status", outcome="cancelled"))["status"] == "canceled"
    assert body(quirky("odd_status", "enhancing"), RUNNING)["status"] == "enhancing"


def test_progress_may_fall() -> None:
    falling = quirky("falling_progress")
    shown = [body(falling, T0 + second)["progress"] for second in range(2, 101)]
    assert any(later < earlier for earlier, later in pairwise(shown))
    assert shown[-1] == 50
    assert all(0 <= progress <= 100 for progress in shown)


def test_a_failure_may_lack_its_reason() -> None:
    assert "error" not in body(quirky("failed_without_error", outcome="failed"))


def test_lists_show_no_links() -> None:
    assert list_item(task(), ENDED, linear) == {
        "id": task().id,
        "model": "wan2.5-text-to-video",
        "type": "video",
        "status": "completed",
        "progress": 100,
        "created_at": int(T0),
        "has_results": True,
        "has_error": False,
        "credits_used": 5.0,
    }
