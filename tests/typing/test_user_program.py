"""Type checkers read a user's program as its author meant it, and refuse what is wrong in another."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RIGHT, WRONG = HERE / "user_program.py", HERE / "wrong_program.py"


def by_mypy(folder: Path) -> set[tuple[str, int]]:
    options = ["--strict", "--no-error-summary", "--hide-error-context", "--cache-dir", str(folder), "--config-file="]
    done = check("mypy", *options)
    return {(Path(path).name, int(line)) for path, line in re.findall(r"(?m)^(.+?):(\d+): error", done.stdout)}


def by_pyright(folder: Path) -> set[tuple[str, int]]:
    """Without the project's settings: a user has others."""
    done = check("pyright", "--outputjson", "--pythonpath", sys.executable)
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {(Path(one["file"]).name, one["range"]["start"]["line"] + 1) for one in found if one["severity"] == "error"}


def check(program: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", program, *options, str(RIGHT), str(WRONG)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    return done


@pytest.mark.parametrize("checker", [by_mypy, by_pyright])
def test_what_is_wrong_is_found_and_nothing_else(checker: object, tmp_path: Path) -> None:
    assert callable(checker)
    wrong = {
        (WRONG.name, number)
        for number, line in enumerate(WRONG.read_text("utf-8").splitlines(), 1)
        if line.endswith("# wrong")
    }
    assert checker(tmp_path) == wrong
