"""Figures in words, as people read them."""

from __future__ import annotations

__all__ = ["WRONG_ADDRESS", "clipped", "count", "credits", "number", "size", "span"]

WRONG_ADDRESS = "is it the API's address? `wanasync config` shows which is used"


def number(value: float) -> str:
    return f"{value:,.0f}"


def count(value: int, word: str) -> str:
    return f"{number(value)} {word}{'' if value == 1 else 's'}"


def credits(value: float) -> str:  # noqa: A001 — the provider's word
    """An amount without the zeros behind it: 12.5, 1,000."""
    return f"{value:,.2f}".rstrip("0").rstrip(".")


def size(value: float) -> str:
    """Bytes in decimal units, as file managers and providers count."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def span(seconds: float) -> str:
    """A duration to the two units that matter: 42 s, 12 min 4 s, 3 h 20 min."""
    whole = round(max(seconds, 0))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def clipped(text: str, width: int) -> str:
    """On one line, cut with an ellipsis."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: max(width - 1, 0)]}…"
