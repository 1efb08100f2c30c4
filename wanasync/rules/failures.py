"""Which failed tasks may be tried again, for those who ask for it. Trying again is a new task."""

from __future__ import annotations

__all__ = ["PROVIDERS_FAULT", "may_try_again", "wait_before"]

PROVIDERS_FAULT = frozenset(
    {
        "generation_failed_no_content",
        "generation_timeout",
        "quota_exceeded",
        "resource_exhausted",
        "service_error",
        "service_unavailable",
    }
)
"""The codes that the provider's public error page puts on its own side, to be tried later.

`quota_exceeded` on a failed task means too many at the moment, not an empty account. All others, codes that are not on
that page and failures without a code among them, would most likely fail the same way: they speak of the request.
"""

_FIRST_WAIT, _LONGEST_WAIT = 30.0, 600.0


def may_try_again(code: str | None, attempt: int, retries: int) -> bool:
    """Whether a task that was the `attempt`-th for its item (from 1) is followed by another, of `retries` at most."""
    return attempt <= retries and code in PROVIDERS_FAULT


def wait_before(attempt: int) -> float:
    """Seconds between the `attempt`-th task's failure and the next: what was overloaded stays so for a while."""
    return min(_FIRST_WAIT * 2.0 ** min(attempt - 1, 10), _LONGEST_WAIT)
