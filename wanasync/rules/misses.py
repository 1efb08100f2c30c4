"""What a look that failed says: about its task, about all tasks, or nothing; and when somebody is to be told."""

from __future__ import annotations

from attrs import define, field

from wanasync.errors import APIError, AuthenticationError, RateLimitError, WanError

__all__ = ["Complaints", "Denials", "is_denial"]

DENIALS, DENIED_SECONDS = 3, 600.0
"""A task is taken for refused once looks at it have been, so often and for so long."""
PASSING = frozenset({402, 408, 425})
"""Refusals with a 4xx status that say nothing about the task that was asked for."""
WORTH_TELLING, QUIET_SECONDS = 5, 300.0
"""Looks that fail so often in a row are worth a word, one in so many seconds."""


def is_denial(error: WanError) -> bool:
    """A 4xx that may be meant for this one task: 400, 403, 422 …"""
    if not isinstance(error, APIError) or isinstance(error, AuthenticationError | RateLimitError):
        return False
    return 400 <= error.status < 500 and error.status not in PASSING


@define
class Denials:
    """Which tasks the provider refuses to show: how often in a row, and since when. `now` is any one clock."""

    _since: dict[str, tuple[int, float]] = field(init=False, factory=dict)

    def note(self, task_id: str, now: float) -> float | None:
        """Since when it is refused, once that has lasted; None until then."""
        times, since = self._since.get(task_id, (0, now))
        self._since[task_id] = times + 1, since
        return since if times + 1 >= DENIALS and now - since >= DENIED_SECONDS else None

    def forget(self, task_id: str) -> None:
        self._since.pop(task_id, None)


@define
class Complaints:
    """When failing looks are told of: a task whose looks fail for ever is looked at for ever, and may be paid for."""

    _untold: int = field(default=0, init=False)
    _quiet_until: float = field(default=float("-inf"), init=False)

    def note(self, in_a_row: int, now: float) -> int:
        """How many looks have failed since this was last told, where it is to be told now; else 0."""
        self._untold += 1
        if in_a_row < WORTH_TELLING or now < self._quiet_until:
            return 0
        untold, self._untold = self._untold, 0
        self._quiet_until = now + QUIET_SECONDS
        return untold
