"""Sets a prompt in type: which font for which piece, where lines break, which way they run.

Pillow draws one run of one font in one direction. What lies before that is here: runs by font and direction, line
breaks with the rules that readers of Chinese and Japanese expect, and the largest size that fits.
What no font can show is named instead, e.g. `[Japanese, 7 letters: U+732B U+304C ...]`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

from attrs import frozen

from wanasync.emulator import bidi
from wanasync.emulator.fonts import Face, FontLibrary, pillow_face

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

REFERENCE = 64  # pixels: words are measured once at this size; widths scale with it
LONGEST = 4000  # characters: more than any model takes, and less than a frame can show
WEIGHT = 600  # semi-bold, where the font is variable
SHOWN_CODES = 4  # code points given for a stretch without a font

ZWJ = "\u200d"
NOT_AT_LINE_START = frozenset(
    "、。，．,.!?！？:;：；)]}）］｝〉》」』】〕〗〙’”»…‥・ー々ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ%％"
)
NOT_AT_LINE_END = frozenset("([{（［｛〈《「『【〔〖〘‘“«")
IDEOGRAPHIC = ((0x2E80, 0x33FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0xFF00, 0xFF60), (0x20000, 0x323AF))
NEEDS_SHAPING = ((0x0700, 0x074F), (0x0900, 0x0DFF), (0x0F00, 0x109F), (0x1780, 0x18AF))
PLAIN_SIGNS = str.maketrans("×–—‘’“”", "x--''\"\"")
# Han characters are shared, their shapes are not: these are written so in Traditional Chinese only.
TRADITIONAL = frozenset("這個們來說時國會學對發後裡讓還過為與車馬門開東風飛鳥魚龍貓樂電話雲")


@frozen
class Piece:
    """A grapheme cluster (what a reader takes for one character) with its face and bidi level."""

    text: str
    face: Face
    level: int = 0


@frozen
class Run:
    """Neighbours of one face and level: drawn at once, so that letters join and kern."""

    text: str
    face: Face
    rtl: bool

    def font(self, size: int) -> FreeTypeFont:
        return self.face.at(size, WEIGHT)

    def length(self, size: int) -> float:
        return self.font(size).getlength(self.drawn(), **self.options())

    def drawn(self) -> str:
        """The text as the layout engine of its font wants it."""
        return self.text if self._is_shaped or not self.rtl else bidi.unshaped_order(self.text)

    def options(self) -> dict[str, Any]:
        return {"direction": "rtl" if self.rtl else "ltr"} if self._is_shaped else {}

    @property
    def _is_shaped(self) -> bool:
        return can_shape() and self.face.path is not None  # Pillow sets its own font without shaping


@frozen
class Line:
    """`runs` as they stand from left to right, and the width of all in pixels."""

    runs: tuple[Run, ...]
    width: float
    rtl: bool


@frozen
class Block:
    """Text ready to draw: sizes in pixels; `unshown` names the scripts that no font here has."""

    lines: tuple[Line, ...]
    size: int
    line_height: int
    unshown: tuple[str, ...] = ()

    @property
    def height(self) -> int:
        return self.line_height * len(self.lines)


@frozen
class _Word:
    """What must stay on one line; `width` and `space` (behind it) in pixels at the reference size."""

    pieces: tuple[Piece, ...]
    width: float
    space: tuple[Piece, ...]
    space_width: float


# --- characters -----------------------------------------------------------------------------------------------------


def clean(prompt: str) -> str:
    """`prompt` with what can't be drawn taken out: controls, direction marks, halves of surrogate pairs."""
    text = unicodedata.normalize("NFC", "".join(map(_drawable, prompt[:LONGEST])))
    lines = (" ".join(line.split()) for line in text.split("\n"))
    shown = "\n".join(line for line in lines if line)
    return shown + "…" if len(prompt) > LONGEST else shown


def _drawable(char: str) -> str:
    if char in "\n\r\v\f\x85\u2028\u2029":
        return "\n"
    category = unicodedata.category(char)
    if category == "Cs":
        return "\ufffd"
    if category == "Cc" or (category == "Cf" and not _joins(char)):
        return " " if char == "\t" else ""
    return char


def _joins(char: str) -> bool:
    """Whether `char` belongs to the character before it."""
    code = ord(char)
    return (
        char in "\u200c\u200d"
        or unicodedata.category(char) in ("Mn", "Mc", "Me")
        or 0x1F3FB <= code <= 0x1F3FF  # skin tones
        or 0xE0020 <= code <= 0xE007F  # tags of regional flags
    )


def clusters(text: str) -> list[str]:
    """`text` cut into what a reader takes for characters: marks, conjuncts, emoji families and flags kept whole."""
    found: list[str] = []
    for char in text:
        if found and (_joins(char) or _continues(found[-1], char)):
            found[-1] += char
        else:
            found.append(char)
    return found


def _continues(cluster: str, char: str) -> bool:
    if cluster[-1] == ZWJ:
        return not char.isspace()
    if unicodedata.combining(cluster[-1]) == 9:  # a virama binds the next consonant
        return unicodedata.category(char) == "Lo"
    return len(cluster) == 1 and _is_flag_half(cluster) and _is_flag_half(char)


def _is_flag_half(char: str) -> bool:
    return 0x1F1E6 <= ord(char) <= 0x1F1FF


def is_ideographic(cluster: str) -> bool:
    """Whether a line may break on both sides: Han, kana and what is set among them (Hangul breaks at spaces)."""
    return _within(cluster[0], IDEOGRAPHIC)


def _within(char: str, ranges: Iterable[tuple[int, int]]) -> bool:
    return any(first <= ord(char) <= last for first, last in ranges)


def region(text: str) -> str:
    """Whose Han shapes `text` wants: JP, KR, TC or SC."""
    if any("\u3040" <= char <= "\u30ff" for char in text):
        return "JP"
    if any("\uac00" <= char <= "\ud7a3" for char in text):
        return "KR"
    return "TC" if TRADITIONAL & set(text) else "SC"


# --- faces, and what has none ---------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def can_shape() -> bool:
    """Whether Pillow can join and reorder letters: it needs FriBiDi, which its wheels load from the machine."""
    from PIL import features

    return bool(features.check("raqm"))


def needs_shaping(cluster: str) -> bool:
    """Whether unshaped letters would be unreadable: Syriac, the Indic scripts, Tibetan, Burmese, Khmer, Mongolian.

    Arabic is not among them: `bidi.unshaped_order` joins its letters.
    """
    return _within(cluster[0], NEEDS_SHAPING)


def script_name(cluster: str, han: str = "Chinese") -> str:
    """E.g. Arabic, Devanagari; `han` for the scripts of East Asia; for signs and pictures their own name: `rocket`."""
    char = cluster[0]
    if is_ideographic(char):
        return han
    name = unicodedata.name(char, f"U+{ord(char):04X}")
    return name.split()[0].capitalize() if char.isalpha() else name.lower()


def _placeholder(script: str, missing: Sequence[str]) -> str:
    if not missing[0][0].isalpha():
        return f"[{script}]" * len(missing)
    codes = [f"U+{ord(char):04X}" for cluster in missing for char in cluster]
    more = " ..." if len(codes) > SHOWN_CODES else ""
    letters = "1 letter" if len(missing) == 1 else f"{len(missing)} letters"
    return f"[{script}, {letters}: {' '.join(codes[:SHOWN_CODES])}{more}]"


@frozen
class _Setting:
    """The faces for one text."""

    library: FontLibrary
    region: str

    def face_for(self, cluster: str) -> Face | None:
        if needs_shaping(cluster) and not can_shape():
            return None
        return self.library.face_for(cluster, self.region)

    def showable(self, text: str) -> tuple[list[str], tuple[str, ...]]:
        """The clusters of `text` with those that no font has replaced by their names, and the scripts replaced."""
        shown: list[str] = []
        unshown: list[str] = []
        found = [self._plainer(cluster) for cluster in clusters(text)]
        for script, group in groupby(self._with_lacking(found), key=lambda pair: pair[0]):
            parts = [cluster for _, cluster in group]
            if script is None:
                shown.extend(parts)
                continue
            unshown.append(script)
            shown.extend(_placeholder(script, [part for part in parts if not part.isspace()]))
            shown.extend(" " if parts[-1].isspace() else "")
        return shown, tuple(dict.fromkeys(unshown))

    def _with_lacking(self, found: Iterable[str]) -> Iterator[tuple[str | None, str]]:
        """Each cluster with the script it lacks a font for; a space behind such a cluster goes with it."""
        han = {"JP": "Japanese", "KR": "Korean"}.get(self.region, "Chinese")
        script: str | None = None
        for cluster in found:
            if not (script and cluster.isspace()):
                script = None if self.face_for(cluster) else script_name(cluster, han)
            yield script, cluster

    def _plainer(self, cluster: str) -> str:
        """`cluster`, or where no font has it, its letters without accents: e for é, x for ×."""
        if self.face_for(cluster):
            return cluster
        bare = "".join(char for char in unicodedata.normalize("NFKD", cluster) if not unicodedata.combining(char))
        bare = bare.translate(PLAIN_SIGNS)
        return bare if bare.isascii() and bare and self.face_for(bare) else cluster

    def pieces(self, shown: Sequence[str]) -> tuple[Piece, ...]:
        faces = (self.face_for(cluster) or pillow_face() for cluster in shown)
        return tuple(map(Piece, shown, faces, bidi.levels(shown)))


# --- lines ----------------------------------------------------------------------------------------------------------


def set_text(text: str, *, library: FontLibrary, width: int, height: int, largest: int, smallest: int) -> Block:
    """`text` at the largest size between the two given (pixels) that fits the box; cut short if none does."""
    setting = _Setting(library, region(text))
    paragraphs: list[list[_Word]] = []
    unshown: tuple[str, ...] = ()
    for paragraph in clean(text).split("\n"):
        shown, lacking = setting.showable(paragraph)
        paragraphs.append(_words(setting.pieces(shown)))
        unshown += lacking
    size, rows = _fit(paragraphs, width=width, height=height, largest=largest, smallest=smallest)
    line_height = _line_height(rows, size)
    lines = tuple(_line(row, size) for row in rows)
    return Block(lines, size, line_height, tuple(dict.fromkeys(unshown)))


def _fit(
    paragraphs: Sequence[Sequence[_Word]], *, width: int, height: int, largest: int, smallest: int
) -> tuple[int, list[tuple[Piece, ...]]]:
    for size in _sizes(paragraphs, width, largest, smallest):
        limit = width * REFERENCE / size
        rows = _wrap(paragraphs, limit)
        if _line_height(rows, size) * len(rows) <= height:
            return size, _balanced(paragraphs, limit, rows)
    room = max(1, height // _line_height(rows, size))
    return size, _cut(rows, room, limit)


def _sizes(paragraphs: Sequence[Sequence[_Word]], width: int, largest: int, smallest: int) -> Iterator[int]:
    """Down in steps of a sixteenth, from where the longest word still fits unless that is too small to be worth it."""
    longest = max((word.width for words in paragraphs for word in words), default=0)
    whole = int(width * REFERENCE / longest) if longest else largest
    size = min(largest, whole) if whole >= largest // 3 else largest
    while size > smallest:
        yield size
        size -= max(1, size // 16)
    yield smallest


def _wrap(paragraphs: Sequence[Sequence[_Word]], limit: float) -> list[tuple[Piece, ...]]:
    return [row for words in paragraphs for row in _wrap_paragraph(words, limit)]


def _wrap_paragraph(words: Sequence[_Word], limit: float) -> Iterator[tuple[Piece, ...]]:
    row: list[_Word] = []
    used = 0.0
    for part in chain.from_iterable(_parts(word, limit) for word in words):
        if row and used + part.width > limit:
            yield _joined(row)
            row, used = [], 0.0
        row.append(part)
        used += part.width + part.space_width
    if row:
        yield _joined(row)


def _joined(row: Sequence[_Word]) -> tuple[Piece, ...]:
    spaced = chain.from_iterable((*word.pieces, *word.space) for word in row[:-1])
    return (*spaced, *row[-1].pieces)


def _parts(word: _Word, limit: float) -> Iterator[_Word]:
    """`word`, in pieces where it is wider than a line."""
    if word.width <= limit:
        yield word
        return
    part: list[Piece] = []
    used = 0.0
    for piece in word.pieces:
        advance = _advance(piece.text, piece.face)
        if part and used + advance > limit:
            yield _Word(tuple(part), used, (), 0.0)
            part, used = [], 0.0
        part.append(piece)
        used += advance
    yield _Word(tuple(part), used, word.space, word.space_width)


@lru_cache(maxsize=4096)
def _advance(text: str, face: Face) -> float:
    return _measure((Piece(text, face),))


def _balanced(
    paragraphs: Sequence[Sequence[_Word]], limit: float, rows: list[tuple[Piece, ...]]
) -> list[tuple[Piece, ...]]:
    """As many lines, of more even length: a short last line looks lost in a title."""
    narrow, wide = limit / 2, limit
    while len(rows) <= 6 and wide - narrow > limit / 64:
        middle = (narrow + wide) / 2
        candidate = _wrap(paragraphs, middle)
        if len(candidate) > len(rows):
            narrow = middle
        else:
            wide, rows = middle, candidate
    return rows


def _cut(rows: list[tuple[Piece, ...]], room: int, limit: float) -> list[tuple[Piece, ...]]:
    """The first `room` rows, the last one ending in an ellipsis."""
    kept = rows[:room]
    last = kept[-1]
    face = last[-1].face if last[-1].face.covers(".") else pillow_face()
    ellipsis = tuple(Piece(dot, face, last[-1].level) for dot in "...")
    while len(last) > 1 and _measure(last + ellipsis) > limit:
        last = last[:-1]
    return [*kept[:-1], last + ellipsis]


def _words(pieces: Sequence[Piece]) -> list[_Word]:
    words: list[_Word] = []
    start = 0
    for end in range(1, len(pieces) + 1):
        if end < len(pieces) and not _may_break(pieces[end - 1].text, pieces[end].text):
            continue
        body = tuple(piece for piece in pieces[start:end] if not piece.text.isspace())
        space = tuple(piece for piece in pieces[start:end] if piece.text.isspace())
        words.append(_Word(body, _measure(body), space, _measure(space)))
        start = end
    return words


def _may_break(before: str, after: str) -> bool:
    if before.isspace():
        return not after.isspace()
    if after.isspace() or after[0] in NOT_AT_LINE_START or before[0] in NOT_AT_LINE_END:
        return False
    return is_ideographic(before) or is_ideographic(after)


def _runs(pieces: Sequence[Piece]) -> list[Run]:
    """The runs of a row from left to right."""
    grouped = [
        (level, Run("".join(piece.text for piece in group), face, rtl=bool(level % 2)))
        for (level, face), group in groupby(pieces, key=lambda piece: (piece.level, piece.face))
    ]
    return [grouped[i][1] for i in bidi.visual_order([level for level, _ in grouped])]


def _measure(pieces: Sequence[Piece]) -> float:
    return sum(run.length(REFERENCE) for run in _runs(pieces))


def _line(row: Sequence[Piece], size: int) -> Line:
    runs = tuple(_runs(row))
    return Line(runs, sum(run.length(size) for run in runs), rtl=any(piece.level == 1 for piece in row[:1]))


def _line_height(rows: Sequence[Sequence[Piece]], size: int) -> int:
    """The tallest face among them decides: Thai and Devanagari reach higher than Latin."""
    faces = {piece.face for row in rows for piece in row}
    tallest = max((sum(face.at(REFERENCE).getmetrics()) / REFERENCE for face in faces), default=1.2)
    return round(size * min(max(tallest * 0.92, 1.16), 1.5))
