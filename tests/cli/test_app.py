from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest

from tests.cli.conftest import KEY, Ended
from tests.docs.pages import ROOT
from wanasync import __version__
from wanasync.rules import templates
from wanasync.rules.catalog import MODELS

Command = Callable[..., Ended]

COMMANDS = ("run", "generate", "submit", "fetch", "status", "credits", "config", "emulator")


def python(script: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environ},
    )


class TestHelp:
    def test_lists_the_commands(self, wanasync: Command) -> None:
        ended = wanasync("--help")
        assert ended.code == 0
        assert all(f" {command} " in ended.out for command in COMMANDS)

    def test_is_what_a_bare_command_shows(self, wanasync: Command) -> None:
        assert "Usage:" in wanasync().out + wanasync().err

    @pytest.mark.parametrize("command", COMMANDS)
    def test_of_each_command_says_what_each_option_is_for(self, wanasync: Command, command: str) -> None:
        ended = wanasync(command, "--help")
        assert (ended.code, ended.err) == (0, "")
        assert "Usage: wanasync" in ended.out

    def test_shows_no_value_behind_options_that_take_none(self, wanasync: Command) -> None:
        lines = wanasync("run", "--help").out.splitlines()
        assert [line for line in lines if re.search(r"<bool>|<int>", line) and "--help" not in line] == []

    def test_offers_what_the_models_take(self, wanasync: Command) -> None:
        """What the catalogue gains is to be told by the flags too: wanasync/cli/options.py, docs/howto/lists.md."""
        told = " ".join(wanasync("run", "--help").out.split())
        page = (ROOT / "docs" / "howto" / "lists.md").read_text("utf-8")
        for spec in MODELS.values():
            words = [*spec.qualities, *chain(*spec.aspect_ratios.values()), *map(str, spec.durations)]
            assert [word for word in (spec.name, *words) if word not in told] == []
            assert [word for word in words if word not in page] == []

    def test_names_each_field_of_a_name(self, wanasync: Command) -> None:
        told = " ".join(wanasync("run", "--help").out.split())
        assert f"Fields: {', '.join(templates.FIELDS)}." in told.replace(" │ │ ", " ")

    def test_version(self, wanasync: Command) -> None:
        assert wanasync("--version").out == f"wanasync {__version__}\n"

    @pytest.mark.parametrize(
        "arguments", [["--help"], ["--version"], ["run", "--help"], ["config"], ["run", "--dry-run", "x.txt"]]
    )
    def test_loads_no_http_client(self, arguments: list[str]) -> None:
        Path("x.txt").write_text("a cat")
        script = (
            "import sys; from wanasync.cli import main; "
            f"code = main({arguments!r}); "
            "heavy = {'aiohttp', 'wanasync.engine', 'wanasync.edges.transport', 'av', 'PIL'} & set(sys.modules); "
            "sys.exit(f'loaded {heavy}' if heavy else code)"
        )
        done = python(script)
        assert (done.returncode, done.stderr.partition("loaded")[1]) == (0, "")

    def test_completion_loads_no_http_client(self) -> None:
        script = (
            "import sys\n"
            "from wanasync.cli import main\n"
            "try:\n    main([])\nexcept SystemExit:\n    pass\n"
            "sys.exit('aiohttp' in sys.modules)"
        )
        done = python(script, _WANASYNC_COMPLETE="complete_bash", COMP_WORDS="wanasync ru", COMP_CWORD="1")
        assert "run" in done.stdout.split()
        assert done.returncode == 0

    @pytest.mark.parametrize("missing", ["typer", "rich"])
    def test_without_its_extra_it_says_what_to_install(self, missing: str) -> None:
        script = (
            f"import sys; sys.modules[{missing!r}] = None; from wanasync.cli import main; sys.exit(main(['config']))"
        )
        done = python(script)
        assert done.returncode == 2
        assert done.stderr == "wanasync: the command line needs its extra: pip install 'wanasync[cli]'\n"

    def test_runs_as_a_module(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "wanasync", "--version"], capture_output=True, text=True, check=True
        )
        assert done.stdout == f"wanasync {__version__}\n"


class TestUsage:
    def test_a_terminal_that_knows_ascii_only_is_enough(self) -> None:
        Path("x.jsonl").write_text('{"prompt": "猫", "quality": "猫"}', encoding="utf-8")
        script = "import sys; from wanasync.cli import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", script, "run", "x.jsonl", "--dry-run"]
        environ = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
        done = subprocess.run(command, capture_output=True, env=environ, check=False)
        assert done.returncode == 2
        assert done.stderr.isascii()
        assert b'line 1, quality: "\\u732b"' in done.stderr

    @pytest.mark.parametrize(
        "arguments",
        [
            ["rn"],
            ["run"],
            ["run", "x.txt", "--limit", "0"],
            ["run", "x.txt", "--budget", "-1"],
            ["run", "x.txt", "--max-rpm", "many"],
            ["run", "x.txt", "--no-such-flag"],
            ["fetch"],
            ["fetch", "--ids", "missing.txt"],
            ["status", "no/such/directory"],
            ["emulator", "--trouble", "nonsense"],
            ["emulator", "--trouble", "cut_downloads=lots"],
            ["emulator", "--limiter", "leaky", "--limit", "5"],
            ["emulator", "--hint", "smoke"],
            ["generate", "x", "--duration", "7"],
            ["submit", "x", "--quality", "4k"],
            ["generate", " "],
        ],
    )
    def test_what_makes_no_sense_ends_with_2(self, wanasync: Command, arguments: list[str]) -> None:
        ended = wanasync(*arguments)
        assert ended.code == 2
        assert ended.err
        assert not ended.out
        assert "Traceback" not in ended.err

    @pytest.mark.parametrize(
        ("command", "instead"),
        [
            (["run", "x.txt"], "add --emulator"),
            (["generate", "x"], "add --emulator"),
            (["credits"], "add --emulator"),
            (["submit", "x"], "start `wanasync emulator`"),
            (["fetch", "id"], "start `wanasync emulator`"),
        ],
    )
    def test_without_a_key_it_says_how_to_give_one(self, wanasync: Command, command: list[str], instead: str) -> None:
        Path("x.txt").write_text("a cat")
        ended = wanasync(*command)
        assert ended.code == 2
        assert ended.err == f"wanasync: no API key: set WAN_API_KEY. To try it without one, {instead}\n"

    def test_a_key_by_a_wrong_name_is_told(self, wanasync: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WAN_API_KYE", KEY)
        assert (
            "WAN_API_KYE is set, but there is no such setting: did you mean WAN_API_KEY?\n" in wanasync("credits").err
        )

    def test_a_status_of_nothing_says_what_it_looked_for(self, wanasync: Command) -> None:
        assert wanasync("status", "film").err.startswith(
            "wanasync: no directory film; to ask for a task of this id, set"
        )

    @pytest.mark.parametrize("command", [["run", "x.txt", "--dry-run"], ["generate", "x"], ["submit", "x"]])
    @pytest.mark.parametrize(
        ("flags", "told"),
        [
            (["--quality", "4k"], "--quality 4k is not a quality of this model (480p, 720p, 1080p)"),
            (["--duration", "7"], "--duration 7 must be a whole number of seconds of this model (5, 10)"),
            (
                ["--quality", "480p", "--aspect-ratio", "4:3"],
                "--aspect-ratio 4:3 needs quality 720p or 1080p, not 480p",
            ),
        ],
    )
    def test_a_wrong_flag_is_told_alike_everywhere(
        self, wanasync: Command, command: list[str], flags: list[str], told: str
    ) -> None:
        Path("x.txt").write_text("a cat")
        assert wanasync(*command, *flags).err.startswith(f"wanasync: {told}")

    def test_a_file_of_ids_that_is_not_there(self, wanasync: Command) -> None:
        assert wanasync("fetch", "--ids", "x").err == "wanasync: x: can't be read: No such file or directory\n"

    def test_a_wrong_settings_file_is_named(self, wanasync: Command) -> None:
        Path("wanasync.toml").write_text("max_download = 3")
        ended = wanasync("credits")
        assert ended.code == 2
        assert "wanasync.toml: no such setting as 'max_download'; did you mean max_downloads?" in ended.err

    def test_a_fault_of_its_own_is_told_whole(self, wanasync: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object) -> None:
            raise ZeroDivisionError("a fault")

        monkeypatch.setattr("wanasync.cli.settings.show_config", broken)
        ended = wanasync("config")
        assert ended.code == 1
        assert "ZeroDivisionError: a fault" in ended.err
        assert "fault in wanasync" in ended.err

    def test_ctrl_c_before_anything_was_begun(self, wanasync: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("wanasync.cli.settings.show_config", interrupted)
        ended = wanasync("config")
        assert (ended.code, ended.err) == (130, "wanasync: interrupted before anything was sent\n")


class TestConfig:
    def test_shows_each_setting_and_where_it_is_from(self, wanasync: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WAN_MAX_DOWNLOADS", "3")
        Path("wanasync.toml").write_text("connect_attempts = 2")
        ended = wanasync("config", "--on-unknown", "replay", "--json")
        told = {record["setting"]: (record["value"], record["from"]) for record in ended.records}
        assert told["max_downloads"] == (3, "WAN_MAX_DOWNLOADS")
        assert told["connect_attempts"] == (2, str(Path("wanasync.toml").resolve()))
        assert told["on_unknown"] == ("replay", "argument")
        assert told["read_timeout"] == (60.0, "default")

    def test_warns_of_a_variable_that_is_none(self, wanasync: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WAN_MAX_DOWNLOAD", KEY)
        monkeypatch.setenv("WAN_BUDGET", "20")
        for flags in ([], ["--json"]):
            assert wanasync("config", *flags).err.splitlines() == [
                "WAN_BUDGET is set, but there is no such setting",
                "WAN_MAX_DOWNLOAD is set, but there is no such setting: did you mean WAN_MAX_DOWNLOADS?",
            ]

    def test_never_shows_the_key(self, wanasync: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WAN_API_KEY", KEY)
        monkeypatch.setenv("WAN_PROXY", f"http://user:{KEY}@proxy")
        for flags in ([], ["--json"]):
            ended = wanasync("config", *flags)
            assert ended.code == 0
            assert ended.out.count("set, not shown") == 2
