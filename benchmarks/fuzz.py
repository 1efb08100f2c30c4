"""Hostile replies, lists and journals, by the hundred thousand: `python -m benchmarks.fuzz --examples 100000`.

What is generated, and what must hold, stands in tests/security/fuzz_*.py; the suite tries some hundreds of each. The
first example that breaks a rule is made small and shown, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

from tests.security import fuzz_journals, fuzz_lists, fuzz_replies

TARGETS: dict[str, Any] = {"replies": fuzz_replies, "lists": fuzz_lists, "journals": fuzz_journals}


def main() -> int:
    arguments = _arguments()
    found = [_fuzz(name, TARGETS[name], arguments.examples, arguments.seed) for name in arguments.targets]
    return 1 if any(found) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100_000, help="of each")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--targets", nargs="*", choices=TARGETS, default=list(TARGETS))
    return parser.parse_args()


def _fuzz(name: str, target: Any, examples: int, number: int) -> bool:
    """Whether a rule was broken."""
    tried = 0

    def attempt(example: Any) -> None:
        nonlocal tried
        tried += 1
        target.check(example)

    began = time.monotonic()
    failed = False
    try:
        _prepared(attempt, target.strategy, examples, number)()
    except Exception:  # noqa: BLE001 — what is looked for
        traceback.print_exc()
        failed = True
    seconds = time.monotonic() - began
    verdict = "FAILED" if failed else "only errors of our tree"
    print(f"{name}: {tried:,} examples in {seconds:.0f} s (seed {number}): {verdict}", flush=True)
    return failed


def _prepared(attempt: Callable[[Any], None], strategy: Any, examples: int, number: int) -> Callable[[], None]:
    given_to = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.normal,
    )
    prepared: Callable[[], None] = seed(number)(given_to(given(strategy)(attempt)))  # type: ignore[no-untyped-call]
    return prepared


if __name__ == "__main__":
    sys.exit(main())
