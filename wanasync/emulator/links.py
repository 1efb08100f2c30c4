"""Signed links to videos, as object stores make them: `…/videos/{task id}.mp4?Expires=…&Signature=…`. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from enum import StrEnum

from attrs import frozen

__all__ = ["LinkState", "Links"]


class LinkState(StrEnum):
    GOOD = "good"
    EXPIRED = "expired"
    FORGED = "forged"


@frozen
class Links:
    """Makes and checks links. `secret` never leaves the emulator."""

    secret: bytes

    def path(self, task_id: str, expires: float) -> str:
        """Path and query of a link that dies at `expires` (unix seconds)."""
        until = int(expires)
        return f"/videos/{task_id}.mp4?Expires={until}&Signature={self._signature(task_id, until)}"

    def check(self, task_id: str, query: Mapping[str, str], now: float) -> LinkState:
        until = query.get("Expires", "")
        if not (until.isascii() and until.isdigit() and len(until) < 16):
            return LinkState.FORGED
        if not hmac.compare_digest(self._signature(task_id, int(until)), query.get("Signature", "")):
            return LinkState.FORGED
        return LinkState.EXPIRED if now >= int(until) else LinkState.GOOD

    def _signature(self, task_id: str, until: int) -> str:
        return hmac.new(self.secret, f"{task_id}:{until}".encode(), hashlib.sha256).hexdigest()[:32]
