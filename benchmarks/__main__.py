"""Run benchmarks: `python -m benchmarks [NAME …] [--quick]`.

Prints a table each, writes the figures to benchmarks/results/NAME.json and draws them into docs/images/. With
`--quick` a short one of each runs, which only shows that it works: nothing is kept. Needs the extra `bench`. A single
one with its own options: `python -m benchmarks.NAME --help`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import time
import warnings

from benchmarks.results import Report

NAMES = ("pace", "follow", "crowd", "save", "overhead", "peers", "journal", "scale", "cluster", "cluster_gate")


def run(name: str, *, quick: bool) -> Report:
    report: Report = importlib.import_module(f"benchmarks.{name}").measure(quick=quick)
    return report


def keep(report: Report) -> None:
    print(f"written: {os.path.relpath(report.save())}")
    from benchmarks import plots

    for path in plots.draw(report):
        print(f"drawn: {os.path.relpath(path)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", choices=[[], *NAMES], metavar="NAME", help=f"of {', '.join(NAMES)}; all by default"
    )
    parser.add_argument("--quick", action="store_true", help="only show that they work")
    given = parser.parse_args()
    warnings.simplefilter("ignore", ResourceWarning)
    for name in given.names or NAMES:
        started = time.monotonic()
        report = run(name, quick=given.quick)
        print(report)
        if not given.quick:
            keep(report)
        print(f"{name}: {time.monotonic() - started:.0f} s\n", flush=True)


if __name__ == "__main__":
    main()
