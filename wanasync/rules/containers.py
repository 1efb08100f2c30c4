"""Is this a video, and all of it? Judged from the container's outer structure, without decoding anything.

Needed because a host may answer 200 with an error page, and because a body without Content-Length that is cut short
ends, to an HTTP/1.1 client, just like a whole one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

__all__ = ["HEAD", "Read", "container_of", "looks_like_text", "video_problem"]

HEAD = 16
"""How many first bytes `container_of` wants."""

Read = Callable[[int, int], bytes]
"""`read(offset, size)`: the file's bytes there, fewer at its end."""

_MP4_FIRST_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
_MATROSKA = b"\x1aE\xdf\xa3"
_BOXES_LIMIT = 100_000


def container_of(head: bytes) -> str | None:
    """mp4 (QuickTime too), webm (Matroska too) or avi, from a file's first bytes; None where it is none of them.

    ISO/IEC 14496-12 starts a file with `ftyp` at bytes 4 to 8; older QuickTime files start with another box.
    """
    if head[4:8] in _MP4_FIRST_BOXES:
        return "mp4"
    if head.startswith(_MATROSKA):
        return "webm"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    return None


def looks_like_text(head: bytes) -> bool:
    """Whether this is the start of a page or a message (HTML, XML, JSON) rather than of a damaged video."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"<", b"{", b"[")


def video_problem(read: Read, size: int, *, length_known: bool) -> str | None:
    """What speaks against a finished file of `size` bytes being a whole video; None where nothing does.

    There is no least size: an MP4 must hold its index (`moov`) and end where its last box ends, which a page or a
    cut file does not, and a tiny clip does. With `length_known` the transfer is known to be whole, and bytes behind
    the last box, which some writers leave, are let pass.
    """
    container = container_of(read(0, HEAD))
    if container is None:
        return "it is not a video" if size else "it is empty"
    return _mp4_problem(read, size, length_known=length_known) if container == "mp4" else None


def _mp4_problem(read: Read, size: int, *, length_known: bool) -> str | None:
    kinds: set[bytes] = set()
    offset = 0
    for _ in range(_BOXES_LIMIT):
        if offset == size:
            return None if b"moov" in kinds else "it has no index (moov)"
        kind, length = _box(read(offset, 16), size - offset)
        if not _is_box(kind, length) or offset + length > size:
            complete = length_known and b"moov" in kinds and not _is_box(kind, length)
            return None if complete else f"it is cut short at byte {size}"
        kinds.add(kind)
        offset += length
    return "it has too many parts"


def _box(header: bytes, rest: int) -> tuple[bytes, int]:
    """A box's kind and length; a length of 0 stands for the rest of the file, 1 for a 64-bit one behind the kind."""
    if len(header) < 8:
        return b"", 0
    length, kind = struct.unpack_from(">I4s", header)
    if length == 0:
        return kind, rest
    if length == 1:
        return (kind, struct.unpack_from(">Q", header, 8)[0]) if len(header) == 16 else (b"", 0)
    return kind, length


def _is_box(kind: bytes, length: int) -> bool:
    """Kinds are four printable characters; Apple's own may start with the copyright sign."""
    return length >= 8 and all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in kind)
