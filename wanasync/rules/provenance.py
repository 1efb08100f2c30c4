"""Whose videos a directory holds: tasks of one provider, the emulator's above all, mean nothing to another."""

from __future__ import annotations

from wanasync.rules.links import rule_for

__all__ = ["objection"]


def objection(before: str, now: str, under_way: int) -> str | None:
    """Why a batch begun at the base URL `before` can't be gone on with at `now`; None if it can.

    `under_way` counts tasks that are, or may be, paid for and not saved. An emulator's videos must never be taken for
    the provider's, however finished they are; between two hosts of a kind, only tasks under way are in the way.
    """
    if not before or before == now:
        return None
    if _is_loopback(before) != _is_loopback(now):
        return f"its batch was begun at {before}, of which {now} knows nothing; choose another directory"
    if not under_way:
        return None
    tasks = "a task of it is" if under_way == 1 else f"{under_way:,} tasks of it are"
    ended = " (an emulator's tasks end with it)" if _is_loopback(before) else ""
    return (
        f"{tasks} under way at {before}, of which {now} knows nothing{ended}; go on there, or choose another directory"
    )


def _is_loopback(base_url: str) -> bool:
    return rule_for(base_url, None).loopback
