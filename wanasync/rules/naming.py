"""File names of videos: safe on every file system, and one video each.

A name the user wants is taken as it is or refused with the reason; it is never quietly changed. A name made here, from
an id or a prompt, is bent until it is safe. All names are relative to the batch's directory, with `/` between parts.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from hashlib import blake2b

from wanasync.errors import RequestValidationError

__all__ = [
    "MAX_PART",
    "file_name",
    "is_inside",
    "lasting_name",
    "leading_number",
    "made_name",
    "name_key",
    "numbered",
    "safe_stem",
    "slug",
    "wanted_name",
]

SUFFIX = ".mp4"

MAX_PART = 120
"""Bytes in one part of a name. File systems allow 255; `.part` files and `-2` need some of the rest."""

MAX_DEPTH = 8
"""Parts of a name, so that no name can pass the 1,000 or so bytes a whole path may have."""

MAX_SLUG = 48
MAX_SLUG_BYTES = 100
SLUG_SOURCE = 4 * MAX_SLUG
"""Characters of a prompt that a name is made of; the longest prompts have 2,000."""

# Devices under Windows, whatever follows the first dot. The superscript digits are reserved there too.
_RESERVED = frozenset(
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"]
    + [f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789¹²³"]
)
# What Windows forbids in names, control characters, and those that turn the direction of the text around them: a name
# must read as what it is.
_FORBIDDEN = re.compile(r'[<>:"|?*/\\\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]')
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")
_LEADING_NUMBER = re.compile(r"[0-9]{1,9}(?![0-9])")
_DRIVE = re.compile(r"[A-Za-z]:")
_ASCII_WORDS = {code: chr(code) if chr(code).isalnum() else " " for code in range(128)}


def file_name(prompt: str, index: int, item_id: str | None = None, wanted: str | None = None) -> str:
    """The name an item's video would like to have; whether it is still free is for the journal to say.

    Raises `RequestValidationError` where a wanted name can't be had.
    """
    return wanted_name(wanted) if wanted is not None else made_name(prompt, index, item_id)


@functools.lru_cache(maxsize=8192)  # a journal asks once for a chunk of thousands and once for each item of it
def made_name(prompt: str, index: int, item_id: str | None = None) -> str:
    """A name for an item that wants none: after its id, else its place in the list (from 1) and its prompt."""
    if item_id is not None:
        return safe_stem(item_id, f"{index + 1:04d}") + SUFFIX
    words = slug(prompt)
    return f"{index + 1:04d}-{words}{SUFFIX}" if words else f"{index + 1:04d}{SUFFIX}"


def lasting_name(prompt: str, index: int) -> str | None:
    """`made_name` where it will be the same for ever, so that it need not be written down; None where it may not.

    That of an ASCII prompt: what other letters become is told by Unicode's tables, which grow with each Python. For
    ASCII, `made_name` and `slug` must stay as they are: journals rely on it.
    """
    return made_name(prompt, index, None) if prompt[:SLUG_SOURCE].isascii() else None


def wanted_name(wanted: str) -> str:
    """The user's name for a video, with `.mp4` added where it is missing; folders are allowed.

    Raises `RequestValidationError` for names that would leave the batch's directory, hide, or not exist everywhere.
    """
    path = unicodedata.normalize("NFC", wanted).replace("\\", "/")
    reason = _why_not_relative(path)
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not reason and not parts:
        reason = "must name a file"
    if not reason and path.endswith("/"):
        reason = "must name a file, not a folder"
    if reason:
        raise RequestValidationError("file", wanted, reason)
    if not parts[-1].lower().endswith(SUFFIX):
        parts[-1] += SUFFIX
    reason = _why_not_parts(parts)
    if reason:
        raise RequestValidationError("file", wanted, reason)
    return "/".join(parts)


def _why_not_relative(path: str) -> str | None:
    if path.startswith("/") or _DRIVE.match(path):
        return "must be relative to the output directory"
    if ".." in path.split("/"):
        return "must not leave the output directory"
    return None


def _why_not_parts(parts: list[str]) -> str | None:
    if len(parts) > MAX_DEPTH:
        return f"must not be nested in more than {MAX_DEPTH - 1} folders"
    if any(folder.lower().endswith(SUFFIX) for folder in parts[:-1]):
        # Else one item's video could be another item's folder, found out after both were paid for.
        return f"must not have a folder ending in {SUFFIX}"
    return next(filter(None, map(_why_not_part, parts)), None)


def _why_not_part(part: str) -> str | None:
    found = _FORBIDDEN.search(part) or _LONE_SURROGATE.search(part)
    if found:
        return f"must not contain {found.group()!a}, which not every file system takes"
    if part.startswith("."):
        # Hidden files are ours: `.wanasync` holds the journal.
        return "must not have a part beginning with a dot"
    if part != part.strip(" ") or part.endswith(".") or part == SUFFIX:
        return "must not have a part that begins or ends with a space, or ends with a dot"
    if part.split(".")[0].rstrip(" ").upper() in _RESERVED:
        return f"must not use {part.split('.')[0]}, which is a device under Windows"
    if len(part.encode()) > MAX_PART:
        return f"must not have a part longer than {MAX_PART} bytes"
    return None


_INSIDE = re.compile(r"(?:[^./\\:\0][^/\\:\0]*/)*[^./\\:\0][^/\\:\0]*\.[mM][pP]4")


def is_inside(name: str) -> bool:
    """Whether a name that comes from elsewhere, a journal, is that of a video below the batch's directory.

    What every name made here has always been, whatever else the rules for names become: relative, no part of it going
    up, hidden or a drive, and a video by its suffix.
    """
    return _INSIDE.fullmatch(name) is not None


def slug(prompt: str) -> str:
    """The prompt's words as a file name: lower case, letters and digits of any script, joined by dashes.

    At most 48 characters and 100 bytes, cut between words where that does not cost more than half; empty for prompts
    without a letter or digit.
    """
    text = prompt[:SLUG_SOURCE]
    if text.isascii():
        words = "-".join(text.lower().translate(_ASCII_WORDS).split())
    else:
        words = _words(unicodedata.normalize("NFKC", text).lower())
    return _cut(words)


def _words(text: str) -> str:
    """Marks belong to the letter before them: without its vowel signs a word in Hindi or Thai is another word."""
    spaced = "".join(char if char.isalnum() or _is_mark(char) else " " for char in unicodedata.normalize("NFC", text))
    return "-".join(word for word in spaced.split() if word[0].isalnum())


def _is_mark(char: str) -> bool:
    return unicodedata.category(char) in ("Mn", "Mc")


def _cut(words: str) -> str:
    if len(words) <= MAX_SLUG and words.isascii():
        return words
    short = _first_bytes(words[:MAX_SLUG], MAX_SLUG_BYTES)
    if short != words and words[len(short)] != "-":
        space = short.rfind("-")
        short = short[:space] if space > len(short) // 2 else short
    return short.rstrip("-")


def _first_bytes(text: str, limit: int) -> str:
    return text if len(text) <= limit and text.isascii() else text.encode()[:limit].decode(errors="ignore")


def safe_stem(text: str, fallback: str) -> str:
    """Foreign text as a file name without its suffix: bent until it is one part, safe on every file system."""
    text = _LONE_SURROGATE.sub("-", _FORBIDDEN.sub("-", unicodedata.normalize("NFC", text)))
    if text.lower().endswith(SUFFIX):
        text = text[: -len(SUFFIX)]
    # A leading dash would be read as an option by many a command, a leading dot hides the file.
    text = _first_bytes(text.lstrip(".- "), MAX_PART - len(SUFFIX) - 1).rstrip(". ")
    if text.split(".")[0].rstrip(" ").upper() in _RESERVED:
        text = f"_{text}"
    return text or fallback


def numbered(name: str, number: int) -> str:
    """Another name beside one that is taken: `cat.mp4` with 2 becomes `cat-2.mp4`."""
    folder, slash, last = name.rpartition("/")
    ending = f"-{number}{SUFFIX}"
    stem = last[: -len(SUFFIX)] if last.lower().endswith(SUFFIX) else last
    return f"{folder}{slash}{_first_bytes(stem, MAX_PART - len(ending))}{ending}"


def leading_number(key: int) -> int | None:
    """The number that a name with this `name_key` begins with; None where it begins with none."""
    return key >> 32 if key < 1 << 62 else None


@functools.lru_cache(maxsize=8192)
def name_key(name: str) -> int:
    """A 63-bit number, the same for names that a file system may take for the same: by case or by composition.

    Names that begin with a number are ordered by it, so that a long list's names go into an index one behind the
    other; strewn about, each chunk of a million rewrites the whole index.
    """
    if name.isascii():
        folded = name.lower()
    else:
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
    digest = int.from_bytes(blake2b(folded.encode(), digest_size=8).digest(), "big")
    number = _LEADING_NUMBER.match(folded)
    return int(number.group()) << 32 | digest >> 32 if number else 1 << 62 | digest >> 2
