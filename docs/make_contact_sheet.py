"""Makes the README's picture: one frame of each video of a folder, side by side.

wanasync run examples/prompts.txt --emulator --to videos
python docs/make_contact_sheet.py videos docs/images/contact-sheet.png
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import av
from PIL import Image, ImageDraw

COLUMNS = 4
TILE = (288, 162)
GAP = 8
CORNER = 7
MOMENT = 0.4  # of each video's length


def main() -> None:
    parser = argparse.ArgumentParser(description="One frame of each video of a folder, side by side.")
    parser.add_argument("folder", type=Path, help="holds the .mp4 files, shown in order of their names")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    asked = parser.parse_args()
    videos = sorted(asked.folder.rglob("*.mp4"))
    if not videos:
        parser.error(f"no videos in {asked.folder}")
    few_colours(contact_sheet(videos)).save(asked.picture, optimize=True)


def contact_sheet(videos: list[Path]) -> Image.Image:
    """The tiles on a transparent ground, so that it suits light and dark pages."""
    width, height = TILE
    rows = -(-len(videos) // COLUMNS)
    sheet = Image.new("RGBA", (COLUMNS * (width + GAP) - GAP, rows * (height + GAP) - GAP))
    for number, video in enumerate(videos):
        place = number % COLUMNS * (width + GAP), number // COLUMNS * (height + GAP)
        sheet.paste(tile(video), place, rounded())
    return sheet


def few_colours(sheet: Image.Image) -> Image.Image:
    """With 64 steps a colour: half the size, and no difference to the eye."""
    return sheet.point([value & 0xFC | value >> 6 for value in range(256)] * 4)


def tile(video: Path) -> Image.Image:
    """A frame of `video`, whole, in the middle of a tile."""
    with av.open(str(video), "r") as container:
        stream = container.streams.video[0]
        frame = next(islice(container.decode(stream), int(stream.frames * MOMENT), None))
        picture: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]
    picture.thumbnail(TILE, Image.Resampling.LANCZOS)
    ground = Image.new("RGB", TILE, "#101014")
    ground.paste(picture, ((TILE[0] - picture.width) // 2, (TILE[1] - picture.height) // 2))
    return ground


def rounded() -> Image.Image:
    mask = Image.new("L", (TILE[0] * 4, TILE[1] * 4))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, mask.width - 1, mask.height - 1), radius=CORNER * 4, fill=255)
    return mask.resize(TILE, Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
