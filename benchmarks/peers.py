"""Beside SDKs of other vendors for APIs of this shape: `python -m benchmarks.peers [--rounds 15]`.

Each submits and polls its own kind of task, against the same bare server that speaks each one's dialect: CPU of the
client's process per request, and requests a second, 100 cycles at once. And: how often does each send a submission
whose reply is lost? Each further POST may be a second video that is paid for.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import urllib.request
from collections.abc import Iterator

from benchmarks import clients, server
from benchmarks.overhead import Costs, take_turns
from benchmarks.results import Figure, Report, at_least, at_most, figure

__all__ = ["measure"]

PACKAGES = {"openai": "openai", "fal-client": "fal_client", "replicate": "replicate", "runwayml": "runwayml"}
OURS = "wanasync"
CONCURRENCY = 100


def _installed() -> list[str]:
    return [name for name, package in PACKAGES.items() if importlib.util.find_spec(package)]


def _figures(costs: Costs) -> Iterator[Figure]:
    case = f"{CONCURRENCY} at once"
    cpu = {name: [cost.cpu_a_request * 1e6 for cost in blocks] for name, blocks in costs.items()}
    pace = {name: [cost.requests_a_second for cost in blocks] for name, blocks in costs.items()}
    for name in costs:
        yield figure(case, name, "CPU µs a request", cpu[name])
        yield figure(case, name, "requests a second", pace[name])
        if name in PACKAGES:
            dearer = [theirs / ours for theirs, ours in zip(cpu[name], cpu[OURS], strict=True)]
            faster = [ours / theirs for theirs, ours in zip(pace[name], pace[OURS], strict=True)]
            yield figure(case, name, "CPU ÷ wanasync", dearer, at_least(6))
            yield figure(case, name, "wanasync's requests a second ÷ its", faster, at_least(5))


def _lost(port: int, name: str) -> Figure:
    """How many POSTs arrive of one submission whose replies are all lost."""
    with clients.running(name, port, clients.LOSSES) as process:
        process.answer()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/counted/{name}", timeout=10) as reply:
        count = json.load(reply)
    return figure("the reply is lost", name, "POSTs of one submission", [count], at_most(1) if name == OURS else None)


def measure(*, rounds: int = 15, cycles: int = 200, quick: bool = False) -> Report:
    peers = _installed()
    if quick:
        # Some go on for a minute where the reply is lost.
        rounds, cycles, peers = 1, 20, [name for name in peers if name == "openai"]
    with server.running() as port:
        figures = list(_figures(take_turns(["aiohttp", OURS, *peers], port, CONCURRENCY, cycles, rounds)))
        figures += [_lost(port, name) for name in ("aiohttp", OURS, *peers)]
    missing = [name for name in PACKAGES if name not in _installed()]
    notes = [f"not installed: {', '.join(missing)} (pip install 'wanasync[bench]')"] if missing else []
    return Report("peers", "Beside SDKs of other vendors: submit + poll", figures, notes, quick)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    print(measure(rounds=given.rounds))


if __name__ == "__main__":
    main()
