from __future__ import annotations

import json
import shlex
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.gallery.making import NASTY
from wanasync import ItemStatus, VideoRequest
from wanasync.gallery.entries import advice, entry, script_json


def test_an_item_is_told_without_what_is_absent() -> None:
    item = ItemStatus(1, 0, "a", "planned", "x.mp4", VideoRequest("A cat", quality="720p"))
    assert entry(item) == {
        "number": 1,
        "index": 0,
        "id": "a",
        "state": "planned",
        "prompt": "A cat",
        "settings": {"quality": "720p", "model": "wan2.5-text-to-video"},
    }


def test_a_file_and_a_deadline_are_told_where_they_mean_something() -> None:
    item = ItemStatus(1, 0, "a", "saved", "x.mp4", link_deadline=5.0)
    assert entry(item)["file"] == "x.mp4"
    assert "deadline" not in entry(item)


def test_who_is_called_back_is_not_told() -> None:
    request = VideoRequest("A cat", callback_url="https://app.example.com/hooks/secret-token")
    assert "secret-token" not in script_json(entry(ItemStatus(1, 0, "a", "planned", "x.mp4", request)))


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))
def test_json_in_a_script_says_what_it_said_and_ends_nothing(content: object) -> None:
    text = script_json([content, NASTY])
    assert json.loads(text) == [content, NASTY]
    assert not set(text) & set("<>&\u2028\u2029\n")


def test_the_mending_command_names_the_directory_as_a_shell_reads_it() -> None:
    for told in advice(Path("my videos; rm -rf $HOME")).values():
        words = shlex.split(told["command"])
        assert words[words.index("--to") + 1] == "my videos; rm -rf $HOME"


def test_the_runs_own_command_is_shown_where_it_is_known() -> None:
    told = advice(Path("v"), "wanasync run list.txt --to v")
    assert told["failed"]["command"] == "wanasync run list.txt --to v --retry-failed 1"
    assert told["pending"]["command"] == "wanasync run list.txt --to v"
    assert told["expired"]["command"] == "wanasync fetch {task} --to v"
