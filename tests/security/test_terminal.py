"""Text of strangers is only text: it moves no cursor, changes no title, turns no line and fakes none in a log."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text

from tests.helpers.emulated import session_on
from tests.security.fuzz_replies import assert_harmless
from wanasync import Config, VideoRequest
from wanasync.cli import main
from wanasync.cli.screen import Screen
from wanasync.edges.download import DeadLinkError, fetch
from wanasync.edges.lists import RequestList
from wanasync.edges.transport import Transport
from wanasync.emulator import Emulator
from wanasync.errors import DownloadError, ListError, WanError
from wanasync.rules.links import shown
from wanasync.rules.replies import Reply, Unknown, read_submission, read_task
from wanasync.rules.text import clean_text
from wanasync.testing import START, virtual_time

NASTY = [
    "\x1b[2J\x1b[1;1H",
    "\x1b]0;title\x07",
    "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "\x9b2J",
    "\x9d0;title\x9c",
    "\x1bP+q544e\x1b\\",
    "\rwanasync: all saved",
    "\nERROR fake line",
    "\u2028fake line",
    "\u202egpj.exe",
    "\u2066hidden\u2069",
    "\b\b\b",
    "\x7f",
    "\x00",
]
ACTING = "\x1b\x9b\x9d\x90\r\b\x7f\x00\x07\u202e\u2066\u2028"


def is_calm(text: str) -> bool:
    return not set(text) & set(ACTING)


@pytest.mark.parametrize("nasty", NASTY)
def test_server_text_is_cleaned_where_it_is_read(nasty: str) -> None:
    assert_harmless(clean_text(f"before {nasty} after"))
    text = json.dumps({"error": {"code": nasty, "message": nasty, "type": nasty, "fallback_suggestion": nasty}})
    for status in (200, 400, 500):
        reply = Reply(status, {"x-request-id": nasty, "location": nasty}, text.encode())
        said = read_submission(reply, now=0.0)
        assert_harmless(said.reason if isinstance(said, Unknown) else str(getattr(said, "error", "")))
        with pytest.raises(WanError) as caught:
            read_task(reply, now=0.0)
        assert_harmless(str(caught.value))
    failed = json.dumps({"id": "task-1", "status": "failed", "error": {"code": nasty, "message": nasty}})
    failure = read_task(Reply(200, {}, failed.encode()), now=0.0).failure
    assert failure is not None
    assert_harmless(f"{failure.code} {failure.message}")


@pytest.mark.parametrize("nasty", NASTY)
async def test_a_link_is_cleaned_where_it_is_told(nasty: str, tmp_path: Path) -> None:
    link = f"https://127.0.0.1/{nasty}?Signature=secret"
    assert_harmless(shown(link))
    async with Transport(Config(api_key="k" * 20, base_url="https://api.example.com")) as transport:
        with pytest.raises(DownloadError) as caught:
            await fetch(transport, link, tmp_path / "x.mp4", task_id="task-1")
    assert not isinstance(caught.value, DeadLinkError)
    assert_harmless(str(caught.value).replace(str(tmp_path), ""))


def test_a_long_link_is_cut_where_it_is_told() -> None:
    assert len(shown(f"https://cdn.example.com/{'x' * 8000}?Signature=secret")) <= 300


@pytest.mark.parametrize("nasty", NASTY)
def test_what_is_wrong_with_a_list_is_told_calmly(nasty: str, tmp_path: Path) -> None:
    file = tmp_path / "list.jsonl"
    lines = [{"prompt": "a", nasty: 1}, {"prompt": "a", "quality": nasty}, {"prompt": "a", "file": f"../{nasty}"}]
    file.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    with RequestList(file) as requests, pytest.raises(ListError) as caught:
        requests.check()
    assert len(caught.value.problems) >= 3
    for problem in caught.value.problems:
        assert_harmless(str(problem))


@pytest.mark.parametrize("nasty", NASTY)
def test_the_screen_lets_nothing_act(nasty: str) -> None:
    """The last line of defence, for what is a stranger's and was never cleaned: prompts, ids, rows of journals."""
    screen = Screen()
    screen.console.file = written = io.StringIO()
    table = Table(box=None)
    table.add_column()
    table.add_row(Text(f"cell {nasty}"))
    screen.complain(f"words {nasty}")
    screen.say(f"words {nasty}")
    screen.show(table)
    with screen.hearing_logs():
        logging.getLogger("wanasync").warning("words %s", nasty)
    assert "words" in written.getvalue()
    assert is_calm(written.getvalue())


@pytest.mark.parametrize("nasty", NASTY)
def test_records_are_the_same_json_and_let_nothing_act(nasty: str, capfdbinary: Any) -> None:
    Screen(json=True).record({"prompt": nasty})
    line = capfdbinary.readouterr().out.decode()
    assert json.loads(line) == {"prompt": nasty}
    assert is_calm(line)


def test_a_hostile_list_does_not_reach_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("list.jsonl").write_text("\n".join(json.dumps({"prompt": f"a cat {nasty}"}) for nasty in NASTY), "utf-8")
    for flags in ([], ["--json"]):
        assert main(["run", "list.jsonl", "--dry-run", *flags]) == 0
        told = capfd.readouterr()
        assert is_calm(told.out + told.err)


@virtual_time
async def test_nothing_acts_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "wanasync")
    body = json.dumps({"error": {"code": 502, "message": "".join(NASTY)}})
    said = read_submission(Reply(502, {}, body.encode()), now=0.0)
    assert isinstance(said, Unknown)
    async with Emulator(epoch=START) as emu, session_on(emu) as wan:
        task = await wan.submit(VideoRequest("a cat" + "".join(nasty for nasty in NASTY)))
        await task.wait()
        logging.getLogger("wanasync.submit").warning("unknown (%s)", said.reason)
    assert all(record.getMessage().isprintable() for record in caplog.records)
