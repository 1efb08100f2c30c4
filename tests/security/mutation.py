"""Odd values and damaged bytes, drawn from a `random.Random`: some twenty microseconds each, so that a hundred thousand
are tried in a minute. The suite hands in hypothesis's `Random`, which makes what fails small."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeVar

__all__ = ["Make", "choose", "damaged", "nested", "number", "text"]

T = TypeVar("T")

Make = Callable[[Random], T]

_ALPHABETS = (
    (0x20, 0x7E),
    (0x00, 0x1F),
    (0x7F, 0x17F),
    (0x200B, 0x206F),
    (0x4E00, 0x4E80),
    (0xD800, 0xDFFF),
    (0xFE00, 0xFFFF),
    (0x1F300, 0x1F9FF),
    (0xE0000, 0x10FFFF),
)

_NUMBERS = (0, 1, -1, 5, 10, 100, 429, 503, 2**31, 2**63, -(2**63), 10**400, 1e308, 5e-324, -0.0)
_NO_NUMBERS = (float("inf"), float("-inf"), float("nan"))


def choose(rng: Random, *makers: Make[T]) -> T:
    return rng.choice(makers)(rng)


def text(rng: Random, longest: int = 12) -> str:
    """Of one or two alphabets; lone surrogates are among them."""
    first, last = rng.choice(_ALPHABETS) if rng.randrange(2) else _ALPHABETS[0]
    return "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(0, longest)))


def number(rng: Random) -> float:
    kind = rng.randrange(5)
    if kind == 0:
        return rng.choice(_NO_NUMBERS)
    if kind == 1:
        return rng.randint(-(2**70), 2**70)
    if kind == 2:
        return rng.uniform(-1e6, 1e6)
    return rng.choice(_NUMBERS)


def nested(rng: Random, leaf: Make[Any], name: Make[str], depth: int = 3) -> Any:
    """A JSON value: half of them leaves, the others lists and objects of such."""
    kind = rng.randrange(4) if depth else 0
    if kind <= 1:
        return leaf(rng)
    if kind == 2:
        return [nested(rng, leaf, name, depth - 1) for _ in range(rng.randint(0, 4))]
    return {name(rng): nested(rng, leaf, name, depth - 1) for _ in range(rng.randint(0, 5))}


def damaged(rng: Random, content: bytes, words: Sequence[bytes] = ()) -> bytes:
    """One to four times something is changed, taken out, doubled, moved or put in; then perhaps the end is missing."""
    body = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(body))
        end = min(len(body), at + rng.choice((0, 1, 1, 4, 16, 100)))
        body[at:end] = _instead(rng, bytes(body[at:end]), words)
    return bytes(body[: rng.randint(0, len(body))]) if rng.randrange(4) == 0 else bytes(body)


def _instead(rng: Random, piece: bytes, words: Sequence[bytes]) -> bytes:
    kind = rng.randrange(5)
    if kind == 0:
        return b""
    if kind == 1:
        return piece * rng.choice((2, 3, 50))
    if kind == 2 and words:
        return rng.choice(words)
    if kind == 3:
        return bytes(byte ^ 1 << rng.randrange(8) for byte in piece)
    return bytes(rng.randrange(256) for _ in range(rng.randint(0, 8)))
