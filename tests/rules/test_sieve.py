"""A sieve never loses what was put into it."""

from __future__ import annotations

import random

from wanasync.rules.sieve import Sieve


def test_what_was_added_is_held_and_little_else() -> None:
    rng = random.Random(1)
    added = [rng.getrandbits(63) for _ in range(20_000)]
    others = [rng.getrandbits(63) for _ in range(20_000)]
    sieve = Sieve()
    assert sieve.held(added) == []
    sieve.add(added)
    assert sieve.held(added) == added
    assert len(sieve.held(others)) < 100
