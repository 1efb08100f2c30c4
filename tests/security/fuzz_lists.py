"""Lists as nobody should write them, and what must hold whatever stands in one."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from random import Random

from attrs import frozen

from tests.security.mutation import choose, damaged, nested, number, text
from wanasync.edges.lists import RequestList
from wanasync.errors import ListError
from wanasync.rules.lists import COLUMNS, FORMATS
from wanasync.rules.naming import file_name
from wanasync.rules.records import PlannedItem
from wanasync.rules.wire import request_from_json

__all__ = ["HostileList", "check", "example"]


@frozen
class HostileList:
    form: str
    content: bytes


_CELLS = [
    "a cat",
    "a cat, playing piano",
    "720p",
    "1080p",
    "16:9",
    "4:3",
    "5",
    "10",
    "5.0",
    "true",
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\x",
    "con.mp4",
    "sub/cat.mp4",
    ".hidden",
    "\x1b[2J\x9b2J",
    "\u202egpj.exe",
    "\ud800",
    "\0",
    "9" * 5000,
    "NaN",
    '{"seed": 1}',
    '{"a":' * 90 + "1" + "}" * 90,
    "https://169.254.169.254/",
    "https://example.com/hook",
]
_GOOD = {
    "prompt": ("a cat", "ein Hund", "\u732b"),
    "quality": ("480p", "720p", "1080p"),
    "aspect_ratio": ("16:9", "1:1"),
    "duration": (5, 10),
    "prompt_extend": (True, False),
    "model": ("wan2.5-text-to-video",),
    "callback_url": ("https://example.com/hook",),
    "id": tuple(f"cat-{number}" for number in range(30)),
    "file": ("", "cat.mp4", *(f"sub/{number}.mp4" for number in range(30))),
    "extra": ('{"seed": 1}',),
    "image_urls": ("",),
}
_LARGE_CELLS = ["x" * 140_000, "[" * 100_000, '"' * 70_001]
_COLUMNS = ["promt", "", "Prompt ", "seconds", "\x1b[2J"]
_LARGE_TEXTS = ["[" * 200_000, '{"prompt":' * 100_000, '"' + "x" * 300_000, "prompt\n" + '"' * 99_999]
_WORDS = [b"\n", b"\r", b"\0", b'"', b",", b"{", b"}", b"[", b"]", b"\\", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80"]
_ENCODINGS = ["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1"]


def example(rng: Random) -> HostileList:
    """A list as people write them, with some odd cells, written in some encoding and perhaps damaged."""
    form = rng.choice(sorted(FORMATS))
    written = _text(rng, form if rng.randrange(20) else rng.choice(sorted(FORMATS)))
    encoding = rng.choice(_ENCODINGS)
    content = written.encode(encoding, "replace" if encoding == "latin-1" else "surrogatepass")
    return HostileList(form, damaged(rng, content, _WORDS) if rng.randrange(3) == 0 else content)


def _text(rng: Random, form: str) -> str:
    if rng.randrange(200) == 0:
        return rng.choice(_LARGE_TEXTS)
    match form:
        case "csv":
            return _csv(rng)
        case "jsonl":
            return "\n".join(json.dumps(entry) for entry in _entries(rng))
        case "json":
            return json.dumps(_entries(rng), indent=rng.choice((None, 1)))
        case _:
            return "\n".join(_cell(rng) for _ in range(rng.randint(0, 5)))


def _cell(rng: Random) -> str:
    if rng.randrange(300) == 0:
        return rng.choice(_LARGE_CELLS)
    return rng.choice(_CELLS) if rng.randrange(3) else text(rng)


def _column(rng: Random) -> str:
    return rng.choice(_COLUMNS) if rng.randrange(12) == 0 else rng.choice(COLUMNS)


def _fitting(rng: Random, column: str) -> object:
    """Mostly what belongs into the column: a list with a flaw in each line would be refused at the first."""
    if column in _GOOD and rng.randrange(15):
        return rng.choice(_GOOD[column])
    return nested(rng, _leaf, _cell, depth=rng.choice((0, 0, 0, 2)))


def _leaf(rng: Random) -> object:
    return choose(rng, _cell, _cell, number, lambda rng: rng.choice((None, True, False)))


def _entries(rng: Random) -> list[object]:
    return [_entry(rng) for _ in range(rng.randint(0, 4))]


def _entry(rng: Random) -> object:
    if rng.randrange(12) == 0:
        return nested(rng, _leaf, _cell)
    columns = [_column(rng) for _ in range(rng.randint(0, 3))]
    return {"prompt": _fitting(rng, "prompt"), **{column: _fitting(rng, column) for column in columns}}


def _csv(rng: Random) -> str:
    header = ["prompt"] * rng.choice((0, 1, 1, 1, 2)) + [_column(rng) for _ in range(rng.randint(0, 3))]
    rows = [[str(_fitting(rng, column)) for column in header] for _ in range(rng.randint(0, 4))]
    if rng.randrange(4) == 0:
        rows.append([_cell(rng) for _ in range(rng.randint(0, 6))])
    between, quote = rng.choice((",", ",", ";", "\t")), rng.choice(('"', '"', "", "'"))
    return rng.choice(("\n", "\r\n", "\r")).join(
        between.join(f"{quote}{cell}{quote}" for cell in row) for row in [header, *rows]
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
    for told in texts:
        assert told.isprintable(), ascii(told)
        assert len(told) < 1000
