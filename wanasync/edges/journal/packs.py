"""The requests of a journal, row by row: packed by the dozen, since what they have in common is most of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from wanasync.edges.journal.packing import Packing

__all__ = ["Packs"]

REQUESTS = 20
"""Of a pack: more would hardly take less space, and fill a page of the database less well."""
LARGE = 2**12
"""Characters, from which on a pack takes no more."""
AT_HAND = 8

Pack = tuple[int, str | bytes]
"""The row of its first request, and the requests: canonical JSON, a line each, packed where that is a gain."""


class Packs:
    """`load` gives the pack of a row, by the row's number; None where there is none."""

    def __init__(self, packing: Packing, load: Callable[[int], Pack | None]) -> None:
        self._packing = packing
        self._load = load
        self._at_hand: dict[int, list[str]] = {}

    def request(self, seq: int) -> str:
        """The request of the row. Raises `ValueError` where there is none, or a damaged one."""
        for first, requests in self._at_hand.items():
            if first <= seq < first + len(requests):
                return requests[seq - first]
        first, requests = self._read(seq)
        if len(self._at_hand) >= AT_HAND:
            del self._at_hand[next(iter(self._at_hand))]
        self._at_hand[first] = requests
        return requests[seq - first]

    def _read(self, seq: int) -> tuple[int, list[str]]:
        first, packed = self._load(seq) or (0, "")
        text = packed if isinstance(packed, str) else self._packing.unpack(packed)
        requests = text.split("\n")
        if not 0 < first <= seq < first + len(requests):
            raise ValueError(f"row {seq} has no request")
        return first, requests

    def forget(self) -> None:
        """What was read may have been taken back."""
        self._at_hand.clear()

    def packed(self, first: int, requests: Sequence[str]) -> list[Pack]:
        """The packs of these requests, the first of which is row `first`'s."""
        packs: list[Pack] = []
        for some in _shared_out(requests):
            packs.append((first, self._packing.pack("\n".join(some))))
            first += len(some)
        return packs


def _shared_out(requests: Sequence[str]) -> Iterator[list[str]]:
    some: list[str] = []
    size = 0
    for request in requests:
        if some and (len(some) == REQUESTS or size + len(request) > LARGE):
            yield some
            some, size = [], 0
        some.append(request)
        size += len(request)
    if some:
        yield some
