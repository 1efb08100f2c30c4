"""How long a reply asks us to wait.

The provider's document gives the wait only as text, in `fallback_suggestion` ("retry after 60 seconds"); that field may
as well hold a model's name, a link or "try again later". Gateways in front may add a `Retry-After` header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

__all__ = ["LONGEST_WAIT", "SHORTEST_WAIT", "retry_after"]

SHORTEST_WAIT = 0.5
LONGEST_WAIT = 3600.0
"""Seconds. A hint outside of these is taken for the nearer one: 0 would hammer, a day would look like a hang."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_AMOUNT = (
    r"(?P<{0}>\d{{1,9}}(?:\.\d{{1,9}})?)\s{{0,3}}"
    r"(?P<{1}>ms|msecs?|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?)(?![\w-])"
)
_AMOUNTS = re.compile(_AMOUNT.format("number", "unit"), re.ASCII | re.IGNORECASE)
# A number without a unit is taken for seconds, unless it goes on as a date, a time or a name ("retry with wan2.5").
_ASKING = re.compile(
    r"(?:retry|retrying|again|wait|waiting|available)\s{1,3}(?:(?:after|in|for|at\ least|about|another)\s{1,3}){0,2}"
    r"(?P<wait>\d{1,9}(?:\.\d{1,9})?(?![\d\w:/%-]|[.,]\d|\s{0,3}(?:ms|[smh]|[a-z]{3,})\b)|"
    rf"{_AMOUNT.format('first', 'first_unit')}(?:(?:\s|,|and){{0,5}}{_AMOUNT.format('next', 'next_unit')})?)",
    re.ASCII | re.IGNORECASE,
)
_SECONDS = re.compile(r"\d{1,12}(?:\.\d{1,9})?", re.ASCII)


def retry_after(headers: Mapping[str, str], texts: Iterable[str | None], *, now: float) -> float | None:
    """The wait a reply asks for in seconds, 0.5 to 3,600; None where it asks for none that can be understood.

    `headers` have lower-case names. `Retry-After` comes first, in seconds or as a date; then the first of `texts` that
    names a wait. `now` is unix seconds.
    """
    wait = _from_header(headers, now)
    if wait is None:
        wait = next((found for text in texts if text and (found := _from_text(text)) is not None), None)
    return None if wait is None else min(max(wait, SHORTEST_WAIT), LONGEST_WAIT)


def _from_header(headers: Mapping[str, str], now: float) -> float | None:
    value = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    until = _date(value)
    if until is None:
        return None
    # The date is by the sender's clock, so it is measured from the sender's own Date where there is one.
    return until - (_date(headers.get("date", "")) or now)


def _date(value: str) -> float | None:
    if not value:
        return None
    try:
        date = parsedate_to_datetime(value[:64])
        # One without a zone is UTC, as all HTTP dates; Python would take it for local time.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _from_text(text: str) -> float | None:
    asking = _ASKING.search(text[:1000])
    if asking is None:
        return None
    amounts = list(_AMOUNTS.finditer(asking["wait"]))
    if not amounts:
        return float(asking["wait"])
    return sum(float(amount["number"]) * _UNITS[_unit(amount["unit"].lower())] for amount in amounts)


def _unit(word: str) -> str:
    return "ms" if word.startswith(("ms", "milli")) else word[0]
