"""Figures keep their spread and verdict on the way to the file and back."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.results import Report, at_least, at_most, figure, load


def test_a_figure_is_the_median_with_its_middle_half() -> None:
    found = figure("1 at once", "wanasync", "CPU", [9.0, 1.0, 3.0, 2.0, 4.0])
    assert (found.low, found.value, found.high, found.samples) == (2.0, 3.0, 4.0, 5)


def test_one_sample_has_no_spread() -> None:
    found = figure("1 at once", "wanasync", "CPU", [3.0])
    assert (found.low, found.value, found.high) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize(
    ("target", "value", "sign"),
    [(at_most(1.15), 1.15, "✓"), (at_most(1.15), 1.16, "✗"), (at_least(5), 5.0, "✓"), (at_least(5), 4.9, "✗")],
)
def test_the_table_says_whether_a_target_is_reached(target: object, value: float, sign: str) -> None:
    report = Report("overhead", "Overhead", [figure("1", "wanasync", "CPU", [value], target)])  # type: ignore[arg-type]
    assert f"{sign} {target}" in str(report)


def test_a_quick_run_judges_nothing() -> None:
    report = Report("overhead", "Overhead", [figure("1", "wanasync", "CPU", [9.0], at_most(1))], quick=True)
    assert "✗" not in str(report)


def test_a_report_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    figures = [figure("1", "wanasync", "CPU", [1.0, 2.0, 4.0], at_most(2)), figure("1", "aiohttp", "CPU", [1.0])]
    report = Report("overhead", "Overhead", figures, ["a note"])
    report.save(tmp_path)
    again = load("overhead", tmp_path)
    assert again is not None
    assert str(again) == str(report)
    assert again.figures == figures
    assert math.isclose(again.at, report.at)


def test_no_file_is_no_report(tmp_path: Path) -> None:
    assert load("overhead", tmp_path) is None
