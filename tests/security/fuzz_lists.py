"""Lists as nobody should write them, and what must hold whatever stands in one."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen
from hypothesis import strategies as st

from wanasync.edges.lists import RequestList
from wanasync.errors import ListError
from wanasync.rules.lists import COLUMNS, FORMATS
from wanasync.rules.naming import file_name
from wanasync.rules.records import PlannedItem
from wanasync.rules.wire import request_from_json

__all__ = ["HostileList", "check", "strategy"]


@frozen
class HostileList:
    form: str
    content: bytes


_CELLS = [
    "a cat",
    "1080p",
    "5",
    "5.0",
    "true",
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\x",
    "con.mp4",
    ".hidden",
    "\x1b[2J\x9b2J",
    "\u202egpj.exe",
    "\ud800",
    "\0",
    "x" * 140_000,
    "9" * 5000,
    "NaN",
    '{"seed": 1}',
    '{"a":' * 90 + "1" + "}" * 90,
    "[" * 100_000,
    "https://169.254.169.254/",
    "https://example.com/hook",
]
_cell = st.sampled_from(_CELLS) | st.text(max_size=12)
_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _cell,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_cell, inner, max_size=3),
    max_leaves=6,
)
_names = st.sampled_from([*COLUMNS, *COLUMNS, "promt", "", "Prompt ", "seconds", "\x1b[2J"])
_objects = st.dictionaries(_names, _value, max_size=6).map(lambda fields: {"prompt": "a cat", **fields})
_entries = st.lists(_objects | _value, max_size=4)


def _jsonl(entries: Sequence[object]) -> str:
    return "\n".join(json.dumps(entry) for entry in entries)


@st.composite
def _csv(draw: st.DrawFn) -> str:
    header = draw(st.lists(_names, max_size=5)) + ["prompt"] * draw(st.integers(0, 2))
    rows = draw(st.lists(st.lists(_cell, max_size=6), max_size=4))
    between = draw(st.sampled_from(",;\t"))
    quote = draw(st.sampled_from(['"', "", "'"]))
    return draw(st.sampled_from(["\n", "\r\n", "\r"])).join(
        between.join(f"{quote}{cell}{quote}" for cell in row) for row in [header, *rows]
    )


_texts = st.one_of(
    _entries.map(_jsonl),
    _entries.map(lambda entries: json.dumps(entries, indent=1)),
    _csv(),
    st.lists(_cell, max_size=5).map("\n".join),
    st.text(max_size=60),
    st.sampled_from(["[" * 200_000, '{"prompt":' * 100_000, '"' + "x" * 300_000, "prompt\n" + '"' * 99_999]),
)


@st.composite
def _contents(draw: st.DrawFn) -> bytes:
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1"]))
    errors = "replace" if encoding == "latin-1" else "surrogatepass"
    content = bytearray(draw(_texts).encode(encoding, errors))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 8))] = draw(st.binary(max_size=6))
    return bytes(content)


strategy: st.SearchStrategy[HostileList] = st.builds(
    HostileList, st.sampled_from(sorted(FORMATS)), _contents() | st.binary(max_size=80)
)


def check(hostile: HostileList) -> None:
    """A list is read, or refused with a `ListError`; what was let through can be written down and sent."""
    with tempfile.NamedTemporaryFile(dir=_memory()) as file:
        file.write(hostile.content)
        file.flush()
        with RequestList(file.name, format=hostile.form) as requests:
            _check_list(requests)


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 — spares the disk; the name is random


def _check_list(requests: RequestList) -> None:
    try:
        count = requests.check()
    except ListError as error:
        _check_told(str(error), *map(str, error.problems))
        return
    items = list(requests)
    assert len(items) == count
    for index, item in enumerate(items):
        planned = PlannedItem(index, item.request, item.id, item.file)
        assert request_from_json(planned.request_json) == item.request
        name = Path(file_name(item.request.prompt, index, item.id, item.file))
        assert not name.is_absolute()
        assert not any(part.startswith(".") for part in name.parts)


def _check_told(*texts: str) -> None:
    for text in texts:
        assert text.isprintable(), ascii(text)
        assert len(text) < 1000
