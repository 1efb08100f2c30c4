"""Scripted trouble: what goes wrong, how often, in which order. Pure; the harm itself is done elsewhere.

Trouble strikes in lanes: submit, query, batch (the batch query), list, credits, download, task and callback. In each
lane a *script* names what happens to the first, second, … request, and then *rates* take over.

    Trouble(cut_downloads=0.2, html_502_polls=0.05, lost_reply_submits=0.1)
    Trouble.script(submit=["ok", "lost_reply", "processed:html_502"], download=["cut=1000", "no_range"])

A fault is written `name`, `name=value`, or `processed:name` for one that hides a request which was served (for a
submission: paid). As a rate it is a keyword `name_lane` in the plural (`polls` is query and batch), its value a share
of requests from 0 to 1, or (share, value). `a | b` joins two troubles; the right one wins where both speak.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from random import Random
from typing import TypeAlias

from attrs import field, frozen

__all__ = ["FAULTS", "LANES", "Dice", "Fault", "Rate", "Trouble"]

Rate: TypeAlias = float | tuple[float, float | str]

# fault: what its value means ("" where it takes none)
_BEFORE: Mapping[str, str] = {
    "reset": "",  # TCP reset, no reply
    "hangup": "",  # the connection is closed in good order, no reply
    "hang": "seconds of silence before the connection is closed, 3600 by default",
    "success_false": "message of a {success: false} inside HTTP 200",
    "throttled": "seconds to wait, told in a 429",
}
_AFTER: Mapping[str, str] = {
    "slow": "seconds the reply comes late, 5 by default",
    "truncated_json": "",  # a whole HTTP reply whose JSON stops half-way
    "cut_reply": "",  # the connection ends before Content-Length is reached
    "empty_200": "",
    "html_200": "",
    "wrong_types": "",  # JSON of the right shape with numbers for strings and so on
    "without_id": "",
    "not_an_object": "",
}
_TASK: Mapping[str, str] = {
    "failed": "error code, service_error by default",
    "failed_without_error": "",
    "cancelled": "",
    "stuck": "",  # never ends
    "late_results": "seconds for which a completed task has no results yet, 20 by default",
    "object_results": "",
    "result_data": "",
    "odd_status": "word to use while it runs",
    "falling_progress": "",
    "no_estimate": "",
}
_DOWNLOAD: Mapping[str, str] = {
    "cut": "bytes sent before the connection breaks",
    "cut_chunked": "bytes sent in chunks before the connection breaks",
    "cut_unframed": "bytes sent without any length before the connection ends in good order",
    "reset": "",
    "slow": "bytes per second, 50000 by default",
    "stall": "bytes sent before silence",
    "no_range": "",
    "no_length": "",
    "redirect": "",
    "redirect_away": "",  # to another origin
    "redirect_loop": "",
    "html_200": "",
    "json_200": "",
    "empty_200": "",
    "expired": "",  # answered as the setting expired_reply has it
    "wrong_length": "bytes that Content-Length promises too many, 1000 by default",
    "bad_range": "",  # 206 with another part than asked for
    "changed_etag": "",
    "gzip": "",  # compressed, though nobody asked for it
}
_CALLBACK: Mapping[str, str] = {
    "lost": "",
    "duplicate": "",
    "late": "seconds, 30 by default",
}

_API_LANES = ("submit", "query", "batch", "list", "credits")
FAULTS: Mapping[str, Mapping[str, str]] = {
    **{lane: {**_BEFORE, **_AFTER, "lost_reply": ""} for lane in _API_LANES},
    "download": _DOWNLOAD,
    "task": _TASK,
    "callback": _CALLBACK,
}
"""The faults of each lane and what their values mean; `http_NNN`, `html_NNN` and `empty_NNN` come on top."""

LANES = tuple(FAULTS)
_PLURALS: Mapping[str, tuple[str, ...]] = {
    "submits": ("submit",),
    "queries": ("query",),
    "batches": ("batch",),
    "polls": ("query", "batch"),
    "lists": ("list",),
    "credits": ("credits",),
    "downloads": ("download",),
    "tasks": ("task",),
    "callbacks": ("callback",),
}
_ANY_STATUS = re.compile(r"(http|html|empty)_([1-5]\d\d)")


@frozen
class Fault:
    """One thing that goes wrong. `processed` says that the request was served all the same."""

    name: str
    value: float | str | None = None
    processed: bool = False

    @property
    def is_damage(self) -> bool:
        """Whether it spoils the reply of a served request, rather than standing in for it."""
        return self.name in _AFTER

    def number(self, default: float) -> float:
        return default if self.value is None else float(self.value)

    def word(self, default: str) -> str:
        return default if self.value is None else str(self.value)


def parse(text: str, lane: str) -> Fault | None:
    """Read `name`, `name=value` or `processed:name`; None for "ok". Raises ValueError naming what there is."""
    if text == "ok":
        return None
    spelling, _, value = text.partition("=")
    name = spelling.removeprefix("processed:")
    _check(name, lane, spelling != name)
    if name == "lost_reply":
        return Fault("reset", None, processed=True)
    return Fault(name, _value(value), processed=spelling != name or (lane in _API_LANES and name in _AFTER))


def _value(text: str) -> float | str | None:
    try:
        return float(text)
    except ValueError:
        return text or None


def _check(name: str, lane: str, processed: bool) -> None:
    if lane not in FAULTS:
        raise ValueError(f"no lane {lane!r}: there are {', '.join(LANES)}")
    known = name in FAULTS[lane] or (lane not in ("task", "callback") and _ANY_STATUS.fullmatch(name))
    if not known:
        raise ValueError(f"no fault {name!r} in lane {lane}: there are {', '.join(FAULTS[lane])}, http_NNN, html_NNN")
    if processed and lane not in _API_LANES:
        raise ValueError(f"'processed:' makes no sense in lane {lane}")


@frozen(init=False)
class Trouble:
    """A frozen plan of trouble, see this module's head. `rates` and `scripts` hold it by lane."""

    rates: Mapping[str, tuple[tuple[Fault, float], ...]] = field()
    scripts: Mapping[str, tuple[Fault | None, ...]] = field()

    def __init__(self, **rates: Rate) -> None:
        by_lane: dict[str, list[tuple[Fault, float]]] = {}
        for keyword, rate in rates.items():
            share, value = rate if isinstance(rate, tuple) else (rate, None)
            if not 0 <= share <= 1:
                raise ValueError(f"{keyword}: a rate is a share from 0 to 1, not {share!r}")
            for lane, fault in _faults(keyword, value):
                by_lane.setdefault(lane, []).append((fault, share))
        self.__attrs_init__({lane: tuple(faults) for lane, faults in by_lane.items()}, {})

    @classmethod
    def script(cls, **scripts: Iterable[str]) -> Trouble:
        """What happens to the first, second, … request of each lane: `script(submit=["ok", "reset"])`."""
        read = {lane: tuple(parse(text, lane) for text in texts) for lane, texts in scripts.items()}
        return cls._of({}, read)

    @classmethod
    def _of(
        cls,
        rates: Mapping[str, tuple[tuple[Fault, float], ...]],
        scripts: Mapping[str, tuple[Fault | None, ...]],
    ) -> Trouble:
        trouble = cls()
        trouble.__attrs_init__(rates, scripts)
        return trouble

    def __or__(self, other: Trouble) -> Trouble:
        rates = {
            lane: _joined(self.rates.get(lane, ()), other.rates.get(lane, ())) for lane in {**self.rates, **other.rates}
        }
        return self._of(rates, {**self.scripts, **other.scripts})


def _joined(
    left: tuple[tuple[Fault, float], ...], right: tuple[tuple[Fault, float], ...]
) -> tuple[tuple[Fault, float], ...]:
    replaced = {(fault.name, fault.processed) for fault, _ in right}
    return (*(pair for pair in left if (pair[0].name, pair[0].processed) not in replaced), *right)


def _faults(keyword: str, value: float | str | None) -> list[tuple[str, Fault]]:
    for plural, lanes in _PLURALS.items():
        if keyword.endswith(f"_{plural}"):
            name = keyword.removesuffix(f"_{plural}")
            spelling = re.sub(r"^processed_", "processed:", name)
            suffix = "" if value is None else f"={value}"
            return [(lane, fault) for lane in lanes if (fault := parse(spelling + suffix, lane)) is not None]
    raise ValueError(f"{keyword}: a rate is named after a fault and {', '.join(_PLURALS)}, such as cut_downloads")


class Dice:
    """Draws from a plan of trouble; scripts first, in the order in which requests come in.

    `plan` is asked each time: another `Trouble` than before starts its scripts anew.
    """

    def __init__(self, plan: Callable[[], Trouble], rng: Random) -> None:
        self._rng = rng
        self._plan = plan
        self._current = Trouble()
        self._left: dict[str, deque[Fault | None]] = {}
        self._next: dict[str, deque[Fault | None]] = {}

    def script_next(self, lane: str, texts: Iterable[str]) -> None:
        """What happens to the next requests of a lane, after what was said so before, and before the plan goes on."""
        faults = [parse(text, lane) for text in texts]
        self._next.setdefault(lane, deque()).extend(faults)

    def draw(self, lane: str) -> Fault | None:
        """The one thing that goes wrong with the next request of a lane, if anything."""
        script = self._script(lane)
        return script.popleft() if script else next(self._hits(lane), None)

    def draw_all(self, lane: str) -> tuple[Fault, ...]:
        """Everything that goes wrong at once: a task may be slow to show results *and* spell its status oddly."""
        script = self._script(lane)
        if not script:
            return tuple(self._hits(lane))
        fault = script.popleft()
        return () if fault is None else (fault,)

    def _script(self, lane: str) -> deque[Fault | None] | None:
        if coming := self._next.get(lane):
            return coming
        plan = self._plan()
        if plan is not self._current:
            self._current = plan
            self._left = {lane: deque(faults) for lane, faults in plan.scripts.items()}
        return self._left.get(lane)

    def _hits(self, lane: str) -> Iterator[Fault]:
        return (fault for fault, share in self._current.rates.get(lane, ()) if self._rng.random() < share)
