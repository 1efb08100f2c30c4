from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wanasync.emulator import fonts
from wanasync.emulator.fonts import Coverage, Face, FontLibrary, installed_fonts, pillow_face, read_faces

CODES = st.sets(st.integers(0x20, 0x2FF) | st.integers(0x1F600, 0x1F640), max_size=60)


def format_12(codes: set[int], glyph: int = 1) -> bytes:
    groups = b"".join(struct.pack(">III", code, code, glyph + i) for i, code in enumerate(sorted(codes)))
    return struct.pack(">HHIII", 12, 0, 16 + len(groups), 0, len(codes)) + groups


def format_4(segments: list[tuple[int, int, int, int]], glyphs: bytes = b"") -> bytes:
    """`segments` of (start, end, delta, shift), the last one ending at 0xFFFF."""
    starts, ends, deltas, shifts = zip(*segments, strict=True)
    count = len(segments)
    pack = f">{count}H"
    body = struct.pack(pack, *ends) + b"\0\0" + struct.pack(pack, *starts)
    body += struct.pack(pack, *deltas) + struct.pack(pack, *shifts) + glyphs
    return struct.pack(">HHHHHHH", 4, 14 + len(body), 0, count * 2, 0, 0, 0) + body


def cmap(*subtables: tuple[int, int, bytes]) -> bytes:
    head = struct.pack(">HH", 0, len(subtables))
    offset = 4 + 8 * len(subtables)
    records, bodies = b"", b""
    for platform, encoding, body in subtables:
        records += struct.pack(">HHI", platform, encoding, offset + len(bodies))
        bodies += body
    return head + records + bodies


def sfnt(**tables: bytes) -> bytes:
    named = {name.ljust(4): body for name, body in tables.items()}
    offset = 12 + 16 * len(named)
    records, bodies = b"", b""
    for name, body in named.items():
        records += name.encode() + struct.pack(">III", 0, offset + len(bodies), len(body))
        bodies += body
    return struct.pack(">IHHHH", 0x10000, len(named), 0, 0, 0) + records + bodies


def library_face(text: str, region: str | None = None) -> Face:
    face = installed_fonts().face_for(text, region)
    assert face is not None
    return face


@given(CODES)
def test_a_coverage_holds_what_it_was_made_of(codes: set[int]) -> None:
    coverage = Coverage.of(codes)
    assert {code for code in (*range(0x400), *range(0x1F5F0, 0x1F650)) if code in coverage} == codes


@given(CODES.filter(bool))
def test_format_12_is_read(codes: set[int]) -> None:
    coverage = fonts._read_cmap(cmap((3, 10, format_12(codes))))
    assert coverage is not None
    assert {code for code in (*range(0x400), *range(0x1F5F0, 0x1F650)) if code in coverage} == codes


def test_a_character_mapped_to_the_missing_glyph_is_not_covered() -> None:
    coverage = fonts._read_cmap(cmap((3, 10, format_12({65, 66}, glyph=0))))
    assert coverage is not None
    assert 65 not in coverage
    assert 66 in coverage


def test_format_4_is_read_with_deltas_and_with_glyph_lists() -> None:
    listed = (97, 99, 0, 4)  # its glyph numbers stand two words after its own shift
    table = format_4([(65, 67, (-65) & 0xFFFF, 0), listed, (0xFFFF, 0xFFFF, 1, 0)], struct.pack(">HHH", 7, 0, 9))
    coverage = fonts._read_cmap(cmap((3, 1, table)))
    assert coverage is not None
    assert [code for code in range(0x10000) if code in coverage] == [66, 67, 97, 99]


def test_the_fullest_unicode_table_wins_and_others_are_left() -> None:
    bmp = format_4([(65, 65, 0, 0), (0xFFFF, 0xFFFF, 1, 0)])
    coverage = fonts._read_cmap(cmap((1, 0, b"\0\0\0\0"), (3, 1, bmp), (3, 10, format_12({0x1F600}))))
    assert coverage == Coverage((0x1F600,), (0x1F600,))
    assert fonts._read_cmap(cmap((1, 0, b"\0\0\0\0"))) is None


@pytest.mark.parametrize("extra", [{"sbix": b""}, {"CBDT": b""}])
def test_fonts_of_colour_bitmaps_are_passed_over(tmp_path: Path, extra: dict[str, bytes]) -> None:
    path = tmp_path / "emoji.ttf"
    path.write_bytes(sfnt(cmap=cmap((3, 10, format_12({0x1F600}))), glyf=b"", **extra))
    assert read_faces(path) == ()


@pytest.mark.parametrize("content", [b"", b"not a font at all", b"ttcf\0\1\0\0\xff\xff\xff\xff", sfnt(glyf=b"x")])
def test_files_that_are_no_fonts_have_no_faces(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.ttf"
    path.write_bytes(content)
    assert read_faces(path) == ()
    assert read_faces(tmp_path / "gone.ttf") == ()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 4000), st.binary(min_size=1, max_size=8))
def test_a_damaged_font_is_never_more_than_no_font(
    tmp_path_factory: pytest.TempPathFactory, at: int, bit: bytes
) -> None:
    source = library_face("ก").path
    assert source is not None
    data = bytearray(source.read_bytes())
    data[at : at + len(bit)] = bit
    path = tmp_path_factory.mktemp("fonts") / "damaged.ttf"
    path.write_bytes(data[: len(data) - at])
    for face in read_faces(path):
        face.covers("ก")


@pytest.mark.parametrize("text", ["A", "é", "Ж", "猫", "が", "고", "ق", "न", "ไ", "🚀", "→"])
def test_what_a_face_claims_it_draws(text: str) -> None:
    face = library_face(text)
    font = face.at(40)
    absent = font.getmask("\U0010fffe")
    drawn = font.getmask(text)
    assert drawn.getbbox() is not None
    assert (drawn.size, bytes(drawn)) != (absent.size, bytes(absent))


def test_what_no_font_has_has_no_face() -> None:
    assert installed_fonts().face_for("\U0010fffe") is None
    assert FontLibrary(()).face_for("猫") is None


def test_han_is_drawn_the_way_of_the_region_asked_for() -> None:
    assert library_face("骨", "JP").region == "JP"
    assert library_face("骨", "SC").region == "SC"


def test_joiners_and_selectors_need_no_glyph() -> None:
    face = pillow_face()
    assert face.covers("a\u200db\ufe0f")
    assert not face.covers("猫")


def test_pillows_own_face_serves_where_nothing_else_is() -> None:
    face = FontLibrary(()).face_for("Hello, world!")
    assert face is pillow_face()
    assert face.at(20).getlength("Hello") > face.at(10).getlength("Hello") > 0


def test_a_variable_font_takes_the_weight_asked_for() -> None:
    face = library_face("a")
    assert face.at(40, 700).getlength("weight") > face.at(40, 400).getlength("weight")


def test_upright_text_faces_come_first(tmp_path: Path) -> None:
    for name in ("Zed-Regular.ttf", "NotoSans-BoldItalic.ttf", "NotoSans-Regular.ttf", "LastResort.otf", "note.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in fonts._ranked([tmp_path])] == [
        "NotoSans-Regular.ttf",
        "Zed-Regular.ttf",
        "NotoSans-BoldItalic.ttf",
    ]


@pytest.mark.parametrize(
    ("platform", "part"), [("linux", "usr/share/fonts"), ("darwin", "System/Library/Fonts"), ("win32", "Fonts")]
)
def test_each_system_has_its_folders(monkeypatch: pytest.MonkeyPatch, platform: str, part: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert any(part in folder.as_posix() for folder in fonts.system_folders())


def test_the_packages_of_the_extra_are_found() -> None:
    assert {folder.name for folder in fonts.package_folders()} == set(fonts.FONT_PACKAGES)


def test_the_fingerprint_tells_libraries_apart(tmp_path: Path) -> None:
    assert FontLibrary(()).fingerprint == FontLibrary(()).fingerprint
    assert FontLibrary((tmp_path / "a.ttf",)).fingerprint != FontLibrary(()).fingerprint
