"""The page as one HTML text: template, style and script from `assets/`, and the batch as JSON in between."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
from collections.abc import AsyncIterator
from importlib import resources
from string import Template
from typing import Any

from wanasync import ItemStatus, OutcomeState, __version__
from wanasync.gallery.entries import advice, entry, pace_object, script_json, status_object
from wanasync.gallery.source import Source

__all__ = ["MOST_ITEMS", "policy", "render"]

MOST_ITEMS = 100_000
"""A page holds no more: those that need somebody, then the others. It says how many there are."""
PIECE = 200

_SCRIPTS = ("words.js", "store.js", "posters.js", "card.js", "grid.js", "dialog.js", "plot.js", "page.js")
"""One module's parts, in their order."""


@functools.cache
def _asset(name: str) -> str:
    return (resources.files("wanasync.gallery") / "assets" / name).read_text("utf-8")


@functools.cache
def _script() -> str:
    return "\n".join(map(_asset, _SCRIPTS))


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@functools.cache
def policy(*, live: bool) -> str:
    """The Content-Security-Policy: our script and style, videos of the page's own place, and nothing else."""
    rules = {
        "default-src": "'none'",
        "script-src": _hash(_script()),
        "style-src": _hash(_asset("page.css")),
        "img-src": "data:",
        # A page in a file has no origin that 'self' could name.
        "media-src": "'self'" if live else "'self' file:",
        "connect-src": "'self'" if live else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


async def render(
    source: Source, *, now: float, live: bool, command: str | None = None, shared: str | None = None
) -> AsyncIterator[str]:
    """The page, piece by piece: a large batch is never in memory as a whole.

    `now` is unix seconds; `command` is the command line that goes on with the batch, where it is known; `shared` the
    name of a batch that workers share. Raises `JournalError`.
    """
    mark = await source.mark()
    status = await source.status()
    about = {
        "live": live,
        "name": shared or source.directory.resolve().name or str(source.directory),
        "at": now,
        "mark": mark,
        "status": status_object(status),
        "pace": [pace_object(sample) for sample in await source.pace()],
        "advice": advice(getattr(source, "url", None) or source.directory, command, shared),
        "version": __version__,
    }
    head, foot = _frame(about, live)
    yield head
    async for piece in _pieces(_shown(source, status.items)):
        yield piece
    yield foot


def _frame(about: dict[str, Any], live: bool) -> tuple[str, str]:
    """What stands before and behind the items."""
    fills = {
        "policy": html.escape(policy(live=live)),
        "title": html.escape(f"{about['name']} · wanasync"),
        "style": _asset("page.css"),
        "script": _script(),
        "about": script_json(about),
    }
    head, foot = _asset("page.html").split("$items")
    return Template(head).substitute(fills), Template(foot).substitute(fills)


async def _pieces(items: AsyncIterator[ItemStatus]) -> AsyncIterator[str]:
    """A JSON array, some hundred items at a time."""
    separator, piece = "[", []
    async for item in items:
        piece.append(separator + script_json(entry(item)))
        separator = ",\n"
        if len(piece) == PIECE:
            yield "".join(piece)
            piece.clear()
    yield "".join(piece) + ("[]" if separator == "[" else "]")


async def _shown(source: Source, items: int) -> AsyncIterator[ItemStatus]:
    """All items in the journal's order; of more than fit, those that need somebody first."""
    if items <= MOST_ITEMS:
        async for item in source.items():
            yield item
        return
    left = MOST_ITEMS
    for states in (_TROUBLE, _OTHERS):
        async for item in source.items(states):
            if not left:
                return
            left -= 1
            yield item


_TROUBLE = (OutcomeState.FAILED, OutcomeState.REJECTED, OutcomeState.UNKNOWN, OutcomeState.EXPIRED)
_OTHERS = (OutcomeState.PENDING, OutcomeState.SAVED, OutcomeState.NOT_STARTED)
