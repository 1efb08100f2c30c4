"""README and the pages of docs/, as blocks of code in the order in which a reader meets them.

What a block is for is said by a comment before it, which no reader sees:

    <!-- setup            code that the blocks after it need, such as an open session; may end with assertions
    ...
    -->
    <!-- file: NAME -->   the block is the content of a file, for what follows
    <!-- output -->       a text block that the commands before it have printed; … stands for anything
    <!-- skip: WHY -->    the block isn't run

Without one, `python` and `sh` blocks are run and `text` blocks are looked at by people alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

__all__ = ["PAGES", "ROOT", "Block", "blocks", "inline_code", "name_of", "prose"]

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts))

_FENCE = re.compile(r"^(?P<fence>`{3,})(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=fence)\s*$", re.MULTILINE | re.DOTALL)
_SETUP = re.compile(r"^<!-- setup\n(?P<text>.*?)^-->$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (?P<word>[a-z]+)(?:: (?P<rest>[^\n]*))? -->\n\Z")


@frozen
class Block:
    """`line` is that of its first line of code in the page, from 1; `mark` and `told` are what the comment says."""

    language: str
    text: str
    line: int
    mark: str = ""
    told: str = ""

    @property
    def is_tests(self) -> bool:
        return self.language == "python" and re.search(r"^(async )?def test_", self.text, re.MULTILINE) is not None

    def padded(self) -> str:
        """The code, so far down that its lines have the page's numbers."""
        return "\n" * (self.line - 1) + self.text


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    return sorted(_blocks(page.read_text("utf-8")), key=lambda block: block.line)


def _blocks(text: str) -> Iterator[Block]:
    for found in _SETUP.finditer(text):
        yield Block("python", found["text"], _line(text, found.start("text")), "setup")
    for found in _FENCE.finditer(text):
        mark = _MARK.search(text[: found.start()])
        word, told = (mark["word"], mark["rest"] or "") if mark else ("", "")
        yield Block(found["language"].strip(), found["text"], _line(text, found.start("text")), word, told)


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def prose(page: Path) -> str:
    """The page without its blocks and comments."""
    text = _FENCE.sub("", page.read_text("utf-8"))
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def inline_code(page: Path) -> list[str]:
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose(page))
