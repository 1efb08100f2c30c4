from __future__ import annotations

import pytest

from wanasync.rules.provenance import objection

PROVIDER, OTHER = "https://ai.odkkk.com/apiv1", "https://api.evolink.ai"
EMULATOR, NEXT_EMULATOR = "http://127.0.0.1:4000/apiv1", "http://localhost:5000/apiv1"


@pytest.mark.parametrize("url", [PROVIDER, EMULATOR])
@pytest.mark.parametrize("under_way", [0, 5])
def test_the_same_host_and_a_new_directory_are_fine(url: str, under_way: int) -> None:
    assert objection(url, url, under_way) is None
    assert objection("", url, under_way) is None


@pytest.mark.parametrize(("before", "now"), [(EMULATOR, PROVIDER), (PROVIDER, EMULATOR)])
@pytest.mark.parametrize("under_way", [0, 5])
def test_an_emulators_batch_is_never_taken_for_the_providers(before: str, now: str, under_way: int) -> None:
    reason = objection(before, now, under_way)
    assert reason == f"its batch was begun at {before}, of which {now} knows nothing; choose another directory"


@pytest.mark.parametrize(("before", "now"), [(EMULATOR, NEXT_EMULATOR), (PROVIDER, OTHER)])
def test_what_is_under_way_stays_where_it_is(before: str, now: str) -> None:
    assert objection(before, now, 0) is None
    assert "a task of it is under way" in (objection(before, now, 1) or "")
    assert "1,000 tasks of it are under way" in (objection(before, now, 1000) or "")


def test_an_emulator_that_has_ended_is_told_as_such() -> None:
    assert "an emulator's tasks end with it" in (objection(EMULATOR, NEXT_EMULATOR, 1) or "")
    assert "emulator" not in (objection(PROVIDER, OTHER, 1) or "")
