"""Requests made small: the lines of a list have most of their words in common.

Each is compressed by itself, with words of the list's own as a dictionary: a third of its size, for some 10 µs. A
journal has a few dictionaries, numbered from 1; a packed request begins with the number of its own.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

__all__ = ["MOST", "Packing"]

WINDOW = 13
"""Bits of how far back words are looked for: a larger dictionary costs more time than it saves space."""
DICTIONARY = 2**WINDOW - 300
"""Bytes; the window holds a little less than its size."""
ENOUGH = 64
"""Requests that make a dictionary worth its own size."""
MOST = 8
"""Dictionaries of a journal."""
POOR = 0.6
"""Packed to plain, above which a list speaks of other things than the one whose words are known."""
LARGEST = 2**20
"""Bytes of a request: a journal may be a stranger's, and some bytes of it must not become the whole memory."""


class Packing:
    """The dictionaries of one journal. `load` gives one by its number; None where there is none."""

    def __init__(self, load: Callable[[int], bytes | None]) -> None:
        self._load = load
        self._number = 0
        self._packer = _packer(b"")
        self._unpackers: dict[int, zlib._Decompress] = {}

    def use(self, number: int) -> None:
        """Pack with this dictionary, the newest; with 0 requests stay as they are."""
        self._number = number
        if number:
            self._packer = _packer(self._load(number) or b"")

    def pack(self, request: str) -> str | bytes:
        """Packed, or as it was where that is no gain."""
        plain = request.encode()
        if not self._number or len(plain) > LARGEST:
            return request
        packer = self._packer.copy()
        packed = bytes([self._number]) + packer.compress(plain) + packer.flush()
        return packed if len(packed) < len(plain) else request

    def new_words(self, requests: Sequence[str], packed: Sequence[str | bytes]) -> bytes | None:
        """Another dictionary, made of `requests`, where they call for one."""
        if len(requests) < ENOUGH or self._number >= MOST:
            return None
        plain = "".join(requests).encode()
        if sum(map(len, packed)) <= POOR * len(plain):
            return None
        return plain[:DICTIONARY]

    def unpack(self, packed: bytes) -> str:
        """The request. Raises `ValueError` for what `pack` can't have made."""
        unpacker = self._unpacker(packed[:1]).copy()
        try:
            plain = unpacker.decompress(packed[1:], LARGEST)
        except zlib.error as error:
            raise ValueError(f"can't be unpacked: {error}") from error
        if not unpacker.eof or unpacker.unused_data:
            raise ValueError("can't be unpacked: it is cut or too long")
        return plain.decode()

    def _unpacker(self, head: bytes) -> zlib._Decompress:
        number = int.from_bytes(head, "big")
        if number not in self._unpackers:
            words = self._load(number)
            if words is None:
                raise ValueError(f"there is no dictionary {number}")
            self._unpackers[number] = zlib.decompressobj(-WINDOW, zdict=words)
        return self._unpackers[number]


def _packer(words: bytes) -> zlib._Compress:
    return zlib.compressobj(9, zlib.DEFLATED, -WINDOW, 5, zdict=words)
