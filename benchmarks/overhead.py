"""What the SDK costs beyond raw aiohttp: `python -m benchmarks.overhead [--rounds 60] [--instructions]`.

CPU of the client's process per request of the cycle "submit, then poll once", against the same server. Each client has
a process of its own, and these take turns in short blocks, so each round gives one ratio that the machine's other work
hardly touches. The processes are started anew a few times, since where things land in memory is worth some per cent.

*wanasync* is everything: gate, at-most-once submission, poller, records. *session* polls by hand instead; *calls* is
only the transport and what understands replies. *aiohttp, tuned* is raw aiohttp with the allocator trick that wanasync
plays as well: against it stands what our own code costs.

Instructions, counted by valgrind, hardly depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import clients, server
from benchmarks.results import Figure, Report, Target, at_most, figure

__all__ = ["measure"]

SUBJECTS = ("aiohttp", "aiohttp, tuned", "wanasync calls", "wanasync session", "wanasync")
CONCURRENCY = (1, 20, 100)
INSTRUCTION_CYCLES = 60
BASELINE, TUNED = "aiohttp", "aiohttp, tuned"
TARGET = at_most(1.15)
INSTRUCTIONS_TARGET = at_most(1.28)

Costs = dict[str, list[clients.Cost]]


def take_turns(names: Sequence[str], port: int, concurrency: int, cycles: int, rounds: int) -> Costs:
    """`rounds` blocks of each client, one after the other; the first to go changes from round to round."""
    costs: Costs = defaultdict(list)
    with contextlib.ExitStack() as stack:
        processes = {name: stack.enter_context(clients.running(name, port)) for name in names}
        for process in processes.values():
            process.answer()
            process.run(cycles, concurrency)
        for number in range(rounds):
            turn = number % len(names)
            for name in (*names[turn:], *names[:turn]):
                costs[name].append(processes[name].run(cycles, concurrency))
    return costs


def _figures(case: str, costs: Costs) -> Iterator[Figure]:
    cpu = {name: [cost.cpu_a_request * 1e6 for cost in blocks] for name, blocks in costs.items()}
    for name, values in cpu.items():
        yield figure(case, name, "CPU µs a request", values)
        yield from _ratio(case, name, cpu, BASELINE, TARGET if name == "wanasync" else None)
        if name.startswith("wanasync"):
            yield from _ratio(case, name, cpu, TUNED, None)


def _ratio(case: str, name: str, cpu: dict[str, list[float]], base: str, target: Target | None) -> Iterator[Figure]:
    if name != base:
        ratios = [ours / raw for ours, raw in zip(cpu[name], cpu[base], strict=True)]
        yield figure(case, name, f"CPU ÷ {base}", ratios, target)


def measure_cpu(port: int, at_once: Sequence[int], rounds: int, cycles: int, restarts: int) -> Iterator[Figure]:
    for concurrency in at_once:
        costs: Costs = defaultdict(list)
        for _ in range(restarts):
            for name, blocks in take_turns(SUBJECTS, port, concurrency, cycles, rounds // restarts).items():
                costs[name] += blocks
        yield from _figures(f"{concurrency} at once", costs)


# Instructions


def measure_instructions(port: int, cycles: int) -> Iterator[Figure]:
    """The difference between a long and a short run, so that starting up is not in it."""
    counts = {name: _instructions(name, port, cycles) for name in SUBJECTS if name != TUNED}
    for name, count in counts.items():
        yield figure("1 at once", name, "thousand instructions a request", [count / 1000])
        if name != BASELINE:
            target = INSTRUCTIONS_TARGET if name == "wanasync" else None
            yield figure("1 at once", name, "instructions ÷ aiohttp", [count / counts[BASELINE]], target)


def _instructions(name: str, port: int, cycles: int) -> float:
    few, many = cycles // 4, cycles
    return (_counted(name, port, many) - _counted(name, port, few)) / (many - few) / 2


def _counted(name: str, port: int, cycles: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        tool = (
            "valgrind",
            "--tool=cachegrind",
            "--cache-sim=no",
            "--cachegrind-out-file=/dev/null",
            f"--log-file={log}",
        )
        with clients.running(name, port, under=tool) as process:
            process.answer()
            process.run(cycles, 1)
        found = re.search(r"I +refs: +([\d,]+)", log.read_text())
    assert found is not None
    return int(found[1].replace(",", ""))


# Imports

IMPORTS = {
    "python": "pass",
    "import aiohttp": "import aiohttp",
    "import wanasync": "import wanasync",
    "import wanasync, all of it": "from wanasync import *",
    "wanasync --help": "import sys; sys.argv[1:] = ['--help']; from wanasync.cli import main; main()",
}
IMPORT_TARGETS = {"import wanasync, all of it": at_most(1.3), "wanasync --help": at_most(0.9)}


def measure_imports(rounds: int) -> Iterator[Figure]:
    seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as compiled:
        # As installed: what is imported is compiled already. A first round, which compiles it, is not counted.
        for number in range(rounds + 1):
            for name, program in IMPORTS.items():
                spent = _seconds_of(program, compiled)
                if number:
                    seconds[name].append(spent)
    for name, values in seconds.items():
        yield figure("start", name, "CPU ms", [value * 1000 for value in values])
        ratios = [own / theirs for own, theirs in zip(values, seconds["import aiohttp"], strict=True)]
        yield figure("start", name, "CPU ÷ import aiohttp", ratios, IMPORT_TARGETS.get(name))


def _seconds_of(program: str, compiled: str) -> float:
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, program
    return used.ru_utime + used.ru_stime


def measure(
    *, rounds: int = 60, cycles: int = 150, restarts: int = 3, instructions: bool = True, quick: bool = False
) -> Report:
    figures: list[Figure] = []
    notes = ["aiohttp, tuned: raw aiohttp with the allocator trick that wanasync plays"]
    at_once: Sequence[int] = CONCURRENCY
    if quick:
        at_once, rounds, cycles, restarts, instructions = (20,), 2, 20, 1, False
    with server.running() as port:
        figures += measure_cpu(port, at_once, rounds, cycles, restarts)
        if instructions and shutil.which("valgrind"):
            figures += measure_instructions(port, INSTRUCTION_CYCLES)
        elif not quick:
            notes.append("instructions were not counted: no valgrind")
    figures += measure_imports(max(rounds // 3, 1))
    return Report("overhead", "What the SDK costs beyond raw aiohttp", figures, notes, quick)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--cycles", type=int, default=150, help="of a block")
    parser.add_argument("--no-instructions", action="store_true")
    given = parser.parse_args()
    report = measure(rounds=given.rounds, cycles=given.cycles, instructions=not given.no_instructions)
    print(report)


if __name__ == "__main__":
    main()
