"""Hostile replies, lists, journals and callbacks, by the hundred thousand: `python -m benchmarks.fuzz`.

What is made, and what must hold, stands in tests/security/fuzz_*.py; the suite tries some hundreds of each, with
hypothesis, which makes small what fails. Here plain dice are a hundred times as fast. Each example has a number, which
makes it again: the first that breaks a rule is shown with the command that does so, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from random import Random
from typing import Any

from tests.security import fuzz_callbacks, fuzz_journals, fuzz_lists, fuzz_replies

TARGETS: dict[str, Any] = {
    "replies": fuzz_replies,
    "lists": fuzz_lists,
    "journals": fuzz_journals,
    "callbacks": fuzz_callbacks,
}


def main() -> int:
    arguments = _arguments()
    numbers = range(arguments.first, arguments.first + arguments.examples)
    sound = [_fuzz(name, numbers) for name in arguments.targets]
    return 0 if all(sound) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=100_000, help="of each")
    parser.add_argument("--first", type=int, default=0, metavar="NUMBER", help="of the first example")
    parser.add_argument("--targets", nargs="*", choices=TARGETS, default=list(TARGETS))
    return parser.parse_args()


def _fuzz(name: str, numbers: range) -> bool:
    """Whether all rules held."""
    began = time.monotonic()
    for number in numbers:
        if not _holds(name, number):
            return False
    seconds = time.monotonic() - began
    shown = f"numbers {numbers[0]:,} to {numbers[-1]:,}"
    print(f"{name}: {len(numbers):,} examples in {seconds:.0f} s ({shown}): only errors of our tree", flush=True)
    return True


def _holds(name: str, number: int) -> bool:
    target = TARGETS[name]
    example = target.example(Random(number))
    try:
        target.check(example)
    except Exception:  # noqa: BLE001 — what is looked for
        traceback.print_exc()
        print(f"{name}: FAILED at {example!r:.2000}")
        print(f"again: python -m benchmarks.fuzz --targets {name} --first {number} --examples 1", flush=True)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
