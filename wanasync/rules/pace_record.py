"""What was learned of a provider's limits, to be kept for the next run."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from wanasync.rules.window import ASSUMED_WINDOW

__all__ = ["PaceRecord", "RateKind"]


class RateKind(enum.StrEnum):
    """What kind of rate limit the replies have shown so far."""

    UNKNOWN = "unknown"
    WINDOW = "window"
    BUCKET = "bucket"


@frozen
class PaceRecord:
    """What was learned, for the next run. `at` is unix seconds; `rate` is per second; None is not known."""

    kind: RateKind = RateKind.UNKNOWN
    requests: int | None = None
    per: float = ASSUMED_WINDOW
    rate: float | None = None
    burst: int | None = None
    concurrent: int | None = None
    at: float = 0.0

    VERSION = 1

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON; `from_dict` reads it."""
        return {
            "version": self.VERSION,
            "kind": self.kind.value,
            "requests": self.requests,
            "per": self.per,
            "rate": self.rate,
            "burst": self.burst,
            "concurrent": self.concurrent,
            "at": self.at,
        }

    def to_json(self) -> str:
        """One line of JSON; `from_json` reads it."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> PaceRecord | None:
        """None for anything but a sound record, see `from_dict`."""
        try:
            return cls.from_dict(json.loads(text))
        except (ValueError, RecursionError):
            return None

    @classmethod
    def from_dict(cls, content: object) -> PaceRecord | None:
        """None for anything but a sound record of this version: a damaged cache costs some refusals, no more."""
        if not isinstance(content, Mapping) or content.get("version") != cls.VERSION:
            return None
        try:
            kind = RateKind(str(content.get("kind")))
        except ValueError:
            return None
        counts = [content.get(name) for name in ("requests", "burst", "concurrent")]
        figures = [content.get("per"), content.get("at")]
        rate = content.get("rate")
        sound = (
            all(count is None or _is_count(count) for count in counts)
            and all(_is_positive(figure) for figure in figures)
            and (rate is None or _is_positive(rate))
            and (kind is not RateKind.WINDOW or counts[0] is not None)
            and (kind is not RateKind.BUCKET or (rate is not None and counts[1] is not None))
        )
        if not sound:
            return None
        return cls(kind, counts[0], content["per"], rate, counts[1], counts[2], content["at"])


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000_000


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
