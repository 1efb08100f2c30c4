"""Looks into MP4 files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import av
from attrs import frozen
from PIL import Image, ImageChops, ImageStat


@frozen
class Film:
    codec: str
    pixels: str
    size: tuple[int, int]
    seconds: float
    pictures: tuple[Image.Image, ...]
    title: str


def watch(video: Path | bytes) -> Film:
    """Decode all of it, as a player would."""
    source = BytesIO(video) if isinstance(video, bytes) else str(video)
    with av.open(source, "r") as container:
        stream = container.streams.video[0]
        pictures = tuple(frame.to_image() for frame in container.decode(stream))  # type: ignore[no-untyped-call]
        assert stream.duration is not None
        assert stream.time_base is not None
        return Film(
            codec=stream.codec_context.name,
            pixels=str(stream.codec_context.pix_fmt),
            size=(stream.width, stream.height),
            seconds=float(stream.duration * stream.time_base),
            pictures=pictures,
            title=container.metadata.get("title", ""),
        )


def boxes(video: bytes) -> list[str]:
    """The names of the outermost boxes in their order."""
    return [name for name, _ in _boxes(video)]


def _boxes(video: bytes) -> Iterator[tuple[str, int]]:
    at = 0
    while at < len(video):
        length, name = struct.unpack_from(">I4s", video, at)
        yield name.decode("latin-1"), length
        at += length


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of two pictures, 0 to 255."""
    return sum(ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).mean) / 3
