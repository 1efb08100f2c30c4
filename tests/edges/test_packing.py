from __future__ import annotations

import zlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanasync.edges.journal.packing import ENOUGH, LARGEST, MOST, Packing

WORDS = ["harbour", "dawn", "boats", "gulls", "circle", "above", "quiet", "water", "neon", "rain", "glass", "tower"]


def requests(count: int, words: list[str], seed: int = 1) -> list[str]:
    rng = Random(seed)
    return [f'{{"prompt":"{" ".join(rng.choices(words, k=12))} {number}"}}' for number in range(count)]


def trained(*lists: list[str]) -> Packing:
    dictionaries: dict[int, bytes] = {}
    packing = Packing(dictionaries.get)
    for each in lists:
        words = packing.new_words(each, list(map(packing.pack, each)))
        if words is not None:
            dictionaries[len(dictionaries) + 1] = words
            packing.use(len(dictionaries))
    return packing


KNOWN = requests(200, WORDS)
PACKING = trained(KNOWN)


def test_the_words_of_a_list_make_its_requests_small() -> None:
    others = requests(1000, WORDS, seed=2)
    packed = [PACKING.pack(request) for request in others]
    assert [PACKING.unpack(each) for each in packed if isinstance(each, bytes)] == others
    assert sum(map(len, packed)) < 0.5 * sum(map(len, others))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_any_request_comes_back_as_it_was(request: str) -> None:
    packed = PACKING.pack(request)
    assert (PACKING.unpack(packed) if isinstance(packed, bytes) else packed) == request
    assert len(packed if isinstance(packed, bytes) else packed.encode()) <= len(request.encode())


def test_few_requests_and_huge_ones_stay_as_they_are() -> None:
    few = trained(KNOWN[: ENOUGH - 1])
    assert few.pack(KNOWN[0]) == KNOWN[0]
    huge = "a" * (LARGEST + 1)
    assert PACKING.pack(huge) == huge
    assert PACKING.unpack(PACKING.pack("a" * LARGEST)) == "a" * LARGEST  # type: ignore[arg-type]


def test_a_list_that_speaks_of_other_things_has_words_of_its_own() -> None:
    rng = Random(4)
    others = requests(200, ["".join(rng.choices("qxzjkvwybgfd", k=9)) for _ in range(60)])
    packing = trained(KNOWN, others)
    packed = [packing.pack(request) for request in others]
    assert {each[0] for each in packed if isinstance(each, bytes)} == {2}
    before = PACKING.pack(KNOWN[0])
    assert isinstance(before, bytes)
    assert packing.unpack(before) == KNOWN[0]


def test_a_list_without_common_words_makes_no_end_of_dictionaries() -> None:
    rng = Random(3)
    strange = [[rng.randbytes(60).hex() for _ in range(ENOUGH)] for _ in range(2 * MOST)]
    packing = trained(*strange)
    assert packing.new_words(strange[0], strange[0]) is None


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\x01",
        b"\x00abc",
        b"\x09abc",
        b"\x01 no deflate",
        bytes(PACKING.pack(KNOWN[5]))[:-2],  # type: ignore[arg-type]
        bytes(PACKING.pack(KNOWN[5])) + b"more",  # type: ignore[arg-type]
    ],
)
def test_what_nobody_packed_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match=r"can't be unpacked|no dictionary"):
        PACKING.unpack(packed)


def test_a_bomb_goes_off_at_a_megabyte() -> None:
    bomb = zlib.compressobj(9, zlib.DEFLATED, -13)
    packed = b"\x01" + bomb.compress(bytes(200 * LARGEST)) + bomb.flush()
    with pytest.raises(ValueError, match="too long"):
        PACKING.unpack(packed)


def test_text_that_is_none_is_refused() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -13)
    with pytest.raises(ValueError, match="utf-8"):
        PACKING.unpack(b"\x01" + packer.compress(b"\xff\xfe") + packer.flush())
