"""Whatever goes wrong, each item is saved or told, nothing is paid twice, and nobody has to hear of it by a traceback.

`python -m benchmarks.faults` does the same with 1,000 items and each fault at a tenth of the requests.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.security.faults import everything, rounds, suffer
from wanasync import OutcomeState
from wanasync.emulator.trouble import FAULTS
from wanasync.testing import run


@pytest.mark.parametrize("errors", ["integer", "string"])
def test_all_faults_at_once(tmp_path: Path, errors: str) -> None:
    account = run(suffer(150, tmp_path, everything(), errors=errors))
    assert account.problems == []
    assert account.told[OutcomeState.SAVED] > 30
    assert account.told[OutcomeState.UNKNOWN] > 30
    assert account.told[OutcomeState.FAILED] > 0
    assert account.told[OutcomeState.REJECTED] > 0


def test_a_fault_on_each_second_request(tmp_path: Path) -> None:
    """Most submissions fare ill; what was accepted is saved all the same."""
    account = run(suffer(40, tmp_path, everything(0.1)))
    assert account.problems == []


def test_each_fault_of_the_table_has_its_round() -> None:
    injected = {fault for one in rounds() for faults in one.trouble.rates.values() for fault, _ in faults}
    names = {fault.name for fault in injected}
    for lane, faults in FAULTS.items():
        missing = set(faults) - names - {"lost_reply"}  # that is a reset of a request that was served
        assert not missing, (lane, missing)
