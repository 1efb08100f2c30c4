"""Killed at any step, a batch goes on: each item saved once, paid once, or told unknown."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import Factory, frozen

from tests.crash.harness import KILLED, Nursery, World
from tests.crash.marathon import marathon
from wanasync.emulator import Trouble
from wanasync.rules.lifecycle import ItemEvent

CATS = [f"cat {number}" for number in range(4)]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


@frozen
class Way:
    """How a run comes to a step: what the provider does, and what earlier lives there were.

    `spoiled` are the items that can't be saved in the end, and what they are told as. A host that `replays` honours
    idempotency keys; on others, a submission sent once more is paid once more. An item may have so many `tasks`.
    """

    trouble: Trouble = Factory(Trouble)
    before: tuple[Mapping[str, Any], ...] = ()
    options: Mapping[str, Any] = Factory(dict)
    loses_a_file: bool = False
    replays: bool = False
    emulator: Mapping[str, Any] = Factory(dict)
    spoiled: tuple[str, ...] = ()
    tasks: int = 1


LOST_REPLY = Trouble.script(submit=["ok", "lost_reply"])

WAYS: Mapping[str, Way] = {
    "plan": Way(),
    "meta": Way(),
    "submit": Way(),
    "send": Way(),
    "accepted": Way(),
    "linked": Way(),
    "publish": Way(),
    "saved": Way(),
    "not_taken": Way(Trouble.script(submit=["ok", "throttled=2"])),
    "refused": Way(Trouble.script(submit=["ok", "http_400"])),
    "reply_lost": Way(LOST_REPLY),
    "interrupted": Way(before=({"kill": "after send 1"},)),
    "resubmit": Way(LOST_REPLY, before=({},), options={"config": {"on_unknown": "replay"}}, replays=True),
    "failed": Way(Trouble.script(task=["ok", "failed=content_policy_violation"]), spoiled=("failed",)),
    # A lifetime that is over when the task ends: a link found dead before that is no reason to give up.
    "expired": Way(Trouble(expired_downloads=1.0), options={"config": {"link_lifetime": 0.1}}),
    "lost": Way(emulator={"tasks_expire": 0.5}, options={"lost_after": 1.0}, spoiled=("expired",) * 4),
    "file_lost": Way(before=({},), loses_a_file=True),
    "resolved": Way(LOST_REPLY, emulator={"task_list": True}),
    "retry": Way(Trouble.script(task=["ok", "failed=service_error"]), options={"batch": {"retry_failed": 1}}, tasks=2),
}
"""Each thing that is written down or sent, and a way to come to it."""

STEPS = [
    f"{moment} {what}"
    for what in WAYS
    for moment in ("before", "within", "after")
    if (moment, what) != ("within", "send")
]


def test_every_event_of_the_journal_has_its_steps() -> None:
    assert {event.value for event in ItemEvent} - set(WAYS) == {"noted"}


@pytest.mark.parametrize("step", STEPS)
async def test_killed_at_a_step(step: str, nursery: Nursery, tmp_path: Path) -> None:
    way = WAYS[step.split()[1]]
    async with World(nursery, tmp_path, CATS, trouble=way.trouble, idempotency=way.replays, **way.emulator) as world:
        for life in way.before:
            await world.run(**life)
        if way.loses_a_file:
            world.forget(world.saved_files()[0])
        assert await world.run(kill=f"{step} 1", **way.options) == KILLED
        world.emu.trouble = Trouble()
        survivor = {name: value for name, value in way.options.items() if name != "config"}
        await world.run(**survivor)
        await world.check(tasks_per_item=way.tasks)
        if way.replays:
            assert world.states().count("unknown") == 1
            await world.run(config={"on_unknown": "replay"}, **survivor)
            await world.check()
            assert "unknown" not in world.states()
        spoiled = [state for state in world.states() if state not in ("saved", "unknown")]
        assert len(spoiled) <= len(way.spoiled)
        assert set(spoiled) <= set(way.spoiled)


async def test_killed_at_random_moments(nursery: Nursery, tmp_path: Path) -> None:
    kills = int(os.environ.get("WANASYNC_CRASH_KILLS", "20"))
    result = await marathon(nursery, tmp_path, kills=kills, rng=random.Random(4))
    assert result.kills >= kills


async def test_the_command_killed_and_typed_again(nursery: Nursery, tmp_path: Path) -> None:
    rng = random.Random(7)
    prompts = [f"cat {number}" for number in range(8)]
    source = tmp_path / "list.txt"
    source.write_text("\n".join(prompts))
    async with World(nursery, tmp_path, prompts, durations=(1.0, 10.0), latency=1.0) as world:
        command = ["run", str(source), "--to", str(world.directory), "--json", "--quiet"]
        killed = 0
        while killed < 3:
            killed += await world.run(after=rng.uniform(0.1, 0.4), cli=command) == KILLED
            if world.told:
                break
        code = await world.run(cli=command)
        await world.check()
        assert code == (1 if "unknown" in world.states() else 0)
        assert await world.run(cli=[*command, "--on-unknown", "replay"]) == 0
        await world.check()
        assert set(world.states()) == {"saved"}
