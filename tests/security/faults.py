"""A batch under every fault of the emulator's table, and the account of what became of it."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import sys
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from attrs import Factory, define, field, frozen

from tests.helpers.emulated import session_on
from wanasync import Outcome, OutcomeState, WanError
from wanasync.emulator import Emulator, Trouble
from wanasync.emulator.trouble import FAULTS
from wanasync.testing import START

__all__ = ["Account", "Round", "everything", "rounds", "suffer"]

SHARE = 0.1

_PLURALS = {
    "submit": "submits",
    "query": "queries",
    "batch": "batches",
    "list": "lists",
    "credits": "credits",
    "download": "downloads",
    "task": "tasks",
    "callback": "callbacks",
}
_STATUSES = (400, 404, 410, 413, 422, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524)
STOPPING = (401, 402, 403)
"""They speak of the key or the account: the batch stops at the first, as it should, and tells the rest."""
_PAGES = ("html_500", "html_502", "html_503", "html_504", "html_520", "html_524", "empty_502", "empty_503", "empty_504")
# Served and paid for, but the client is told otherwise. Not with a 429 or the documented 503, by which the provider
# promises that nothing was created, nor with a refusal.
_SERVED = ("hangup", "hang", "success_false", "http_500", "http_502", "http_504", "html_502", "html_503", "empty_524")
_API = ("submit", "query", "batch", "list", "credits")


def _names(lane: str) -> list[str]:
    """All faults of a lane, as `Trouble` spells them; new ones of the table come by themselves."""
    names = list(FAULTS[lane])
    if lane in _API:
        names += [f"http_{status}" for status in _STATUSES]
        names += _PAGES
        names += [f"processed_{name}" for name in _SERVED]
    if lane == "download":
        names += ["http_403", "http_404", "http_410", "http_500", "http_503", "html_502", "http_429"]
    return names


@frozen
class Round:
    """One fault of each lane, each striking a tenth of the lane's requests."""

    faults: tuple[str, ...]
    trouble: Trouble


def rounds() -> Iterator[Round]:
    """Enough rounds for each fault of each lane to have had one; then those that stop a batch."""
    lanes = {lane: _names(lane) for lane in FAULTS}
    for number in range(max(map(len, lanes.values()))):
        yield _round({lane: names[number % len(names)] for lane, names in lanes.items()})
    for status in STOPPING:
        yield _round({"submit": f"http_{status}"})
        yield _round({"query": f"http_{status}", "batch": f"http_{status}"})


def _round(chosen: Mapping[str, str]) -> Round:
    keywords = {f"{name}_{_PLURALS[lane]}": SHARE for lane, name in chosen.items()}
    return Round(tuple(keywords), Trouble(**keywords))


def everything(share: float = 0.02) -> Trouble:
    """All faults but those that stop a batch, at once."""
    return Trouble(**{f"{name}_{_PLURALS[lane]}": share for lane in FAULTS for name in _names(lane)})


@define
class Account:
    """What became of a batch, in its troubled run and in a peaceful one after it."""

    items: int
    told: Counter[OutcomeState] = Factory(Counter)
    finally_told: Counter[OutcomeState] = Factory(Counter)
    problems: list[str] = field(factory=list)

    def hold(self, statement: bool, problem: str) -> None:
        if not statement:
            self.problems.append(problem)


async def suffer(items: int, directory: Path, trouble: Trouble, **options: Any) -> Account:
    """Run a batch under `trouble`, and once more without; what should not have happened is in `problems`."""
    account = Account(items)
    prompts = [f"A cat playing piano, take {number}" for number in range(items)]
    with _hearing(account.problems):
        async with Emulator(epoch=START, trouble=trouble, **options) as emu, _patience(emu):
            first = await _run(emu, prompts, directory, account)
            _compare(emu, account)
            emu.trouble = Trouble()
            last = await _run(emu, prompts, directory, account)
            _compare(emu, account)
            _check_end(emu, last, account)
        account.told = Counter(outcome.state for outcome in first)
        account.finally_told = Counter(outcome.state for outcome in last)
        gc.collect()
    return account


PATIENCE = 3 * 3600.0
"""Virtual seconds after which the provider sees to tasks that never end; we follow them for as long as it takes."""


@asynccontextmanager
async def _patience(emu: Emulator) -> AsyncIterator[None]:
    async def end_stuck_tasks() -> None:
        while True:
            await asyncio.sleep(PATIENCE)
            for entry in emu.ledger.entries:
                if entry.created < emu.clock.now() - PATIENCE:
                    with suppress(KeyError):  # it has ended
                        emu.finish(entry.task_id)

    helper = asyncio.ensure_future(end_stuck_tasks())
    try:
        yield
    finally:
        helper.cancel()
        await asyncio.wait({helper})


async def _run(emu: Emulator, prompts: list[str], directory: Path, account: Account) -> list[Outcome]:
    async with session_on(emu) as wan:
        with suppress(WanError):
            await wan.credits()
        async with wan.batch(prompts, directory) as batch:
            told = [outcome async for outcome in batch]
    indexes = sorted(outcome.index for outcome in told)
    account.hold(indexes == list(range(len(prompts))), f"{len(indexes)} outcomes, not one for each item")
    for outcome in told:
        account.hold(bool(outcome.video or outcome.error), f"item {outcome.index}: {outcome.state} without a reason")
        if outcome.video is not None:
            content = await asyncio.to_thread(outcome.video.path.read_bytes)
            whole = hashlib.sha256(content).hexdigest() == outcome.video.sha256 == emu.sha256(outcome.video.task_id)
            account.hold(whole, f"item {outcome.index}: not the video that was made")
    return told


def _compare(emu: Emulator, account: Account) -> None:
    twice = emu.ledger.paid_twice()
    account.hold(not twice, f"paid twice: {twice}")
    account.hold(emu.ledger.key_leaks == 0, "the key went to the host of the videos")


_SETTLED = {OutcomeState.SAVED, OutcomeState.FAILED, OutcomeState.UNKNOWN, OutcomeState.EXPIRED}


def _check_end(emu: Emulator, last: list[Outcome], account: Account) -> None:
    """After the peaceful run nothing is left over, and all that was paid for is saved or told."""
    left = [outcome for outcome in last if outcome.state not in _SETTLED]
    account.hold(not left, f"left over: {left[:3]}")
    told_prompts = {outcome.request.prompt for outcome in last if outcome.request and outcome.state in _SETTLED}
    untold = [entry.task_id for entry in emu.ledger.entries if entry.request["prompt"] not in told_prompts]
    account.hold(not untold, f"paid for and not told: {untold[:3]}")
    made = {entry.request["prompt"] for entry in emu.ledger.entries if entry.status == "completed"}
    saved = {outcome.request.prompt for outcome in last if outcome.request and outcome.state is OutcomeState.SAVED}
    unknown = {outcome.request.prompt for outcome in last if outcome.request and outcome.state is OutcomeState.UNKNOWN}
    lost = made - saved - unknown
    account.hold(not lost, f"made, and neither saved nor unknown: {sorted(lost)[:3]}")


# --- nothing may go wrong unheard ------------------------------------------------------------------------------------


@contextmanager
def _hearing(problems: list[str]) -> Iterator[None]:
    """Note warnings, what asyncio complains of, and exceptions that nobody would see."""
    with ExitStack() as stack:
        caught = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        stack.enter_context(_replaced_hook(problems))
        handler = _Complaints(problems)
        for name in ("asyncio", "aiohttp.server"):
            logging.getLogger(name).addHandler(handler)
            stack.callback(logging.getLogger(name).removeHandler, handler)
        yield
    problems += [f"warning: {warning.message}" for warning in caught]


@contextmanager
def _replaced_hook(problems: list[str]) -> Iterator[None]:
    before = sys.unraisablehook
    sys.unraisablehook = lambda unraisable: problems.append(f"unraisable: {unraisable.exc_value!r}")
    try:
        yield
    finally:
        sys.unraisablehook = before


class _Complaints(logging.Handler):
    """asyncio logs what no exception handler took: a task's exception that was never retrieved, for one. A server logs
    what failed in its own handlers: trouble that the emulator made without being asked to proves nothing."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._problems = problems

    def emit(self, record: logging.LogRecord) -> None:
        self._problems.append(f"{record.name}: {record.getMessage()} {record.exc_info and record.exc_info[1]!r}"[:2000])
