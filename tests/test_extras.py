"""Whoever lacks an extra is told, in one line, which command brings it: for each extra and each way to miss it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from attrs import frozen

ROOT = Path(__file__).parents[1]
FOR_DEVELOPERS = {"all", "bench", "dev", "docs", "test"}
NEVER_MISSED = {"fonts"}
"""Without them scripts are named instead of written: tests/emulator/test_fonts.py."""

SESSION = """
import asyncio, wanasync
async def main():
    async with wanasync.WanSession("k", "http://127.0.0.1:9", shared_limit="postgresql://nobody@127.0.0.1:1/x"): pass
asyncio.run(main())
"""
MAILBOX = "from wanasync.cluster import PostgresMailbox"
JOURNAL = """
import asyncio, wanasync
async def main():
    async with wanasync.BatchHistory("films", journal="postgresql://nobody@127.0.0.1:1/x"): pass
asyncio.run(main())
"""


def command(*words: str) -> str:
    return f"import sys; from wanasync.cli import main; sys.exit(main({list(words)!r}))"


@frozen
class Missed:
    """A program of somebody's who has all but some libraries of an extra."""

    extra: str
    libraries: tuple[str, ...]
    program: str


MISSED = (
    Missed("cli", ("typer",), command("--version")),
    Missed("cli", ("rich",), command("--version")),
    Missed("emulator", ("av",), command("run", "list.txt", "--emulator")),
    Missed("emulator", ("PIL",), command("emulator", "--port", "0")),
    Missed("cluster", ("psycopg",), command("cluster", "init", "--database", "postgresql://127.0.0.1:1/x")),
    Missed("cluster", ("procrastinate",), command("cluster", "submit", "list.txt", "--database", "postgresql://x/x")),
    Missed("cluster", ("psycopg",), command("cluster", "status", "films", "--database", "postgresql://127.0.0.1:1/x")),
    Missed("cluster", ("psycopg", "psycopg_pool"), SESSION),
    Missed("cluster", ("psycopg_pool",), JOURNAL),
    Missed("cluster", ("psycopg",), MAILBOX),
    Missed("objects", ("obstore",), command("run", "list.txt", "--to", "s3://bucket/films", "--emulator")),
    Missed("objects", ("obstore",), command("generate", "a cat", "--to", "s3://bucket/cat.mp4", "--emulator")),
    Missed("parquet", ("pyarrow",), command("run", "list.txt", "--table", "films.parquet", "--emulator")),
    Missed("opentelemetry", ("opentelemetry",), "from wanasync.telemetry import OpenTelemetry"),
    Missed("prometheus", ("prometheus_client",), "from wanasync.telemetry import Prometheus"),
)


def test_each_extra_is_missed_by_somebody() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert {missed.extra for missed in MISSED} == set(declared) - FOR_DEVELOPERS - NEVER_MISSED


@pytest.mark.parametrize("missed", MISSED, ids=lambda missed: f"{missed.extra} without {missed.libraries[0]}")
def test_the_last_line_says_what_to_install(missed: Missed, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a cat\n")
    hidden = f"import sys; sys.modules.update(dict.fromkeys({missed.libraries!r}))\n"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WAN_")}
    ended = subprocess.run(
        [sys.executable, "-c", hidden + missed.program],
        cwd=tmp_path,
        env={**environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode in (1, 2), ended
    assert f"pip install 'wanasync[{missed.extra}]'" in ended.stderr.splitlines()[-1], ended.stderr
    if "cli import main" in missed.program:
        assert (ended.returncode, ended.stdout, "Traceback" in ended.stderr) == (2, "", False), ended
        assert os.listdir(tmp_path) == ["list.txt"]
