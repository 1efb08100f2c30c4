from __future__ import annotations

import pytest

from wanasync.rules.patience import patience_left

DAY = 86_400.0


@pytest.mark.parametrize(
    ("submitted_at", "left"),
    [
        (1000.0, DAY),
        (1000.0 - DAY / 2, DAY / 2),
        (None, DAY),
        pytest.param(1000.0 - 3 * DAY, 600.0, id="of a run long ago"),
        pytest.param(1000.0 + DAY, DAY, id="before the clock was set back"),
    ],
)
def test_patience_counts_from_the_submission(submitted_at: float | None, left: float) -> None:
    assert patience_left(submitted_at, 1000.0, DAY) == left


def test_a_short_patience_is_never_stretched() -> None:
    assert patience_left(0.0, 1000.0, 60.0) == 60.0
