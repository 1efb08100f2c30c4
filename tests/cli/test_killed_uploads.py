"""A run that is killed while it uploads: nothing half-written under a name, nothing paid or made twice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.s3 import S3, Answer, Environ, s3, s3_machine
from wanasync.edges import objects
from wanasync.emulator import Emulator

__all__ = ["s3", "s3_machine"]

ROOT = Path(__file__).parent.parent.parent

PROGRAM = """
import sys
from wanasync.edges import objects
objects.SINGLE = int(sys.argv[1])
from wanasync.cli import main
sys.exit(main(sys.argv[2:]))
"""


def arguments(s3: S3) -> list[str]:
    return ["run", "x.txt", "--to", s3.url, "--state", "state", "--quiet"]


def run(s3: S3, single: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(single), *arguments(s3)], env=environment)


@pytest.mark.parametrize(
    ("single", "is_there"),
    [(2**24, False), (2**24, True), (0, False)],
    ids=["within the upload", "before it was noted", "within an upload in parts"],
)
def test_a_killed_upload_is_finished_by_the_next_run(
    emulate: Callable[..., Emulator],
    wanasync: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    s3: S3,
    single: int,
    is_there: bool,
) -> None:
    emulator = emulate(videos="tiny")
    Path("x.txt").write_text("A cat\n")
    killed: list[subprocess.Popen[bytes]] = []

    def kill(environ: Environ, start: Callable[..., Any], app: Answer) -> Iterable[bytes]:
        if is_there:
            answer = list(app(environ, start))
        else:
            environ["wsgi.input"].read(100)
            start("500 Gone", [])
            answer = []
        killed[0].kill()
        killed[0].wait()
        return answer

    s3.troubles.append(kill)
    killed.append(run(s3, single))
    assert killed[0].wait(60) == -9
    assert list(s3.objects()) == (["0001-a-cat.mp4"] if is_there and single else [])
    monkeypatch.setattr(objects, "SINGLE", single)
    assert wanasync(*arguments(s3)).code == 0
    (size,) = s3.objects().values()
    assert size == len(s3.content("0001-a-cat.mp4")) > 0
    assert len(emulator.ledger.entries) == 1
    assert [path.name for path in Path("state").rglob("*.mp4")] == []
