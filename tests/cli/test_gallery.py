from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import Ended
from tests.gallery.making import make_batch
from wanasync.emulator import Emulator

Run = Callable[..., Ended]


def test_a_report_is_written_and_its_path_printed(wanasync: Run, tmp_path: Path) -> None:
    asyncio.run(make_batch(tmp_path / "v"))
    ended = wanasync("report", "v")
    assert (ended.code, ended.out) == (0, "v/index.html\n")
    assert (tmp_path / "v" / "index.html").is_file()


def test_a_strangers_page_is_told_and_kept(wanasync: Run, tmp_path: Path) -> None:
    asyncio.run(make_batch(tmp_path / "v", ["planned"]))
    (tmp_path / "v" / "index.html").write_text("mine")
    ended = wanasync("report", "v")
    assert ended.code == 2
    assert "--overwrite" in ended.err
    assert wanasync("report", "v", "--overwrite").code == 0


def test_a_directory_without_a_batch_is_bad_input(wanasync: Run, tmp_path: Path) -> None:
    assert wanasync("report", ".").code == 2
    assert wanasync("gallery", ".", "--no-open").code == 2


def test_a_run_with_a_gallery_leaves_a_report(wanasync: Run, emulate: Callable[..., Emulator], tmp_path: Path) -> None:
    emulate(videos="tiny")
    Path("list.txt").write_text("a cat\na dog\n")
    ended = wanasync("run", "list.txt", "--to", "v", "--gallery", "--no-open")
    assert ended.code == 0, ended.err
    assert re.search(r"gallery  http://127\.0\.0\.1:\d+/[\w-]+/", ended.err)
    assert "wanasync run list.txt --to v --gallery --no-open" in (tmp_path / "v" / "index.html").read_text("utf-8")


def test_the_gallery_is_served_until_it_is_interrupted(tmp_path: Path) -> None:
    asyncio.run(make_batch(tmp_path / "v", ["saved"]))
    command = [sys.executable, "-m", "wanasync", "gallery", "v", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path, env=os.environ, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        with urllib.request.urlopen(address, timeout=30) as reply:  # noqa: S310 - the gallery's own
            assert b"wanasync" in reply.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
