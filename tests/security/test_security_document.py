"""SECURITY.md says which test holds which threat: each of them is there, and no threat goes without."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TESTS = ROOT / "tests"


def defined_in(folder: Path) -> set[str]:
    return {
        node.name
        for file in folder.rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def named() -> set[str]:
    return set(re.findall(r"`(test_\w+)`", (ROOT / "SECURITY.md").read_text("utf-8")))


def test_every_test_that_is_named_is_there() -> None:
    assert named() - defined_in(TESTS) == set()


def test_every_threat_has_a_test() -> None:
    rows = [line for line in (ROOT / "SECURITY.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    threats = rows[next(place for place, row in enumerate(rows) if row.startswith("| threat")) :]
    bare = [row for row in threats if "`test_" not in row and not row.startswith("| threat")]
    assert bare == []
