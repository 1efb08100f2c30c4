"""A mark in a batch's history, by times and rows: what changed since is read on from it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Self

from attrs import frozen

from wanasync.rules.records import ItemRecord

__all__ = ["ChangeMark"]

_FORM = re.compile(r"([0-9]{1,18}\.[0-9]{1,18})/([0-9]{1,18})", re.ASCII)


@frozen
class ChangeMark:
    """What was seen: changes until `at` (unix seconds, of the one process that writes), and the rows until `number`."""

    at: float
    number: int

    @classmethod
    def read(cls, text: str) -> Self:
        """Raises `ValueError` for what is no mark."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no mark")
        return cls(float(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.at!r}/{self.number}"

    def after(self, records: Iterable[ItemRecord]) -> ChangeMark:
        """The mark of who has seen these too."""
        at, number = self.at, self.number
        for record in records:
            at, number = max(at, record.updated_at or 0.0), max(number, record.seq)
        return ChangeMark(at, number)
