"""What a benchmark found: figures with their spread, as a table for people and as JSON for machines.

A figure is the median of its samples, its spread the middle half of them. Where there is a target, the figure says
whether it is reached; where we lose, the table says so.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen

import wanasync

__all__ = ["FOLDER", "Figure", "Report", "at_least", "at_most", "figure", "load", "number"]

FOLDER = Path(__file__).parent / "results"


@frozen
class Target:
    """What is aimed at: `value` or more, or (`is_ceiling`) or less."""

    value: float
    is_ceiling: bool

    def is_reached_by(self, value: float) -> bool:
        return value <= self.value if self.is_ceiling else value >= self.value

    def __str__(self) -> str:
        return f"{'≤' if self.is_ceiling else '≥'} {self.value:g}"


def at_most(value: float) -> Target:
    return Target(value, is_ceiling=True)


def at_least(value: float) -> Target:
    return Target(value, is_ceiling=False)


@frozen
class Figure:
    """One number: of which `subject` (wanasync, aiohttp, curl …), in which `case`, which `quantity`.

    `low` and `high` are the quartiles of `samples` samples; equal to `value` where there is one only.
    """

    case: str
    subject: str
    quantity: str
    value: float
    low: float
    high: float
    samples: int
    target: Target | None = None

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        return f"{'✓' if self.target.is_reached_by(self.value) else '✗'} {self.target}"

    @property
    def shown(self) -> str:
        if self.low == self.high:
            return number(self.value)
        return f"{number(self.value)} ({number(self.low)}–{number(self.high)})"


def figure(case: str, subject: str, quantity: str, samples: Sequence[float], target: Target | None = None) -> Figure:
    """The median of `samples` with its quartiles."""
    low, value, high = statistics.quantiles(
        [*samples, *samples[:1]] if len(samples) == 1 else samples, n=4, method="inclusive"
    )
    return Figure(case, subject, quantity, value, low, high, len(samples), target)


def number(value: float) -> str:
    """As people read it: three digits or so, a dash for none."""
    if value != value:
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}".rstrip("0").rstrip(".")


def _machine() -> str:
    return (
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores"
    )


@frozen
class Report:
    """All figures of one benchmark's run. `quick` runs only show that it works; they are not kept."""

    benchmark: str
    title: str
    figures: Sequence[Figure]
    notes: Sequence[str] = ()
    quick: bool = False
    machine: str = field(factory=_machine)
    version: str = wanasync.__version__
    at: float = field(factory=time.time)

    def __str__(self) -> str:
        """A line for each subject of each case, a column for each quantity."""
        quantities = list(dict.fromkeys(each.quantity for each in self.figures))
        cells: dict[tuple[str, str], dict[str, str]] = {}
        for each in self.figures:
            cells.setdefault((each.case, each.subject), {})[each.quantity] = (
                f"{each.shown} {'' if self.quick else each.verdict}".rstrip()
            )
        rows = [["", "", *quantities]]
        rows += [[*key, *(row.get(quantity, "") for quantity in quantities)] for key, row in cells.items()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([f"{self.title} [{self.machine}]", *lines, *self.notes])

    def save(self, folder: Path = FOLDER) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.benchmark}.json"
        path.write_text(json.dumps(attrs.asdict(self), indent=1, ensure_ascii=False) + "\n", "utf-8")
        return path

    def of(self, subject: str, quantity: str) -> list[Figure]:
        return [each for each in self.figures if each.subject == subject and each.quantity == quantity]


def load(benchmark: str, folder: Path = FOLDER) -> Report | None:
    """The last kept report; None where there is none."""
    path = folder / f"{benchmark}.json"
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    content["figures"] = [
        Figure(**{**each, "target": Target(**each["target"]) if each["target"] else None})
        for each in content["figures"]
    ]
    return Report(**content)
