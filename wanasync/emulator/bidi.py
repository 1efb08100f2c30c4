"""Text that runs from right to left: the order of characters on a line, and Arabic letters joined by hand.

The order is a two-level form of the Unicode bidirectional algorithm (UAX #9): no explicit embeddings, whose control
characters are removed before. Within a run the shaping engine does the rest; where there is none, `unshaped_order`
does what can be done without: Arabic presentation forms, mirrored brackets, reversed characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import groupby

LAM = "\u0644"
TATWEEL = "\u0640"
MIRRORED = str.maketrans("()[]{}<>«»‹›", ")(][}{><»«›‹")


def levels(clusters: Sequence[str]) -> list[int]:
    """A level for each cluster: even ones run left to right, odd ones right to left."""
    kinds = [_kind(cluster[0]) for cluster in clusters]
    base = 1 if next((kind for kind in kinds if kind in "LR"), "L") == "R" else 0
    _settle_numbers(kinds, "LR"[base])
    _settle_neutrals(kinds, "LR"[base])
    level_of = {"L": base * 2, "R": 1, "N": 2}
    return [level_of[kind] for kind in kinds]


def visual_order(levels: Sequence[int]) -> list[int]:
    """Indices in the order in which they stand from left to right (rule L2)."""
    order = list(range(len(levels)))
    for lowest in (2, 1):
        stretches = groupby(order, key=lambda i: levels[i] >= lowest)
        order = [i for inside, group in stretches for i in (reversed(list(group)) if inside else group)]
    return order


def _kind(char: str) -> str:
    """L or R for letters, N for numbers, s for what holds numbers together, else a space."""
    known = {"L": "L", "R": "R", "AL": "R", "EN": "N", "AN": "N", "ET": "s", "CS": "s", "ES": "s"}
    return known.get(unicodedata.bidirectional(char), " ")


def _settle_numbers(kinds: list[str], base: str) -> None:
    strong = base
    for i, kind in enumerate(kinds):
        if kind in "LR":
            strong = kind
        elif kind == "s":  # 3.14 and 12:30 are one number
            between = i > 0 and kinds[i - 1] == "N" and kinds[i + 1 : i + 2] == ["N"]
            kinds[i] = "N" if between else " "
        elif kind == "N" and strong == "L":
            kinds[i] = "L"


def _settle_neutrals(kinds: list[str], base: str) -> None:
    """A neutral stretch goes with its neighbours where they agree, else with the text; numbers count as R here."""
    before, place = base, 0
    for neutral, group in groupby(list(kinds), key=lambda kind: kind == " "):
        end = place + len(list(group))
        if neutral:
            after = kinds[end].replace("N", "R") if end < len(kinds) else base
            kinds[place:end] = [before if before == after else base] * (end - place)
        else:
            before = kinds[end - 1].replace("N", "R")
        place = end


def unshaped_order(text: str) -> str:
    """A right-to-left run for an engine that only sets characters from left to right."""
    joined = _join_arabic(text.translate(MIRRORED))
    found: list[str] = []
    for char in joined:
        if found and unicodedata.combining(char):
            found[-1] += char
        else:
            found.append(char)
    return "".join(reversed(found))


@lru_cache(maxsize=1)
def _arabic_forms() -> Mapping[str, Mapping[str, str]]:
    """Letter (or lam and alef) → form (isolated, final, initial, medial) → character, as Unicode decomposes them."""
    forms: dict[str, dict[str, str]] = {}
    for code in (*range(0xFB50, 0xFDFC), *range(0xFE70, 0xFEFD)):
        form, *letters = unicodedata.decomposition(chr(code)).split() or [""]
        base = "".join(chr(int(letter, 16)) for letter in letters)
        if base and (len(base) == 1 or (len(base) == 2 and base[0] == LAM and base[1] in "\u0622\u0623\u0625\u0627")):
            forms.setdefault(base, {}).setdefault(form.strip("<>"), chr(code))
    return forms


def _join_arabic(text: str) -> str:
    forms = _arabic_forms()
    letters: list[str] = []
    for char in text:  # lam and alef are one letter
        if letters and letters[-1] + char in forms:
            letters[-1] += char
        else:
            letters.append(char)
    joining = [i for i, letter in enumerate(letters) if not unicodedata.combining(letter[0])]
    shown = list(letters)
    for before, i, after in zip([None, *joining], joining, [*joining[1:], None], strict=False):
        left = after is not None and _reaches_on(letters[i]) and _takes_up(letters[after])
        right = before is not None and _reaches_on(letters[before]) and _takes_up(letters[i])
        form = {(False, False): "isolated", (False, True): "final", (True, False): "initial", (True, True): "medial"}
        shown[i] = forms.get(letters[i], {}).get(form[left, right], letters[i])
    return "".join(shown)


def _reaches_on(letter: str) -> bool:
    return letter == TATWEEL or "initial" in _arabic_forms().get(letter, {})


def _takes_up(letter: str) -> bool:
    return letter == TATWEEL or "final" in _arabic_forms().get(letter, {})
