from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wanasync.emulator.media import FRAME_SIZES, FileMedia, Media, tiny
from wanasync.emulator.validation import MODELS
from wanasync.emulator.videos import TINY_CLIP


def boxes(data: bytes) -> list[bytes]:
    """Types of the top-level boxes of an MP4, which must fill it exactly."""
    found, at = [], 0
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        found.append(kind)
        at += length
    assert at == len(data)
    return found


def whole(media: Media) -> bytes:
    return media.read(0, media.size)


def test_each_task_has_its_own_bytes_and_they_are_an_mp4() -> None:
    one, two = tiny(TINY_CLIP, "task-1"), tiny(TINY_CLIP, "task-2")
    assert boxes(whole(one)) == [*boxes(TINY_CLIP), b"free"]
    assert whole(one) != whole(two)
    assert one.etag != two.etag


@pytest.mark.parametrize("size", [10, 8_000, 200_000])
def test_a_clip_can_be_padded_to_a_size(size: int) -> None:
    media = tiny(TINY_CLIP, "task-1", size)
    assert media.size == len(whole(media)) == max(size, len(TINY_CLIP) + 8 + len("task-1"))
    assert boxes(whole(media))[-1] == b"free"


@given(st.integers(0, 150_000), st.integers(0, 150_000))
@settings(max_examples=60, deadline=None)
def test_any_part_is_that_part_of_the_whole(start: int, length: int) -> None:
    media = tiny(TINY_CLIP, "task-1", 140_000)
    assert media.read(start, start + length) == whole(media)[start : start + length]


@given(st.integers(0, 80), st.integers(0, 80))
@settings(max_examples=60, deadline=None)
def test_a_file_is_read_in_parts_too(tmp_path_factory: pytest.TempPathFactory, start: int, length: int) -> None:
    path = tmp_path_factory.getbasetemp() / "video.mp4"
    path.write_bytes(bytes(range(40)))
    media = FileMedia.of(path, "task-1")
    assert whole(media).startswith(bytes(range(40)))
    assert media.size == len(whole(media))
    assert media.read(start, start + length) == whole(media)[start : start + length]


def test_two_tasks_with_one_rendered_file_differ(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(TINY_CLIP)
    one, two = FileMedia.of(path, "task-1"), FileMedia.of(path, "task-2")
    assert whole(one) != whole(two)
    assert one.etag != two.etag
    assert boxes(whole(one))[-1] == b"free"


def test_there_is_a_frame_size_for_all_that_a_model_offers() -> None:
    for model in MODELS.values():
        for quality, shapes in model.shapes.items():
            for shape in shapes:
                width, height = FRAME_SIZES[quality][shape]
                across, down = map(int, shape.split(":"))
                assert width % 2 == height % 2 == 0
                assert width / height == pytest.approx(across / down, rel=0.04)
