"""Decode every video of a directory from its first frame to its last: `python tests/helpers/playable.py DIR COUNT`."""

from __future__ import annotations

import sys
from pathlib import Path

import av

__all__ = ["frames"]


def frames(path: Path) -> int:
    """How many frames the file holds, each decoded."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def main(directory: str, expected: str) -> int:
    videos = sorted(Path(directory).rglob("*.mp4"))
    counts = {video.name: frames(video) for video in videos}
    for name, count in counts.items():
        print(f"{count:5d} frames  {name}")
    print(f"{len(videos)} videos")
    return 0 if len(videos) == int(expected) and all(counts.values()) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
