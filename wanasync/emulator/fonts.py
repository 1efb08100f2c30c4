"""Which font can show which characters: the fonts of installed packages and of this machine.

Pillow draws but neither finds fonts nor says which glyphs one has, so this module reads the `cmap` table itself
(OpenType specification, "cmap": formats 4 and 12 hold nearly every font there is). A font is opened only when a
character asks for it: a desktop may have a thousand.
"""

from __future__ import annotations

import os
import re
import struct
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import sha256
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from attrs import define, field, frozen

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

# Packages of the `emulator` extra that hold fonts (SIL Open Font License); without them the machine's own are used.
FONT_PACKAGES = ("manimgx_fonts", "manimgx_fonts_cjk")

# A file's place in the queue follows from its name: upright text faces first, well-known families before others.
FAMILIES = (
    "notosans[", "notosans-", "notosanscjk", "notosans", "segoeui", "helveticaneue", "sfns", "inter", "roboto",
    "opensans", "ubuntu", "arial", "liberationsans", "dejavusans", "hiragino", "pingfang", "yugoth", "meiryo",
    "msyh", "malgun", "applesdgothicneo", "nirmala", "sourcehansans", "droidsans", "wqy",
)  # fmt: skip
ODD_STYLE = re.compile(r"italic|oblique|mono|serif|condensed|narrow|light|thin|black|bold|math|symbol|emoji", re.I)
# These claim every character and show a box for each.
NO_REAL_FONT = re.compile(r"lastresort|adobeblank|notdef", re.I)

# Joiners, variation selectors and tags: they steer their neighbours and need no glyph of their own.
IGNORABLE = frozenset({0x200C, 0x200D, *range(0xFE00, 0xFE10), *range(0xE0020, 0xE0080)})


@frozen
class Coverage:
    """A set of code points as sorted, disjoint ranges: `starts[i]` to `ends[i]`, both included."""

    starts: tuple[int, ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, codes: Iterable[int]) -> Coverage:
        starts: list[int] = []
        ends: list[int] = []
        for code in sorted(set(codes)):
            if ends and code == ends[-1] + 1:
                ends[-1] = code
            else:
                starts.append(code)
                ends.append(code)
        return cls(tuple(starts), tuple(ends))

    def __contains__(self, code: int) -> bool:
        place = bisect_right(self.starts, code) - 1
        return place >= 0 and code <= self.ends[place]


@frozen(eq=False)  # read once each; comparing coverages would be slow
class Face:
    """One face of a font file. `path` None is the small Latin font inside Pillow."""

    path: Path | None
    index: int
    family: str
    coverage: Coverage = field(repr=False)

    @property
    def region(self) -> str | None:
        """JP, KR, SC, TC or HK for a face that draws Han characters the way of one region."""
        found = re.search(r"(JP|KR|SC|TC|HK)$", self.family)
        return found[1] if found else None

    def covers(self, text: str) -> bool:
        return all(code in self.coverage or code in IGNORABLE for code in map(ord, text))

    def at(self, size: int, weight: int = 400) -> FreeTypeFont:
        """This face ready to draw, `size` in pixels; `weight` holds where the font is variable."""
        return _open(self.path, self.index, size, weight)


@lru_cache(maxsize=128)
def _open(path: Path | None, index: int, size: int, weight: int) -> FreeTypeFont:
    from PIL import ImageFont

    if path is None:
        font = ImageFont.load_default(size)
        assert isinstance(font, ImageFont.FreeTypeFont)  # noqa: S101 (a size is given, so it can't be the bitmap font)
        return font
    font = ImageFont.truetype(str(path), size, index=index)
    _set_weight(font, weight)
    return font


def _set_weight(font: FreeTypeFont, weight: int) -> None:
    try:
        axes = font.get_variation_axes()
    except (OSError, NotImplementedError):  # not a variable font
        return
    values = [_axis_value(axis, weight) for axis in axes]
    font.set_variation_by_axes(values)


def _axis_value(axis: object, weight: int) -> float:
    assert isinstance(axis, dict)  # noqa: S101 (Pillow types it as Any)
    if (axis.get("name") or b"").lower() != b"weight":
        return float(axis["default"])
    return float(min(max(weight, axis["minimum"]), axis["maximum"]))


@define
class FontLibrary:
    """Finds the face for a piece of text. Files are asked in order and read once; answers are kept."""

    files: tuple[Path, ...]
    _faces: dict[Path, tuple[Face, ...]] = field(factory=dict, init=False, repr=False)
    _answers: dict[tuple[str, str | None], Face | None] = field(factory=dict, init=False, repr=False)

    @property
    def fingerprint(self) -> str:
        """Changes when fonts come or go."""
        return sha256("\n".join(map(str, self.files)).encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def face_for(self, text: str, region: str | None = None) -> Face | None:
        """The first face that has every character of `text`, among equals the one of `region`."""
        key = (text, region)
        if key not in self._answers:
            if len(self._answers) > 50_000:
                self._answers.clear()
            self._answers[key] = next((face for face in self._in_order(region) if face.covers(text)), None)
        return self._answers[key]

    def _in_order(self, region: str | None) -> Iterator[Face]:
        for path in self.files:
            if path not in self._faces:
                self._faces[path] = read_faces(path)
            yield from sorted(self._faces[path], key=lambda face: face.region != region)
        yield pillow_face()


@lru_cache(maxsize=1)
def installed_fonts() -> FontLibrary:
    """The fonts of the packages first (the same on every machine), then the machine's own."""
    return FontLibrary((*_ranked(package_folders()), *_ranked(system_folders())))


def package_folders() -> list[Path]:
    specs = (find_spec(name) for name in FONT_PACKAGES)
    return [Path(folder) for spec in specs if spec for folder in spec.submodule_search_locations or ()]


def system_folders() -> list[Path]:
    home = Path.home()
    if sys.platform == "win32":
        local = Path(os.environ.get("LOCALAPPDATA", home))
        return [Path(os.environ.get("WINDIR", r"C:\Windows"), "Fonts"), local / "Microsoft/Windows/Fonts"]
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    return [Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".local/share/fonts", home / ".fonts"]


def _ranked(folders: Iterable[Path]) -> list[Path]:
    files = {file for folder in folders for file in _font_files(folder)}
    return sorted(files, key=_rank)


def _font_files(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        for name in names:
            if name.lower().endswith((".ttf", ".otf", ".ttc", ".otc")) and not NO_REAL_FONT.search(name):
                yield Path(root, name)


def _rank(path: Path) -> tuple[int, int, str]:
    name = path.stem.lower().replace(" ", "")
    family = next((place for place, start in enumerate(FAMILIES) if name.startswith(start)), len(FAMILIES))
    return len(ODD_STYLE.findall(name)), family, str(path)


@lru_cache(maxsize=1)
def pillow_face() -> Face:
    font = _open(None, 0, 16, 400)
    embedded = BytesIO(getattr(font, "font_bytes", b""))
    try:
        coverage = _coverage(embedded, 0)
    except struct.error:  # a Pillow that keeps no copy of it
        coverage = None
    return Face(None, 0, font.getname()[0] or "", coverage or Coverage.of(range(0x20, 0x7F)))


def read_faces(path: Path) -> tuple[Face, ...]:
    """The faces of a font file; none where it can't be read, has no outlines or no Unicode map."""
    try:
        with path.open("rb") as file:
            coverages = [_coverage(file, start) for start in _face_starts(file)]
        return tuple(
            Face(path, index, _family(path, index), coverage) for index, coverage in enumerate(coverages) if coverage
        )
    except (OSError, struct.error):
        return ()


def _family(path: Path, index: int) -> str:
    return _open(path, index, 16, 400).getname()[0] or path.stem


def _read(file: BinaryIO, offset: int, layout: str) -> tuple[int, ...]:
    file.seek(offset)
    return struct.unpack(f">{layout}", file.read(struct.calcsize(f">{layout}")))


def _face_starts(file: BinaryIO) -> tuple[int, ...]:
    file.seek(0)
    if file.read(4) != b"ttcf":
        return (0,)
    (count,) = _read(file, 8, "I")
    return _read(file, 12, f"{min(count, 256)}I")


def _coverage(file: BinaryIO, start: int) -> Coverage | None:
    tables = _tables(file, start)
    # Colour bitmap fonts come in fixed sizes, and those of Apple have empty outlines besides.
    if "cmap" not in tables or not tables.keys() & {"glyf", "CFF ", "CFF2"} or tables.keys() & {"sbix", "CBDT"}:
        return None
    offset, length = tables["cmap"]
    file.seek(offset)
    return _read_cmap(file.read(min(length, 4 << 20)))


def _tables(file: BinaryIO, start: int) -> dict[str, tuple[int, int]]:
    (count,) = _read(file, start + 4, "H")
    records = [_read(file, start + 12 + 16 * i, "4B3I") for i in range(count)]
    return {bytes(record[:4]).decode("latin-1"): (record[5], record[6]) for record in records}


def _read_cmap(cmap: bytes) -> Coverage | None:
    best = max(_unicode_subtables(cmap), default=None)  # a higher format holds more of Unicode
    if best is None:
        return None
    form, offset = best
    return _read_format_12(cmap, offset) if form == 12 else _read_format_4(cmap, offset)


def _unicode_subtables(cmap: bytes) -> Iterator[tuple[int, int]]:
    file = BytesIO(cmap)
    (count,) = _read(file, 2, "H")
    for i in range(count):
        platform, encoding, offset = _read(file, 4 + 8 * i, "HHI")
        (form,) = _read(file, offset, "H")
        if form in (4, 12) and (platform == 0 or (platform == 3 and encoding in (1, 10))):
            yield form, offset


def _read_format_12(cmap: bytes, offset: int) -> Coverage:
    (count,) = struct.unpack_from(">I", cmap, offset + 12)
    groups = struct.iter_unpack(">III", cmap[offset + 16 : offset + 16 + 12 * count])
    # Glyph 0 is the box for "not there"; a group that begins with it lacks its first character.
    ranges = sorted((start + (glyph == 0), end) for start, end, glyph in groups if start + (glyph == 0) <= end)
    return Coverage(tuple(start for start, _ in ranges), tuple(end for _, end in ranges))


def _read_format_4(cmap: bytes, offset: int) -> Coverage:
    (twice,) = struct.unpack_from(">H", cmap, offset + 6)
    count = twice // 2
    ends = struct.unpack_from(f">{count}H", cmap, offset + 14)
    starts = struct.unpack_from(f">{count}H", cmap, offset + 16 + twice)
    deltas = struct.unpack_from(f">{count}H", cmap, offset + 16 + 2 * twice)
    shifts_at = offset + 16 + 3 * twice
    shifts = struct.unpack_from(f">{count}H", cmap, shifts_at)

    def glyph(segment: int, code: int) -> int:
        if shifts[segment] == 0:
            return int(code + deltas[segment]) & 0xFFFF
        place: int = shifts_at + 2 * segment + shifts[segment] + 2 * (code - starts[segment])
        return int.from_bytes(cmap[place : place + 2], "big")

    # Segments stand in order; in a damaged font each could claim everything.
    firsts = (max(start, before + 1) for start, before in zip(starts, (-1, *ends), strict=False))
    return Coverage.of(
        code for segment, first in enumerate(firsts) for code in range(first, ends[segment] + 1) if glyph(segment, code)
    )
