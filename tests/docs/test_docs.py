"""All code in README and docs/ is run, against the emulator; what they name is there, and what is there is named."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import typer
from attrs import define, field

from tests.docs.pages import PAGES, ROOT, Block, blocks, inline_code, name_of, prose
from tests.helpers.background import in_background
from wanasync import Config
from wanasync.cli.app import app
from wanasync.emulator import Emulator
from wanasync.testing import VirtualTimeLoop

pytest_plugins = ["pytester"]

PLUGINS = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov")
SHIM = f"""#!/bin/sh
for word do
    shift
    [ "$word" = --emulator ] || set -- "$@" "$word"
done
exec "{sys.executable}" -m wanasync "$@"
"""
"""Commands find an emulator in the environment, whose videos are ready-made; .ci/run tries the flag."""
RUN_BY_CI = {"videos", "tests"}
"""Marks of README's two commands, which .ci/run runs as they stand."""
PUBLIC = ("", ".webhooks", ".gallery", ".telemetry", ".testing", ".emulator", ".events", ".errors", ".cluster")


@define
class Reader:
    """Somebody who tries all that a page says, in order, in an empty folder.

    Python runs in virtual time, commands in real time, each with an emulator of its own. Names last for a page.
    """

    page: Path
    folder: Path
    environ: dict[str, str]
    stack: contextlib.ExitStack
    runner: asyncio.Runner
    names: dict[str, Any] = field(factory=dict)
    printed: str = ""

    def do(self, block: Block) -> None:
        if block.mark == "skip" or block.mark in RUN_BY_CI or block.is_tests:
            return
        if block.mark == "file":
            path = self.folder / block.told
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, "utf-8")
        if block.mark == "output":
            self.compare(block)
        elif block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "python":
            self.python(block)
        elif block.language == "sh":
            self.shell(block)

    def python(self, block: Block) -> None:
        self.open_emulator()
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(block.padded(), str(self.page), "exec", flags=flags, dont_inherit=True)
        if not code.co_flags & inspect.CO_COROUTINE:
            exec(code, self.names)  # noqa: S102 — to be run is what it is for
            return

        async def main() -> None:
            await eval(code, self.names)  # noqa: S307

        self.runner.run(main())

    def open_emulator(self) -> None:
        if "emulator" in self.names:
            return
        emulator = Emulator(local_callbacks=True, callbacks=False)
        rooms = contextlib.AsyncExitStack()
        self.runner.run(rooms.enter_async_context(emulator))
        self.stack.callback(lambda: self.runner.run(rooms.aclose()))
        self.names |= {"__name__": "page", "emulator": emulator, "stack": rooms}
        os.environ.update(WAN_BASE_URL=emulator.base_url, WAN_API_KEY=emulator.api_key)

    def shell(self, block: Block) -> None:
        if "WAN_BASE_URL" not in self.environ:
            emulator = Emulator(durations=0.1, estimated_time=1, queue_time=0.01)
            self.stack.enter_context(in_background(emulator))
            self.environ |= {"WAN_BASE_URL": emulator.base_url, "WAN_API_KEY": emulator.api_key}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=self.folder,
            env=self.environ,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{name_of(self.page)}:{block.line}\n{block.text}\n{done.stdout}"
        self.printed = done.stdout

    def compare(self, block: Block) -> None:
        """Each line of the block was printed by the last commands."""
        printed = [" ".join(line.split()) for line in self.printed.splitlines()]
        for line in filter(None, (" ".join(line.split()) for line in block.text.splitlines())):
            pattern = ".*".join(map(re.escape, line.split("…")))
            assert any(re.fullmatch(pattern, told) for told in printed), f"{line!r} is not in\n{self.printed}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where no settings of this machine's user are found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("WAN_")]:
        monkeypatch.delenv(name)
    for name in ("WAN_BASE_URL", "WAN_API_KEY"):
        monkeypatch.setenv(name, "")  # so that what a page sets is taken back
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def reader(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    shim = folder / ".bin" / "wanasync"
    shim.parent.mkdir()
    shim.write_text(SHIM)
    shim.chmod(0o755)
    environ = {**os.environ, "PATH": f"{shim.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    if "WAN_DATABASE_URL" in request.param.read_text("utf-8"):
        environ["WAN_DATABASE_URL"] = request.getfixturevalue("database")
    with (
        asyncio.Runner(loop_factory=VirtualTimeLoop) as runner,
        contextlib.ExitStack() as stack,
    ):
        monkeypatch.setattr(asyncio, "run", runner.run)
        yield Reader(request.param, folder, environ, stack, runner)


@pytest.mark.parametrize("reader", PAGES, ids=name_of, indirect=True)
def test_what_a_page_says_can_be_done(reader: Reader) -> None:
    for block in blocks(reader.page):
        reader.do(block)


@pytest.mark.parametrize("page", [page for page in PAGES if any(b.is_tests for b in blocks(page))], ids=name_of)
def test_the_tests_that_a_page_shows_pass(page: Path, pytester: pytest.Pytester) -> None:
    tests = [block for block in blocks(page) if block.is_tests]
    for number, block in enumerate(tests):
        pytester.path.joinpath(f"test_shown_{number}.py").write_text(block.padded(), "utf-8")
    ended = pytester.runpytest_inprocess(
        *PLUGINS, "--asyncio-mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"
    )
    ended.assert_outcomes(
        passed=sum(len(re.findall(r"^(?:async )?def test_", block.text, re.MULTILINE)) for block in tests)
    )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_it_is_said_of_each_block_what_is_done_with_it(page: Path) -> None:
    known = {"python", "sh", "toml", "text"}
    marks = {"", "setup", "file", "output", "skip", *RUN_BY_CI}
    for block in blocks(page):
        where = f"{name_of(page)}:{block.line}"
        assert block.mark in marks, where
        assert block.language in known or block.mark in ("file", "skip") or block.language.startswith("{"), where
        assert block.told or block.mark not in ("file", "skip"), f"{where}: {block.mark} says nothing"


# What is named exists


def leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for word, below in getattr(command, "commands", {}).items():
        yield from leaves(f"{name} {word}", below)


COMMANDS = dict(leaves("wanasync", typer.main.get_command(app)))
ALWAYS = {"--help", "-h"}


def flags_of(command: Any) -> set[str]:
    return ALWAYS.union(*([*option.opts, *option.secondary_opts] for option in command.params))


def command_lines(page: Path) -> Iterator[str]:
    """Each call of wanasync in the page's code, without what it is piped into."""
    texts = [block.text for block in blocks(page) if block.language in ("sh", "text")] + inline_code(page)
    for text in texts:
        joined = text.replace("\\\n", " ")
        for found in re.finditer(r"(?:^|[|;&(]|\bbin/|-m )\s*(wanasync(?: [^|;&\n>)#]*)?)", joined, re.MULTILINE):
            yield found[1].strip()


def split_call(line: str) -> tuple[str, list[str]]:
    words = line.split() if "'" in line or '"' in line else shlex.split(line)
    name = words.pop(0)
    while words and f"{name} {words[0]}" in COMMANDS:
        name += f" {words.pop(0)}"
    return name, words


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_command_and_flag_that_a_page_names_exists(page: Path) -> None:
    for line in command_lines(page):
        name, words = split_call(line)
        given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert given <= flags_of(COMMANDS[name]), f"{name_of(page)}: {line}"
        assert not words or words[0].startswith(("-", "…")) or not hasattr(COMMANDS[name], "commands"), line


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_flag_that_a_page_names_alone_exists(page: Path) -> None:
    known = set().union(*map(flags_of, COMMANDS.values()))
    named = {code.split()[0].partition("=")[0] for code in inline_code(page) if code.startswith("--")}
    assert named <= known


def test_each_command_is_documented_by_hand() -> None:
    named = {split_call(line)[0] for page in PAGES for line in command_lines(page)}
    assert (
        set(COMMANDS) - {"wanasync"} - {name for name, command in COMMANDS.items() if hasattr(command, "commands")}
        <= named
    )


def test_each_public_name_is_in_the_reference() -> None:
    written = "\n".join(page.read_text("utf-8") for page in PAGES if page.parent.name == "reference")
    whole = set(re.findall(r"automodule:: (\S+)\n(?!   :no-members:)", written))
    told = {name.rpartition(".")[2] for name in re.findall(r"auto(?:class|exception|function|data):: (\S+)", written)}
    for module_name in PUBLIC:
        try:
            module = importlib.import_module(f"wanasync{module_name}")
        except ModuleNotFoundError:
            continue
        names = set() if module.__name__ in whole else set(module.__all__)
        assert names - told - {"__version__", "Event", "FAULTS"} == set(), module.__name__


def test_each_setting_is_explained() -> None:
    fields = inspect.getsource(Config)
    for name in (attribute.name for attribute in attrs.fields(Config)):
        assert re.search(rf'^    {name}: .*\n    """', fields, re.MULTILINE), name


def test_each_room_of_the_house_is_on_its_plan() -> None:
    plan = set(re.findall(r"\w+", (ROOT / "ARCHITECTURE.md").read_text("utf-8").split("```")[1]))
    package = ROOT / "wanasync"
    storeys = [package / name for name in ("", "rules", "edges", "engine", "engine/batch")]
    rooms = {
        path
        for storey in storeys
        for path in storey.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert {path.stem for path in rooms} - plan - {"__init__", "__main__"} == set()


# Links

DOCUMENTS = (*PAGES, *(ROOT / name for name in ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")))


@pytest.mark.parametrize("page", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), f"{name_of(page)}: {target}"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{name_of(page)}: {target}"


def anchors(page: Path) -> set[str]:
    text = page.read_text("utf-8")
    given = set(re.findall(r"^\((.+)\)=$", text, re.MULTILINE))
    slugs = {
        re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    commands = {name.replace(" ", "-") for name in COMMANDS} if "{cli-reference}" in text else set()
    return given | slugs | commands
