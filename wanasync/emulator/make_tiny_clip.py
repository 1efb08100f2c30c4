"""`python -m wanasync.emulator.make_tiny_clip [PATH]` makes `data/tiny.mp4` anew."""

from __future__ import annotations

import sys
from pathlib import Path

from wanasync.emulator.film import make_film
from wanasync.emulator.fonts import FontLibrary
from wanasync.emulator.videos import VideoSpec

TINY = VideoSpec("wan", width=128, height=72, seconds=1, fps=8, label="")


def main(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    make_film(TINY, path, FontLibrary(()))  # Pillow's own font: the same clip on every machine


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent / "data" / "tiny.mp4")
