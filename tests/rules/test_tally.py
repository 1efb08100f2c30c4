from __future__ import annotations

import pytest

from wanasync.models import OutcomeState
from wanasync.rules.tally import Tally


def tally(*, total: int = 100, accepted: int = 10, saved: int = 0, **counts: int) -> Tally:
    counted = Tally(total, **counts)  # type: ignore[arg-type]
    for _ in range(accepted):
        counted.note_accepted(2.5, 1000.0)
    for number in range(saved):
        counted.told[OutcomeState.SAVED] += 1
        counted.note_saved(1100.0 + 10 * number)
    return counted


def test_a_run_is_complete_when_each_item_of_a_list_read_to_its_end_is_told() -> None:
    counted = tally(saved=3, taken=3)
    assert not counted.is_complete
    assert counted.items == 100
    counted.is_read = True
    assert counted.is_complete
    assert counted.items == 3
    counted.taken += 1
    assert not counted.is_complete


def test_no_end_is_foretold_before_there_is_something_to_tell_it_by() -> None:
    told = {"following": 0, "is_stopped": False}
    assert tally(accepted=0).eta(1000.0, duration=60.0, **told) is None  # type: ignore[arg-type]
    assert tally().eta(1000.0, duration=None, **told) is None  # type: ignore[arg-type]
    unknown_length = Tally()
    unknown_length.note_accepted(None, 1000.0)
    assert unknown_length.eta(1000.0, duration=60.0, following=0, is_stopped=False) is None


def test_the_end_is_foretold_by_the_pace_of_submissions_and_what_a_task_takes() -> None:
    # 10 in 100 s, 80 left.
    assert tally().eta(1100.0, duration=60.0, following=20, is_stopped=False) == pytest.approx(800 + 60)


def test_slow_saving_holds_the_end_up() -> None:
    # A video every 10 s, 95 left.
    assert tally(saved=5).eta(1140.0, duration=60.0, following=5, is_stopped=False) == pytest.approx(90 * 14 + 60)
    assert tally(accepted=100, saved=5).eta(1140.0, duration=1.0, following=95, is_stopped=False) == pytest.approx(950)


def test_a_stopped_run_ends_with_what_is_under_way() -> None:
    assert tally().eta(1100.0, duration=60.0, following=20, is_stopped=True) == pytest.approx(60)
    assert tally().eta(1100.0, duration=60.0, following=0, is_stopped=True) == 0.0
