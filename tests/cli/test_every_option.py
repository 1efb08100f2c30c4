"""Each command and option that `--help` shows is run, in company: that it does what it says, its own tests hold."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.cli.conftest import KEY, Ended
from tests.helpers.postgres import database, kept_database, postgres_server
from wanasync.cli.app import app
from wanasync.emulator import Emulator

__all__ = ["database", "kept_database", "postgres_server"]

Command = Callable[..., Ended]
Emulate = Callable[..., Emulator]

REQUEST = "--quality 480p --aspect-ratio 1:1 --duration 5 --model wan2.5-text-to-video --no-prompt-extend"
WHOM = "--api-key KEY --base-url URL"
UNKNOWN = "--on-unknown hold"
PACE = "--max-rpm 600 --max-concurrent 50"

COMMANDS = (
    "--version",
    f"run list.txt --to films --format txt --name {{index}}-{{slug}}.mp4 --table films.csv --budget 100 --limit 9 "
    f"--retry-failed 1 {REQUEST} {WHOM} {UNKNOWN} {PACE} --json --plain",
    "run list.txt --to memory://options/films --state journal --quiet",
    "run list.txt --to films --dry-run --verbose",
    "run list.txt --to shown --gallery --no-open --emulator --quality 480p",
    f"generate 'A cat' --to one.mp4 {REQUEST} --timeout 60 {WHOM} {UNKNOWN} --json --plain --verbose",
    "generate 'A cat' --to memory://options/one.mp4 --state journal-of-one --quiet",
    "generate 'A cat' --to emulated.mp4 --emulator --quality 480p",
    f"submit 'A cat' 'A dog' {REQUEST} {WHOM} {UNKNOWN} --json",
    f"fetch ID --to fetched {WHOM} --json --quiet",
    "fetch --ids ids.txt --recent 1 --to recent",
    "fetch ID --to memory://options/fetched --state journal-of-fetched",
    "status films --table films.jsonl --json",
    f"status ID {WHOM}",
    "report films --overwrite --open",
    f"credits {WHOM} --json",
    "credits --emulator",
    f"config {WHOM} {UNKNOWN} --json",
)
ENDLESS = (
    "gallery films --port 0 --no-open",
    "emulator --host 127.0.0.1 --port 0 --task-seconds 1 2 --videos tiny --credit 9 --api-key KEY --errors string "
    "--trouble cut_downloads=0.2 --limit 5 --per 10 --limiter sliding --concurrent 3 --hint header",
)
CLUSTER = (
    "cluster init --database DATABASE --quiet",
    f"cluster submit list.txt --batch autumn --to films --format txt --budget 100 --limit 9 {REQUEST} "
    "--database DATABASE --json",
    "cluster submit list.txt --batch autumn --to films --quiet",
    f"cluster worker --only submit --to films --state passing --retry-failed 1 --rescue-after 5 --database DATABASE "
    f"{WHOM} {UNKNOWN} {PACE} --quiet --verbose",
    "cluster status autumn --database DATABASE --json",
    "status autumn --database DATABASE",
    "report autumn --to films --database DATABASE",
    f"cluster resolve autumn --to films --database DATABASE {WHOM} {UNKNOWN} --json",
)
ELSEWHERE = {
    "--help": "test_app.py",
    "--install-completion": "test_completion.py",
    "--show-completion": "test_completion.py",
    "gallery --to": "tests/cluster/test_looking.py",
    "gallery --database": "tests/cluster/test_looking.py",
    "cluster init --role": "tests/postgres/test_migrations.py, tests/cluster",
    "cluster resolve --found": "tests/cluster/test_commands.py",
    "cluster resolve --drop": "tests/cluster/test_commands.py",
}


def leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for word, below in getattr(command, "commands", {}).items():
        yield from leaves(f"{name} {word}".strip(), below)


def test_each_option_is_in_one_of_these_commands() -> None:
    """A new option is tried by one word more in a line above."""
    calls = [shlex.split(line) for line in (*COMMANDS, *ENDLESS, *CLUSTER)]
    left = []
    for name, command in leaves("", typer.main.get_command(app)):
        depth = len(name.split())
        tried = {word for call in calls if call[:depth] == name.split() for word in call[depth:]}
        for option in command.params:
            called = {*option.opts, *option.secondary_opts}
            known = {f"{name} {word}".strip() for word in called} & set(ELSEWHERE)
            if option.param_type_name == "option" and option.name != "help" and not called & tried and not known:
                left.append(f"{name} {option.opts[0]}")
    assert left == []


@pytest.fixture
def filled(emulate: Emulate, wanasync: Command) -> Callable[[str], list[str]]:
    """A command's words, with the placeholders filled in."""
    emulator = emulate(videos="tiny", durations=0.1)
    Path("list.txt").write_text("A cat\n")
    task_id = wanasync("submit", "A cat").out.strip()
    Path("ids.txt").write_text(task_id)
    known = {"KEY": KEY, "URL": emulator.base_url, "ID": task_id}

    def fill(line: str, **more: str) -> list[str]:
        return [{**known, **more}.get(word, word) for word in shlex.split(line)]

    return fill


def test_each_command_with_its_options(
    wanasync: Command, filled: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    for line in COMMANDS:
        ended = wanasync(*filled(line))
        assert ended.code == 0, f"{line}\n{ended.err}"
    for line in ENDLESS:
        with start(filled(line)) as process:
            assert process.stdout is not None
            assert process.stdout.readline(), line
            assert stopped(process) == 0, line
    assert [address.rpartition("/")[2] for address in opened] == ["index.html"]


def start(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "wanasync", *words], stdout=subprocess.PIPE, text=True)


def stopped(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGINT)
    return process.wait(30)


def test_each_command_for_many_machines_with_its_options(
    wanasync: Command, filled: Callable[..., list[str]], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAN_DATABASE_URL", database)
    for line in CLUSTER:
        words = filled(line, DATABASE=database)
        if "worker" not in words:
            assert wanasync(*words).code == 0, line
            continue
        with start(words) as process:
            while '"not_started"' in (told := wanasync(*filled("cluster status autumn --json")).out) or not told:
                assert process.poll() is None
                time.sleep(0.1)
            assert stopped(process) == 0
