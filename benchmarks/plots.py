"""Reports as pictures, PNG and SVG, for the README. The only home of matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.results import Figure, Report, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

FOLDER = Path(__file__).parent.parent / "docs" / "images"
OURS, OTHERS = "#0b6e99", "#b9bec4"


def draw(report: Report, folder: Path = FOLDER) -> list[Path]:
    """The report's picture as PNG and SVG; none where it has no picture."""
    plot = _PLOTS.get(report.benchmark)
    if plot is None:
        return []
    import matplotlib as mpl

    mpl.use("Agg")
    # Equal figures give equal files.
    mpl.rcParams["svg.hashsalt"] = "wanasync"
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(7.2, 3.6), layout="constrained")
    axes = picture.subplots()
    plot(axes, report)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{report.benchmark}.{suffix}" for suffix in ("png", "svg")]
    for path in paths:
        picture.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths


def _color(subject: str) -> str:
    return OURS if subject.startswith(("wanasync", "learned", "journal")) else OTHERS


def _bars(axes: Axes, figures: Sequence[Figure], label: Callable[[Figure], str], unit: str) -> None:
    """Horizontal bars with their spread and value."""
    places = range(len(figures), 0, -1)
    spread = ([each.value - each.low for each in figures], [each.high - each.value for each in figures])
    colors = [_color(each.subject) for each in figures]
    axes.barh(places, [each.value for each in figures], xerr=spread, color=colors, ecolor="#333333")
    for place, each in zip(places, figures, strict=True):
        axes.annotate(number(each.value), (each.high, place), (5, 0), textcoords="offset points", va="center")
    axes.set_yticks(list(places), [label(each) for each in figures])
    axes.set_xlabel(unit)


def _pace(axes: Axes, report: Report) -> None:
    marks = dict(
        zip(dict.fromkeys(each.case for each in report.of("gather with backoff", "refusals")), "os^D", strict=False)
    )
    subjects = {
        "wanasync": OURS,
        "gather with backoff": "#c0392b",
        "semaphore of 20": "#7f8c8d",
        "limiter told 60 / min": "#e0a030",
    }
    used = {(each.case, each.subject): each.value for each in report.figures if each.quantity == "utilisation"}
    for each in report.figures:
        if each.quantity == "refusals" and each.case in marks and each.subject in subjects:
            place = (each.value + 1, used[each.case, each.subject] * 100)
            axes.scatter(*place, marker=marks[each.case], color=subjects[each.subject], s=60, alpha=0.85)
    for subject, color in subjects.items():
        axes.scatter([], [], color=color, label=subject)
    for case, mark in marks.items():
        axes.scatter([], [], color="none", edgecolor="#333333", marker=mark, label=case.removesuffix(", static hint"))
    axes.set_xscale("log")
    axes.set_xlabel("refusals (429) + 1 for 2,000 submissions")
    axes.set_ylabel("use of the limit, %")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def _follow(axes: Axes, report: Report) -> None:
    compared = {each.case for each in report.figures if each.subject in ("fixed interval", "exponential")}
    figures = [each for each in report.figures if each.quantity == "lag s" and each.case in compared]
    _bars(axes, figures, lambda each: f"{each.case}: {each.subject}", "seconds from done to known")


def _save(axes: Axes, report: Report) -> None:
    figures = [each for each in report.figures if each.quantity == "MB/s"]
    _bars(axes, figures, lambda each: f"{each.case}: {each.subject}", "MB/s, saved and verified")


def _overhead(axes: Axes, report: Report) -> None:
    figures = [each for each in report.figures if each.quantity == "CPU ÷ aiohttp"]
    _bars(axes, figures, lambda each: f"{each.case}: {each.subject}", "CPU per request ÷ raw aiohttp's")
    axes.axvline(1, color="#333333", linewidth=0.8)


def _peers(axes: Axes, report: Report) -> None:
    figures = [each for each in report.figures if each.quantity == "CPU µs a request"]
    _bars(axes, figures, lambda each: each.subject, "CPU µs per request, submit + poll, 100 at once")


def _journal(axes: Axes, report: Report) -> None:
    figures = report.of("journal", "records a second")
    _bars(axes, figures, lambda each: each.case, "durable records a second")


def _cluster(axes: Axes, report: Report) -> None:
    """Items worked off in a second over the number of workers."""
    rates = report.of("wanasync", "no-op items/s")
    axes.bar([each.case.split(", ")[1] for each in rates], [each.value for each in rates], color=OURS, width=0.5)
    axes.axhline(1500, color="#333333", linewidth=0.8)
    axes.set_ylabel("items claimed and answered a second")


def _cluster_gate(axes: Axes, report: Report) -> None:
    """The use of each limit over the number of processes."""
    used = [each for each in report.figures if each.quantity == "% of the limit"]
    for case in dict.fromkeys(each.case for each in used):
        line = [each for each in used if each.case == case]
        style = "D" if case.startswith("PostgreSQL") else "o-"
        axes.plot([int(each.subject.split()[1]) for each in line], [each.value for each in line], style, label=case)
    axes.axhline(95, color="#333333", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("processes on one key")
    axes.set_ylabel("use of the limit, %")
    axes.legend(fontsize=7, frameon=False)


_PLOTS: dict[str, Callable[[Axes, Report], None]] = {
    "pace": _pace,
    "follow": _follow,
    "save": _save,
    "overhead": _overhead,
    "peers": _peers,
    "journal": _journal,
    "cluster": _cluster,
    "cluster_gate": _cluster_gate,
}
