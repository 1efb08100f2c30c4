from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.video_host import film
from wanasync.rules.containers import HEAD, container_of, looks_like_text, video_problem


def problem(data: bytes, *, length_known: bool = True) -> str | None:
    return video_problem(lambda offset, size: data[offset : offset + size], len(data), length_known=length_known)


def box(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


FTYP = box(b"ftyp", b"isom\0\0\2\0")
MOOV = box(b"moov", bytes(50))
MDAT = box(b"mdat", b"pictures")


@pytest.mark.parametrize(
    ("head", "container"),
    [
        (FTYP, "mp4"),
        (box(b"moov"), "mp4"),
        (box(b"wide"), "mp4"),
        (b"\x1aE\xdf\xa3\x01\0\0\0", "webm"),
        (b"RIFF\0\0\0\0AVI LIST", "avi"),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"<!DOCTYPE html>", None),
        (b'{"error": "gone"}', None),
        (b"\x89PNG\r\n\x1a\n", None),
        (b"ftyp", None),
        (b"", None),
    ],
)
def test_containers_are_known_by_their_first_bytes(head: bytes, container: str | None) -> None:
    assert container_of(head[:HEAD]) == container


@pytest.mark.parametrize("text", [b"<html>", b" \r\n<Error>", b'\xef\xbb\xbf{"a": 1}', b"[1]"])
def test_pages_and_messages_are_told_from_damaged_videos(text: bytes) -> None:
    assert looks_like_text(text)


@pytest.mark.parametrize("data", [b"", b"\0\0\0\0", FTYP[:3]])
def test_other_bytes_are_no_text(data: bytes) -> None:
    assert not looks_like_text(data)


@pytest.mark.parametrize(
    "video",
    [
        FTYP + MOOV + MDAT,
        FTYP + MDAT + MOOV,
        FTYP + MOOV + struct.pack(">I4sQ", 1, b"mdat", 16 + 5) + b"12345",
        FTYP + MOOV + struct.pack(">I4s", 0, b"mdat") + b"to the end",
        FTYP + MOOV + box(b"\xa9xyz"),
        FTYP + MOOV + b"".join(box(b"moof") + MDAT for _ in range(50)),
        film(5_000),
    ],
)
def test_a_whole_mp4_passes_with_and_without_a_known_length(video: bytes) -> None:
    assert problem(video) is None
    assert problem(video, length_known=False) is None


@given(st.integers(0, 2_999))
@settings(max_examples=50)
def test_an_mp4_cut_anywhere_never_passes_for_a_whole_one(cut: int) -> None:
    assert problem(film(3_000)[:cut], length_known=False) is not None


def test_an_mp4_without_its_index_is_no_video() -> None:
    assert problem(FTYP + MDAT) == "it has no index (moov)"


@pytest.mark.parametrize("trailer", [bytes(100), b"\0\0", b"\xff" * 20])
def test_bytes_behind_the_last_box_pass_only_where_the_transfer_is_known_to_be_whole(trailer: bytes) -> None:
    video = FTYP + MOOV + MDAT + trailer
    assert problem(video) is None
    assert problem(video, length_known=False) is not None


def test_a_box_that_ends_behind_the_file_is_a_cut_even_with_a_known_length() -> None:
    assert problem((FTYP + MOOV + MDAT)[:-1]) == f"it is cut short at byte {len(FTYP + MOOV + MDAT) - 1}"


def test_endless_tiny_boxes_are_left() -> None:
    assert problem(FTYP + MOOV + box(b"free") * 100_001) == "it has too many parts"


@pytest.mark.parametrize(("data", "reason"), [(b"", "it is empty"), (b"<html></html>", "it is not a video")])
def test_what_is_no_video_is_named(data: bytes, reason: str) -> None:
    assert problem(data) == reason


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=100)
def test_any_bytes_are_judged_without_an_error(tail: bytes, length_known: bool) -> None:
    problem(FTYP + tail, length_known=length_known)
