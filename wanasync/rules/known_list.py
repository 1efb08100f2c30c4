"""What is kept of a list and how far it was planned, so that the next run need not read all that again."""

from __future__ import annotations

import json
from typing import Any

from attrs import frozen

__all__ = ["MOST_UNLISTED", "KnownList"]

MOST_UNLISTED = 1000
"""More than these would make a long text of a list that is hardly the same any more."""


@frozen
class KnownList:
    """A list whose first `items` items are rows of the journal; `is_whole` where those are all of them.

    `unlisted` are the other rows, by number: items of earlier lists.
    """

    fingerprint: str
    items: int
    is_whole: bool
    unlisted: frozenset[int] = frozenset()

    @property
    def rows(self) -> int:
        return self.items + len(self.unlisted)

    def to_json(self) -> str:
        return json.dumps([self.fingerprint, self.items, self.is_whole, sorted(self.unlisted)], separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | None) -> KnownList | None:
        """None for what is none: then the list is read, which is always right."""
        try:
            fingerprint, items, is_whole, unlisted = json.loads(text or "null")
            sound = all(map(_is_count, [items, *unlisted])) and type(is_whole) is bool and isinstance(fingerprint, str)
        except (ValueError, TypeError, RecursionError):
            return None
        return cls(fingerprint, items, is_whole, frozenset(unlisted)) if sound else None


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0
