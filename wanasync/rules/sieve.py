"""What has certainly not been seen: asked before a look that costs more."""

from __future__ import annotations

from collections.abc import Iterable
from mmap import mmap

__all__ = ["Sieve"]


class Sieve:
    """Hashes of at least 27 bits: it holds each that was added, and of a million in it less than a hundredth of others.

    A bit each in 16 MB, which the system gives only as far as they are used; a million in a set are 60 MB.
    """

    def __init__(self) -> None:
        self._bits = mmap(-1, _BYTES)

    def add(self, numbers: Iterable[int]) -> None:
        bits = self._bits
        for number in numbers:
            bits[number >> 3 & _MASK] |= 1 << (number & 7)

    def held(self, numbers: Iterable[int]) -> list[int]:
        """Those of them that it holds."""
        bits = self._bits
        return [number for number in numbers if bits[number >> 3 & _MASK] & 1 << (number & 7)]


_BYTES = 1 << 24
_MASK = _BYTES - 1
