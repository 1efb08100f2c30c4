"""Tasks' ids in few bytes: `task-unified-1757169743-7cvnl5zw`, as they usually look, takes ten instead of 32."""

from __future__ import annotations

import functools
import itertools
import re
import string

__all__ = ["forms", "long_id", "short_id"]

_USUAL = "task-unified-"
_NUMBERED = re.compile(rf"{_USUAL}([1-9][0-9]{{9}})-([0-9a-z]{{8}})", re.ASCII)
_PAIRS = ["".join(pair) for pair in itertools.product(string.digits + string.ascii_lowercase, repeat=2)]
_BASE = len(_PAIRS)


@functools.lru_cache(maxsize=4096)  # an item's is written several times
def short_id(task_id: str) -> str | bytes:
    """A BLOB for an id of seconds and eight letters; text for any other, its usual beginning told by a space."""
    found = _NUMBERED.fullmatch(task_id)
    if found is not None and (seconds := int(found[1])) < 2**32:
        return (seconds << 48 | int(found[2], 36)).to_bytes(10, "big")
    return _spaced(task_id)


def _spaced(task_id: str) -> str:
    # No task's id has a space in it.
    return f" {task_id[len(_USUAL) :]}" if task_id.startswith(_USUAL) else task_id


def long_id(short: str | bytes) -> str:
    """The id. Raises `ValueError` for what `short_id` can't have made."""
    if isinstance(short, str):
        return _USUAL + short[1:] if short.startswith(" ") else short
    number = int.from_bytes(short, "big")
    seconds, rest = number >> 48, number & 2**48 - 1
    if len(short) != 10 or rest >= _BASE**4:
        raise ValueError(f"{short!r} stands for no task's id")
    ahead, behind = divmod(rest, _BASE**2)
    pairs = (*divmod(ahead, _BASE), *divmod(behind, _BASE))
    return f"{_USUAL}{seconds}-{''.join([_PAIRS[pair] for pair in pairs])}"


def forms(task_id: str) -> tuple[str | bytes, ...]:
    """All that may stand for it in a journal: earlier versions packed less."""
    return task_id, _spaced(task_id), short_id(task_id)
