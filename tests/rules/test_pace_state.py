"""A pacer that is written down and read again goes on as if nothing had happened, whatever had happened to it."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections import deque
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from wanasync.models import Limits
from wanasync.rules.pace_record import RateKind
from wanasync.rules.pace_state import codec, shape
from wanasync.rules.pacing import Pacer
from wanasync.rules.shared_pace import VERSION, SharedPace

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["send", "send", "accepted", "accepted", "throttled", "refused", "unknown", "never_sent", "end"]
        ),
        st.sampled_from([0.0, 0.1, 0.25, 1.0, 7.0, 60.0, 700.0]),
        st.sampled_from([None, 0.5, 1.0, 20.0, 60.0]),
        st.booleans(),
    ),
    max_size=60,
)
LIMITS = st.sampled_from([None, Limits(requests=5), Limits(concurrent=3), Limits(requests=4, per=10.0, concurrent=2)])


class Driven:
    """A pacer, and what was sent through it."""

    def __init__(self, limits: Limits | None) -> None:
        self.pacer = Pacer(rng=random.Random(1), limits=limits)
        self.now, self.wire, self.tasks = 100.0, deque[int](), deque[str]()

    def step(self, what: str, wait: float, hint: float | None, firm: bool) -> Any:
        self.now += wait
        pacer, now = self.pacer, self.now
        if what == "send":
            while len(self.wire) < 6 and pacer.earliest(now) <= now:
                self.wire.append(pacer.send(now))
        elif what == "end" and self.tasks:
            pacer.finished(self.tasks.popleft(), now)
        elif self.wire and what == "accepted":
            number = self.wire.popleft()
            pacer.accepted(number, now, f"task-{number}")
            self.tasks.append(f"task-{number}")
        elif self.wire and what == "throttled":
            pacer.throttled(self.wire.pop(), now, hint, firm=firm)
        elif self.wire and what in ("refused", "unknown", "never_sent"):
            getattr(pacer, what)(self.wire.popleft(), now)
        return pacer.permit(now), pacer.statistics(now), pacer.learned(now)

    def rewrite(self) -> None:
        text = json.dumps(codec(Pacer).dump(self.pacer))
        rng = self.pacer._rng
        self.pacer = codec(Pacer).load(json.loads(text))
        self.pacer.resume(rng=rng, most_on_wire=32)
        assert json.dumps(codec(Pacer).dump(self.pacer)) == text


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, limits=LIMITS, every=st.integers(1, 7))
def test_written_and_read_again_it_decides_the_same(steps: list[Any], limits: Limits | None, every: int) -> None:
    kept, rewritten = Driven(limits), Driven(limits)
    for number, step in enumerate(steps):
        if number % every == 0:
            rewritten.rewrite()
        assert kept.step(*step) == rewritten.step(*step)
    assert codec(Pacer).dump(kept.pacer) == codec(Pacer).dump(rewritten.pacer)


def test_a_bounded_log_stays_bounded() -> None:
    pacer = Pacer(rng=random.Random(1))
    quota = pacer._beliefs.quota
    read = codec(Pacer).load(codec(Pacer).dump(pacer))
    assert read._beliefs.quota.met.maxlen == quota.met.maxlen == 3


@define
class Sample:
    at: float
    kind: RateKind
    counts: dict[int, str] = field(factory=dict)
    pair: tuple[float, int] | None = None
    unkept: int = field(default=0, metadata={"state": False})


def test_values_are_lists_in_the_order_of_the_fields() -> None:
    value = Sample(math.inf, RateKind.BUCKET, {2: "b", 1: "a"}, (1.5, 2), unkept=7)
    assert codec(Sample).dump(value) == [math.inf, "BUCKET", [[2, "b"], [1, "a"]], [1.5, 2]]
    again = codec(Sample).load(codec(Sample).dump(value))
    assert (again.at, again.kind, list(again.counts), again.pair) == (math.inf, RateKind.BUCKET, [2, 1], (1.5, 2))
    assert shape(Sample) == (
        "Sample(at: float, kind: RateKind[UNKNOWN, WINDOW, BUCKET], counts: dict[int, str], "
        "pair: tuple[float, int] | NoneType)"
    )


@pytest.mark.parametrize(
    "damaged",
    [None, [], {}, 7, [1.0, "BUCKET", []], [1.0, "BUCKET", [], None, 1], ["1", "BUCKET", [], None],
     [1.0, "NONSENSE", [], None], [1.0, [], [], None], [True, "BUCKET", [], None], [math.nan, "BUCKET", [], None],
     [1.0, "BUCKET", [[1]], None], [1.0, "BUCKET", [["1", "a"]], None], [1.0, "BUCKET", [], [1.0]]],
)  # fmt: skip
def test_what_nobody_wrote_is_refused(damaged: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        codec(Sample).load(damaged)


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", "[" * 5000, '[[1,2],{"a":1}]', "\x00"])
def test_a_damaged_state_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        SharedPace.from_json(text, rng=random.Random(1))


def test_the_version_goes_with_the_shape() -> None:
    """Who changes a field that is kept raises `shared_pace.VERSION`, and then writes the new pair down here."""
    assert (VERSION, hashlib.sha256(shape(SharedPace).encode()).hexdigest()[:16]) == (1, "5a36fbd32274b3ed")
