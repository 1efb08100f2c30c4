"""One run of a batch, in a process that may be killed at any step. Forked by `nursery`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import selectors
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import Factory, asdict, define

from wanasync import Config, Outcome, WanSession
from wanasync.edges import part
from wanasync.edges.journal.store import Store
from wanasync.edges.transport import Transport
from wanasync.rules import tracking
from wanasync.rules.calls import Call, CallKind
from wanasync.rules.replies import Reply

SPEED = 40.0
"""How much faster than the world's the clocks of children and emulator run: a second between two polls takes 25 ms."""


@define
class Order:
    """What a child is to do.

    `kill` is the step at which it dies (see `Switch`), None for none; `config` are settings of its session, `batch`
    arguments of its batch; `cli` runs the command instead, with these arguments. Outcomes go to `told`, a file.
    """

    base_url: str
    api_key: str
    epoch: float
    directory: str
    told: str
    prompts: list[str] = Factory(list)
    kill: str | None = None
    after: float | None = None
    config: dict[str, Any] = Factory(dict)
    batch: dict[str, Any] = Factory(dict)
    cli: list[str] | None = None
    lost_after: float | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Switch:
    """Kills this process when a step is reached, before anything else can happen.

    A step is a moment, what happens, and which time: `"after accepted 2"`. The moments around each durable write are
    *before* (nothing of it is in the database), *within* (written, not committed) and *after* (committed, and nobody
    told yet); what is written are the journal's events, `plan` and `meta`, `opened` (what opening settles). Around
    each submission they are before and after `send`; around each video's renaming before, within (renamed, not tidied
    up) and after `publish`.
    """

    def __init__(self, step: str | None) -> None:
        self._step = step
        self._count: Counter[str] = Counter()

    def passed(self, moment: str, what: str) -> None:
        name = f"{moment} {what}"
        self._count[name] += 1
        if f"{name} {self._count[name]}" == self._step:
            os.kill(os.getpid(), signal.SIGKILL)


def install(switch: Switch) -> None:
    """Wrap what is durable, and what costs money, with the switch."""
    written: list[str] = []
    _around_writes(switch, written)
    _around_commits(switch, written)
    _around_submissions(switch)
    _around_renames(switch)


def _around_writes(switch: Switch, written: list[str]) -> None:
    def wrap(name: str, what: Callable[..., str]) -> None:
        operation = getattr(Store, name)

        def watched(self: Store, *args: Any) -> Any:
            event = what(*args)
            switch.passed("before", event)
            result = operation(self, *args)
            written.append(event)
            switch.passed("within", event)
            return result

        setattr(Store, name, watched)

    wrap("record", lambda _key, event, *_: str(event))
    wrap("plan", lambda _items: "plan")
    wrap("set_meta", lambda *_: "meta")
    wrap("_settle_interrupted", lambda *_: "interrupted")


def _around_commits(switch: Switch, written: list[str]) -> None:
    def wrap(name: str) -> None:
        operation = getattr(Store, name)

        def watched(self: Store, *args: Any) -> Any:
            written.clear()
            result = operation(self, *args)
            for event in written:
                switch.passed("after", event)
            return result

        setattr(Store, name, watched)

    wrap("run")
    wrap("_open")


def _around_submissions(switch: Switch) -> None:
    send = Transport.send

    async def watched(self: Transport, call: Call) -> Reply:
        if call.kind is not CallKind.SUBMIT:
            return await send(self, call)
        switch.passed("before", "send")
        reply = await send(self, call)
        switch.passed("after", "send")
        return reply

    Transport.send = watched  # type: ignore[method-assign]


def _around_renames(switch: Switch) -> None:
    publish, place = part.Part.publish, part._place

    def watched(self: Any, *args: Any) -> Any:
        switch.passed("before", "publish")
        result = publish(self, *args)
        switch.passed("after", "publish")
        return result

    def renamed(*args: Any) -> None:
        place(*args)
        switch.passed("within", "publish")

    part.Part.publish = watched  # type: ignore[method-assign, assignment]
    part._place = renamed  # type: ignore[assignment]


class _FastSelector(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout / SPEED if timeout else timeout)


class FastLoop(asyncio.SelectorEventLoop):
    """A loop in real time whose clock runs `SPEED` times as fast."""

    def __init__(self) -> None:
        super().__init__(_FastSelector())

    def time(self) -> float:
        return time.monotonic() * SPEED


def carry_out(order: Order) -> None:
    # What is unknown is told in the outcomes; on stderr it would drown a test's own words.
    logging.getLogger("wanasync").addHandler(logging.NullHandler())
    install(Switch(order.kill))
    if order.lost_after is not None:
        tracking.LOST_AFTER_SECONDS = order.lost_after
    if order.cli is not None:
        os._exit(_command(order))
    with asyncio.Runner(loop_factory=FastLoop) as runner:
        runner.run(_run(order))


async def _run(order: Order) -> None:
    # Unix time of the emulator's clock, which all children share.
    def clock() -> float:
        return order.epoch + time.time() * SPEED

    config = Config(api_key=order.api_key, base_url=order.base_url, **order.config)
    session = WanSession(config=config, clock=clock)
    async with session as wan, wan.batch(order.prompts, order.directory, **order.batch) as batch:
        told = [as_told(outcome) async for outcome in batch]
    Path(order.told).write_text("".join(f"{json.dumps(outcome)}\n" for outcome in told))


def as_told(outcome: Outcome) -> dict[str, Any]:
    video = outcome.video
    return {
        "id": outcome.id,
        "prompt": outcome.request.prompt if outcome.request else None,
        "state": outcome.state.value,
        "task_id": outcome.task_id,
        "path": str(video.path) if video else None,
        "sha256": video.sha256 if video else None,
        "error": None if outcome.error is None else str(outcome.error),
    }


def _command(order: Order) -> int:
    """The command itself, with its output in the file; it makes its loop as it always does, only that it is fast."""
    from wanasync.cli import main

    asyncio.new_event_loop = asyncio.events.new_event_loop = FastLoop
    os.environ["WAN_API_KEY"], os.environ["WAN_BASE_URL"] = order.api_key, order.base_url
    output = os.open(order.told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    return main(order.cli)
