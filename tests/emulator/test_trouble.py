from __future__ import annotations

from random import Random

import pytest

from wanasync.emulator import FAULTS, Trouble
from wanasync.emulator.trouble import LANES, Dice, Fault, parse


def dice(trouble: Trouble) -> Dice:
    return Dice(lambda: trouble, Random(7))


def drawn(trouble: Trouble, lane: str, times: int = 2000) -> list[Fault | None]:
    thrower = dice(trouble)
    return [thrower.draw(lane) for _ in range(times)]


def names(faults: list[Fault | None]) -> list[str]:
    return [fault.name if fault else "ok" for fault in faults]


def test_no_trouble_is_no_trouble() -> None:
    for lane in LANES:
        assert set(drawn(Trouble(), lane, 20)) == {None}


def test_a_rate_is_a_share_of_the_requests_of_its_lane() -> None:
    trouble = Trouble(cut_downloads=0.2)
    assert 300 < names(drawn(trouble, "download")).count("cut") < 500
    assert set(drawn(trouble, "submit")) == {None}


def test_polls_are_queries_and_batch_queries() -> None:
    trouble = Trouble(html_502_polls=1.0)
    assert [names(drawn(trouble, lane, 1)) for lane in ("query", "batch", "submit")] == [
        ["html_502"],
        ["html_502"],
        ["ok"],
    ]


def test_a_rate_may_carry_a_value() -> None:
    assert drawn(Trouble(slow_downloads=(1.0, 1000.0)), "download", 1) == [Fault("slow", 1000.0)]
    assert drawn(Trouble(failed_tasks=(1.0, "quota_exceeded")), "task", 1) == [Fault("failed", "quota_exceeded")]


def test_a_script_comes_first_and_then_the_rates() -> None:
    trouble = Trouble.script(submit=["ok", "reset", "http_503"]) | Trouble(html_502_submits=1.0)
    assert names(drawn(trouble, "submit", 5)) == ["ok", "reset", "http_503", "html_502", "html_502"]


def test_a_lost_reply_is_a_reset_of_a_request_that_was_served() -> None:
    assert parse("lost_reply", "submit") == parse("processed:reset", "submit") == Fault("reset", None, processed=True)
    assert drawn(Trouble(processed_html_504_submits=1.0), "submit", 1) == [Fault("html_504", None, processed=True)]


def test_what_spoils_a_reply_implies_that_there_is_one() -> None:
    spoiled = parse("truncated_json", "query")
    assert spoiled is not None
    assert (spoiled.processed, spoiled.is_damage) == (True, True)
    replaced = parse("html_502", "query")
    assert replaced is not None
    assert (replaced.processed, replaced.is_damage) == (False, False)


def test_joined_trouble_adds_up_and_the_right_side_wins() -> None:
    both = Trouble(reset_polls=1.0, slow_polls=0.5) | Trouble(reset_polls=0.0, cut_downloads=1.0)
    assert set(names(drawn(both, "query"))) == {"ok", "slow"}
    assert names(drawn(both, "download", 1)) == ["cut"]


def test_a_task_may_have_several_quirks_at_once() -> None:
    thrower = dice(Trouble(late_results_tasks=1.0, odd_status_tasks=1.0))
    assert [fault.name for fault in thrower.draw_all("task")] == ["late_results", "odd_status"]
    scripted = dice(Trouble.script(task=["ok", "failed"]))
    assert [len(scripted.draw_all("task")) for _ in range(3)] == [0, 1, 0]


def test_the_same_seed_gives_the_same_trouble() -> None:
    trouble = Trouble(cut_downloads=0.3, reset_downloads=0.3)
    assert drawn(trouble, "download") == drawn(trouble, "download")


def test_replaced_trouble_starts_its_script_anew() -> None:
    current = Trouble.script(query=["reset", "reset"])
    thrower = Dice(lambda: current, Random(0))
    assert thrower.draw("query") == Fault("reset")
    current = Trouble.script(query=["hangup"])
    assert names([thrower.draw("query") for _ in range(2)]) == ["hangup", "ok"]


@pytest.mark.parametrize("lane", LANES)
def test_every_listed_fault_can_be_scripted(lane: str) -> None:
    for name in FAULTS[lane]:
        assert parse(name, lane) is not None
        assert parse(f"{name}=5", lane) is not None


@pytest.mark.parametrize(
    ("text", "lane", "message"),
    [
        ("explode", "submit", "no fault 'explode' in lane submit"),
        ("cut", "submit", "there are reset"),
        ("html_9999", "query", "no fault"),
        ("html_502", "task", "no fault"),
        ("reset", "upload", "no lane 'upload'"),
        ("processed:reset", "download", "makes no sense"),
    ],
)
def test_a_fault_that_does_not_exist_is_named(text: str, lane: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Trouble.script(**{lane: [text]})


@pytest.mark.parametrize(
    ("keyword", "rate"), [("cut_uploads", 0.5), ("cut_downloads", 1.5), ("html_polls", 0.5), ("reset", 0.1)]
)
def test_a_rate_that_makes_no_sense_is_named(keyword: str, rate: float) -> None:
    with pytest.raises(ValueError, match=keyword.split("_")[0]):
        Trouble(**{keyword: rate})
