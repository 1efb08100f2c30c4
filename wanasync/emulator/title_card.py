"""What the emulator's videos show: the prompt as a title over slowly drifting colours.

The words are drawn once; for each frame only a small picture of the colours (the encoder's scaler makes it large and
smooth) and the strip with the clock and the progress line are made. Colours and paths follow from the prompt alone,
so the same prompt always looks the same.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from math import cos, exp, sin, tau

from attrs import frozen
from PIL import Image, ImageDraw, ImageFilter

from wanasync.emulator.fonts import FontLibrary
from wanasync.emulator.typesetting import Line, clean, set_text

MARK = "wanasync emulator"

# Ground first, then three lights. Dark enough everywhere for white type.
PALETTES = (
    ("0a0f24", "4636e0", "d63a80", "1190b0"),
    ("1a0b12", "d4472c", "b0337a", "c47a2a"),
    ("06140f", "0f8a5f", "a8962c", "0c668a"),
    ("041423", "0a74c4", "14a090", "5245d0"),
    ("160a1f", "8630c4", "d84c78", "2c56c4"),
    ("1b1110", "c8603a", "98408a", "3158a8"),
    ("1c0a14", "cc3270", "7234c8", "c86e30"),
    ("0b1118", "2f74c4", "3f9a9c", "6a4cb4"),
    ("0d1408", "5a8a2e", "1f8a7c", "b07428"),
    ("0a0d20", "274ad8", "c03058", "7a2eb0"),
    ("101018", "4a5a8c", "8c4a6c", "3c8a8a"),
    ("14080c", "c23a4a", "c0702c", "5c2c8c"),
    ("04161a", "0e9494", "2c5ec8", "8c3ca0"),
    ("120c1e", "5c44d0", "b83ca8", "2c8cb0"),
    ("16100a", "b07a30", "a04c34", "4c6e5c"),
    ("080e1a", "1c5cb8", "5c3cb8", "c24c74"),
)

Colour = tuple[float, float, float]


@frozen
class Box:
    """A rectangle in pixels; even corners, because the picture's colours have half its resolution."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def around(cls, left: int, top: int, right: int, bottom: int) -> Box:
        return cls(left - left % 2, top - top % 2, right + right % 2, bottom + bottom % 2)

    @property
    def size(self) -> tuple[int, int]:
        return self.right - self.left, self.bottom - self.top


# --- colours --------------------------------------------------------------------------------------------------------


@frozen
class _Light:
    """A soft light on an ellipse: place and reach in shares of the frame's shorter side, pace in turns a minute."""

    colour: Colour
    x: float
    y: float
    reach: float
    swing: float
    pace: float
    phase: float


class Backdrop:
    """Paints the drifting colours of one prompt as small pictures, `size` each."""

    def __init__(self, prompt: str, width: int, height: int) -> None:
        # Rows of a multiple of 8 pixels of 4 bytes need no padding, whatever the CPU.
        long, short = 24, 16
        self.size: tuple[int, int] = (long, short) if width >= height else (short, long)
        seed = sha256(prompt.encode("utf-8", "surrogatepass")).digest()
        ground, *lights = (_colour(code) for code in PALETTES[seed[0] % len(PALETTES)])
        self._ground = ground
        self._span = (width / min(width, height), height / min(width, height))
        # Evenly around the middle, so that no two start in one place.
        turns = [(seed[1] / 255 + i / len(lights)) * tau for i in range(len(lights))]
        self._lights = [self._light(*each, seed[2 + 6 * i :]) for i, each in enumerate(zip(lights, turns, strict=True))]

    def _light(self, colour: Colour, turn: float, seed: bytes) -> _Light:
        across, down = self._span
        near, reach, swing, pace = (byte / 255 for byte in seed[:4])
        return _Light(
            colour,
            x=across * (0.5 + (0.3 + 0.16 * near) * cos(turn)),
            y=down * (0.42 + (0.3 + 0.16 * near) * sin(turn)),
            reach=(0.34 + 0.12 * reach) * (across * down) ** 0.5,
            swing=0.16 + 0.14 * swing,
            pace=(5 + 3 * pace) * (1 if seed[4] % 2 else -1),
            phase=seed[5] / 255 * tau,
        )

    def at(self, second: float) -> bytes:
        """The colours at a moment of the video, as rows of red, green, blue and a spare byte."""
        wide, high = self.size
        across, down = self._span
        columns, rows, colours = [], [], []
        for light in self._lights:
            angle = light.phase + light.pace * second / 60 * tau
            x, y = light.x + light.swing * across * cos(angle), light.y + light.swing * down * sin(angle)
            columns.append([exp(-((((i + 0.5) / wide * across - x) / light.reach) ** 2)) for i in range(wide)])
            rows.append([exp(-((((i + 0.5) / high * down - y) / light.reach) ** 2)) for i in range(high)])
            colours.append(light.colour)
        return _mix(self._ground, colours, columns, rows)


def _mix(ground: Colour, colours: list[Colour], columns: list[list[float]], rows: list[list[float]]) -> bytes:
    """Each pixel the mean of ground and lights, weighted by their nearness. The inner loop of the drawing."""
    picture = bytearray()
    (r0, g0, b0), (r1, g1, b1), (r2, g2, b2), (r3, g3, b3) = (ground, *colours)
    for y1, y2, y3 in zip(*rows, strict=True):
        for x1, x2, x3 in zip(*columns, strict=True):
            w1, w2, w3 = 2.8 * x1 * y1, 2.8 * x2 * y2, 2.8 * x3 * y3
            total = 0.7 + w1 + w2 + w3
            picture += bytes(
                (
                    int((0.7 * r0 + w1 * r1 + w2 * r2 + w3 * r3) / total),
                    int((0.7 * g0 + w1 * g1 + w2 * g2 + w3 * g3) / total),
                    int((0.7 * b0 + w1 * b1 + w2 * b2 + w3 * b3) / total),
                    255,
                )
            )
    return bytes(picture)


def _colour(code: str) -> Colour:
    red, green, blue = bytes.fromhex(code)
    return float(red), float(green), float(blue)


# --- words ----------------------------------------------------------------------------------------------------------


@frozen
class Layout:
    """Where things stand, in pixels; all follows from the frame's shorter side."""

    width: int
    height: int

    @property
    def unit(self) -> float:
        return min(self.width, self.height) / 100

    @property
    def margin(self) -> int:
        return round(7 * self.unit)

    @property
    def small(self) -> int:
        """Size of the small type."""
        return max(7, round(2.9 * self.unit))

    @property
    def strip(self) -> Box:
        """Time and progress line."""
        top = self.height - self.margin - round(self.small * 1.9)
        return Box.around(self.margin, top, self.width - self.margin, self.height - self.margin + round(self.unit))

    @property
    def title(self) -> Box:
        top = self.margin + round(self.small * 2.5)
        return Box.around(self.margin, top, self.width - self.margin, max(top + 8, self.strip.top - self.small))


def draw_words(layout: Layout, prompt: str, label: str, library: FontLibrary) -> tuple[Image.Image, tuple[str, ...]]:
    """The still part, transparent around the words, and the scripts that no font could show."""
    ink = Image.new("L", (layout.width, layout.height))
    _draw_header(ink, layout, label, library)
    box = layout.title
    block = set_text(
        prompt if clean(prompt) else "(empty prompt)",
        library=library,
        width=box.size[0],
        height=box.size[1],
        largest=max(8, round(12 * layout.unit)),
        smallest=max(7, round(2.4 * layout.unit)),
    )
    # At the bottom of the box: a short prompt leaves the upper part to the colours.
    baseline = box.bottom - block.height + round(block.line_height * 0.5 + block.size * 0.34)
    for number, line in enumerate(block.lines):
        x = box.right - line.width if line.rtl else float(box.left)
        _draw_line(ink, line, block.size, x, baseline + number * block.line_height, fill=255)
    return _white(ink, shadow=1.2 * layout.unit), block.unshown


def _draw_header(ink: Image.Image, layout: Layout, label: str, library: FontLibrary) -> None:
    baseline = layout.margin + layout.small
    dot = round(layout.small * 0.62)
    ink.paste(255, (layout.margin, round(baseline - layout.small * 0.36 - dot / 2)), _disc(dot))
    left = layout.margin + round(dot + layout.small * 0.5)
    right = layout.width - layout.margin
    mark = _small_line(MARK, layout, library, right - left)
    _draw_line(ink, mark, layout.small, left, baseline, fill=240)
    described = _small_line(label, layout, library, right - left)
    if left + mark.width + layout.small + described.width <= right:
        _draw_line(ink, described, layout.small, right - described.width, baseline, fill=200)


def _small_line(text: str, layout: Layout, library: FontLibrary, width: int) -> Line:
    """The first line of `text` in small type."""
    size = layout.small
    block = set_text(text, library=library, width=max(1, width), height=size * 2, largest=size, smallest=size)
    return block.lines[0] if block.lines else Line((), 0.0, rtl=False)


def _draw_line(ink: Image.Image, line: Line, size: int, x: float, baseline: float, *, fill: int) -> None:
    draw = ImageDraw.Draw(ink)
    for run in line.runs:
        draw.text((x, baseline), run.drawn(), font=run.font(size), fill=fill, anchor="ls", **run.options())
        x += run.length(size)


@lru_cache(maxsize=32)
def _disc(diameter: int) -> Image.Image:
    """A round mask with smooth edges, which Pillow's own ellipses lack."""
    large = Image.new("L", (diameter * 4, diameter * 4))
    ImageDraw.Draw(large).ellipse((0, 0, diameter * 4 - 1, diameter * 4 - 1), fill=255)
    return large.resize((diameter, diameter), Image.Resampling.LANCZOS)


def _white(ink: Image.Image, shadow: float) -> Image.Image:
    """White type over its own soft shadow, so that it can be read on any colour. `shadow` is its reach in pixels."""
    type_ = Image.new("RGBA", ink.size, "white")
    type_.putalpha(ink)
    ground = Image.new("RGBA", ink.size, "black")
    ground.putalpha(ink.filter(ImageFilter.GaussianBlur(shadow)).point([value // 2 for value in range(256)]))
    return Image.alpha_composite(ground, type_)


# --- ticker ---------------------------------------------------------------------------------------------------------


class Ticker:
    """The moving strip: a caption, the time, and a line that fills as the video plays."""

    def __init__(self, layout: Layout, seconds: float, caption: str, library: FontLibrary) -> None:
        self._layout, self._seconds, self._library = layout, seconds, library
        self.box: Box = layout.strip
        width, height = self.box.size
        self._baseline = layout.small
        self._line_top = height - max(2, round(0.9 * layout.unit)) - round(layout.unit)
        self._thickness = max(1, round(0.45 * layout.unit))
        self._still = Image.new("L", self.box.size)
        time = _small_line(self._time(seconds), layout, library, width)
        room = width - round(time.width) - layout.small
        line = _small_line(caption, layout, library, room)
        if line.width <= room:
            _draw_line(self._still, line, layout.small, 0, self._baseline, fill=200)
        self._timed = ("", self._still)
        self._still.paste(70, (0, self._line_top, width, self._line_top + self._thickness))

    def at(self, second: float) -> Image.Image:
        ink = self._with_time(self._time(second)).copy()
        width = ink.width
        knob = self._thickness * 3
        reached = round((width - knob) * min(second / self._seconds, 1.0))
        ink.paste(255, (0, self._line_top, reached + knob // 2, self._line_top + self._thickness))
        ink.paste(255, (reached, self._line_top + self._thickness // 2 - knob // 2), _disc(knob))
        return _white(ink, shadow=0)

    def _with_time(self, time: str) -> Image.Image:
        if self._timed[0] != time:  # it changes ten times a second, frames come faster
            ink = self._still.copy()
            line = _small_line(time, self._layout, self._library, ink.width)
            _draw_line(ink, line, self._layout.small, ink.width - line.width, self._baseline, fill=240)
            self._timed = (time, ink)
        return self._timed[1]

    def _time(self, second: float) -> str:
        return f"{_clock_face(second)} / {_clock_face(self._seconds)}"


def _clock_face(second: float) -> str:
    tenths = round(second * 10)
    return f"{tenths // 600:02d}:{tenths // 10 % 60:02d}.{tenths % 10}"
