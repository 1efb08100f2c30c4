"""The emulated provider: one inside a command for `--emulator`, or one of its own for `wanasync emulator`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from wanasync import ConfigError
from wanasync.cli import exits, words
from wanasync.cli.screen import Screen

if TYPE_CHECKING:
    from wanasync.emulator import Emulator, Limiter, Trouble

__all__ = ["Options", "private_emulator", "serve"]

TASK_SECONDS = (2.0, 6.0)
"""How long tasks take unless asked otherwise: long enough to be seen at work, short enough to be waited for."""

LIMITERS = ("fixed", "sliding", "bucket")


def private_emulator() -> Emulator:
    """The emulator of `--emulator`: quick and well-behaved. Entering it raises `ConfigError` without its extra."""
    from wanasync.emulator import Emulator

    # The clock runs at the usual pace; a faster one would have links die early.
    return Emulator(videos="real", durations=TASK_SECONDS, queue_time=0.5, render_workers=2)


@frozen
class Options:
    """What `wanasync emulator` was told. `limit` is submissions per `per` seconds; `trouble` are NAME=SHARE."""

    host: str = "127.0.0.1"
    port: int = 8484
    api_key: str | None = None
    task_seconds: tuple[float, float] = TASK_SECONDS
    limit: int | None = None
    per: float = 60.0
    limiter: str = "fixed"
    concurrent: int | None = None
    hint: str = "text"
    credit: float | None = None
    trouble: Sequence[str] = ()
    errors: str = "integer"
    videos: str = "real"

    def emulator(self) -> Emulator:
        """Raises `ConfigError`."""
        from wanasync.emulator import Emulator

        given: dict[str, Any] = {"api_key": self.api_key, "credit": self.credit}
        return Emulator(
            host=self.host,
            port=self.port,
            durations=self.task_seconds,
            queue_time=0.5,
            limiter=self._limiter(),
            hint=self.hint,
            trouble=_trouble(self.trouble),
            errors=self.errors,
            videos=self.videos,
            **{name: value for name, value in given.items() if value is not None},
        )

    def _limiter(self) -> Limiter | None:
        from wanasync.emulator import AllOf, ConcurrentTasks, FixedWindow, SlidingWindow, TokenBucket

        limits: list[Limiter] = []
        if self.limit is not None:
            match self.limiter:
                case "fixed":
                    limits.append(FixedWindow(self.limit, self.per))
                case "sliding":
                    limits.append(SlidingWindow(self.limit, self.per))
                case "bucket":
                    limits.append(TokenBucket(self.limit / self.per, burst=self.limit))
                case _:
                    kinds = ", ".join(LIMITERS)
                    raise ConfigError(f"--limiter must be one of {kinds}, not {self.limiter!r}", "limiter")
        if self.concurrent is not None:
            limits.append(ConcurrentTasks(self.concurrent))
        return AllOf(*limits) if limits else None


def _trouble(shares: Sequence[str]) -> Trouble:
    from wanasync.emulator import Trouble

    try:
        named = (share.rpartition("=") for share in shares)
        return Trouble(**{name: float(value) for name, _, value in named})
    except (ValueError, TypeError) as error:
        raise ConfigError(f"--trouble must be NAME=SHARE, such as cut_downloads=0.2: {error}", "trouble") from error


async def serve(options: Options, screen: Screen) -> int:
    """Serve until interrupted; tells on stdout what to type in another terminal."""
    async with options.emulator() as emulator:
        screen.say(f"The emulator answers at {emulator.base_url}. Ctrl-C ends it. In another terminal:\n")
        command = "set" if os.name == "nt" else "export"
        screen.result(f"{command} WAN_BASE_URL={emulator.base_url}")
        screen.result(f"{command} WAN_API_KEY={emulator.api_key}")
        screen.say("\nand then, for instance: wanasync run prompts.txt")
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            made = words.count(len(emulator.ledger.entries), "task")
            screen.say(f"\n{made} paid for with {words.credits(emulator.ledger.credits_used)} credits")
    return exits.DONE
