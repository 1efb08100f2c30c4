"""Completion as shells ask for it, and as it is installed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def wanasync(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wanasync", *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )


def offered(line: str) -> list[str]:
    count = str(line.count(" "))
    return wanasync(_WANASYNC_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=count).stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("wanasync sta", ["status"]),
        ("wanasync run --quality 4", ["480p"]),
        ("wanasync run --aspect-ratio 4", ["4:3"]),
        ("wanasync generate --duration ", ["5", "10"]),
        ("wanasync run --on-unknown re", ["replay", "resubmit"]),
        ("wanasync run --format js", ["jsonl", "json"]),
    ],
)
def test_words_are_offered(line: str, words: list[str]) -> None:
    assert offered(line) == words


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `--install-completion` puts into a new home."""
    home = tmp_path_factory.mktemp("home")
    command = f"{sys.executable} -m wanasync --install-completion; exit $?"
    subprocess.run(["bash", "-c", command], check=True, capture_output=True, env={**os.environ, "HOME": str(home)})
    assert "wanasync" in (home / ".bashrc").read_text()
    return (home / ".bash_completions" / "wanasync.sh").read_text()


@pytest.mark.parametrize("line", ["wanasync run vid", "wanasync gallery vid", "wanasync run --to vid"])
def test_files_and_directories_are_left_to_bash(line: str, script: str) -> None:
    typed = f"""
        {script}
        COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _wanasync_completion '{sys.executable} -m wanasync'
        echo "${{#COMPREPLY[@]}}"; complete -p wanasync
    """
    done = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["0", "complete -o default -F _wanasync_completion wanasync"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_shown(shell: str) -> None:
    shown = wanasync("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1").stdout
    assert f"complete_{shell}" in shown
