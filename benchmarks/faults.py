"""Each fault of the emulator's table on a tenth of all requests: `python -m benchmarks.faults --items 1000`.

A round has one fault of each lane (submissions, queries, downloads, tasks, …); there are as many rounds as the lane
with the most faults has. Each is a batch in virtual time, and the same batch again without trouble. Asked is that each
item is saved or told, that nothing is paid twice, that all that was paid for is saved, failed or unknown at the end,
and that there is no warning and no exception that nobody took.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.security.faults import Account, Round, everything, rounds, suffer
from wanasync.testing import run


def main() -> int:
    arguments = _arguments()
    logging.getLogger("wanasync").setLevel(logging.ERROR)
    planned = [Round(("all at once",), everything()), *rounds()][:: arguments.every]
    accounts = [_run(one, arguments) for one in planned]
    _summary(accounts)
    return 1 if any(account.problems for account in accounts) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1000, help="of each round")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each Nth round")
    parser.add_argument("--directory", type=Path, help="where the videos of a round lie meanwhile")
    return parser.parse_args()


def _run(one: Round, arguments: argparse.Namespace) -> Account:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        account = run(suffer(arguments.items, Path(directory), one.trouble))
    seconds = time.monotonic() - began
    counts = ", ".join(f"{count} {state}" for state, count in account.told.most_common())
    verdict = f"{len(account.problems)} PROBLEMS" if account.problems else "ok"
    print(f"{verdict:<4} {seconds:5.1f} s  {counts:<60}  {', '.join(one.faults)}", flush=True)
    for problem in account.problems[:5]:
        print(f"       {problem[:500]}", flush=True)
    return account


def _summary(accounts: list[Account]) -> None:
    told: Counter[str] = Counter()
    for account in accounts:
        told.update(account.told)
    problems = sum(len(account.problems) for account in accounts)
    items = sum(account.items for account in accounts)
    print(
        f"{len(accounts)} rounds, {items:,} items, {told.total():,} told ({told['saved']:,} saved), {problems} problems"
    )


if __name__ == "__main__":
    sys.exit(main())
