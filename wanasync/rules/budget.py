"""How much may still be spent, decided from what the provider's replies reserved.

The provider publishes no prices, so they are learned: the largest reservation seen for a kind of request (model,
quality, duration). A kind never seen is sent alone, as a probe, until its first reply tells the price.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import Factory, define

from wanasync.rules import catalog

if TYPE_CHECKING:
    from wanasync.models import VideoRequest

PRICES = "prices"
"""Under which name a journal keeps what was learned."""
BLIND = "blind"
"""Under which name a journal keeps that a price was not told."""

Kind = tuple[str, str | None, int | None]


class Verdict(enum.Enum):
    """Whether a request may be sent now."""

    SEND = "send"
    WAIT = "wait"
    """Not before what is in flight has been answered: its price is not known yet."""
    STOP = "stop"
    """The cap could be passed."""


def kind_of(request: VideoRequest) -> Kind:
    """Requests of one kind cost the same: billing is per model, quality and second (provider's document)."""
    defaults = catalog.defaults(request.model)
    quality = request.quality or defaults.get("quality")
    duration = request.duration or defaults.get("duration")
    return request.model, quality, duration


@define
class Budget:
    """The money of one batch. `cap` is in credits, None for no cap.

    `spent` is what tasks have reserved or used; `held` what submissions in flight, or of unknown outcome, may cost.
    `blind` once the provider took a submission without saying what it reserved: a cap can't be kept then, so nothing
    more is sent.
    """

    cap: float | None = None
    spent: float = 0.0
    blind: bool = False
    _prices: dict[Kind, float] = Factory(dict)
    _held: dict[Kind, int] = Factory(dict)

    @property
    def held(self) -> float:
        return sum(count * self._prices.get(kind, 0.0) for kind, count in self._held.items())

    @property
    def prices(self) -> Mapping[Kind, float]:
        """What was learned, by kind."""
        return self._prices

    def price(self, request: VideoRequest) -> float | None:
        """The credits a request is expected to reserve; None before the first reply of its kind."""
        return self._prices.get(kind_of(request))

    def verdict(self, request: VideoRequest) -> Verdict:
        if self.cap is None:
            return Verdict.SEND
        if self.blind:
            return Verdict.STOP
        price = self.price(request)
        in_flight = any(self._held.values())
        if price is None:
            if self.spent + self.held >= self.cap:
                return Verdict.STOP
            return Verdict.WAIT if in_flight else Verdict.SEND
        if self.spent + self.held + price <= self.cap:
            return Verdict.SEND
        return Verdict.STOP

    def hold(self, request: VideoRequest) -> None:
        """A submission goes out, or its outcome is unknown: it may cost its price."""
        kind = kind_of(request)
        self._held[kind] = self._held.get(kind, 0) + 1

    def release(self, request: VideoRequest) -> None:
        """The submission was not taken after all."""
        self._held[kind_of(request)] -= 1

    def reserve(self, request: VideoRequest, reserved: float | None) -> None:
        """The submission was accepted; the provider `reserved` so many credits (None: it did not say)."""
        self.release(request)
        if reserved is None:
            self.spent += self.price(request) or 0.0
            self.blind |= self.price(request) is None
            return
        self.learn(request, reserved)
        self.spent += reserved

    def learn(self, request: VideoRequest, reserved: float) -> None:
        kind = kind_of(request)
        self._prices[kind] = max(reserved, self._prices.get(kind, 0.0))

    def prices_json(self) -> str:
        """What was learned, for `recall_prices` of a later run."""
        return json.dumps([[*kind, price] for kind, price in sorted(self._prices.items(), key=repr)])

    def recall_prices(self, text: str) -> None:
        """Take over what an earlier run learned; what can't be read is learned anew."""
        try:
            learned = {
                (str(model), quality, duration): float(price) for model, quality, duration, price in json.loads(text)
            }
        except (ValueError, TypeError, OverflowError, RecursionError):
            return
        self._prices.update({kind: price for kind, price in learned.items() if 0 <= price < math.inf})

    def settle(self, reserved: float | None, used: float | None) -> None:
        """The task ended: `used` credits were charged instead of `reserved` (0 for a failed task)."""
        if used is not None:
            self.spent += used - (reserved or 0.0)
