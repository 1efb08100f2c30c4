"""A session for one command: with the provider, or with an emulator of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import attrs
from attrs import field, frozen

from wanasync import Config, ConfigError, Limits, load_config
from wanasync.cli.emulating import private_emulator
from wanasync.cli.screen import Screen

if TYPE_CHECKING:
    from wanasync import Event, SharedLimit, WanSession

__all__ = ["Connection", "connected"]


@frozen
class Connection:
    """The flags that say whom to talk to, and how; what is None comes from the other sources of settings.

    `emulator` is None for commands that can't bring one of their own.
    """

    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    emulator: bool | None = None
    on_unknown: str | None = None
    max_rpm: int | None = None
    max_concurrent: int | None = None

    def config(self) -> tuple[Config, Mapping[str, str]]:
        """Settings and where each came from. Raises `ConfigError`; a missing key is none yet."""
        limits = None
        if self.max_rpm is not None or self.max_concurrent is not None:
            limits = Limits(requests=self.max_rpm, concurrent=self.max_concurrent)
        return load_config(
            {"api_key": self.api_key, "base_url": self.base_url, "on_unknown": self.on_unknown, "limits": limits}
        )

    def usable_config(self) -> Config:
        """Settings that a session can be opened with. Raises `ConfigError`."""
        config, _ = self.config()
        if config.api_key is None and not self.emulator:
            instead = "start `wanasync emulator`" if self.emulator is None else "add --emulator"
            raise ConfigError(f"no API key: set WAN_API_KEY. To try it without one, {instead}", "api_key")
        return config


@asynccontextmanager
async def connected(
    connection: Connection,
    screen: Screen,
    on_event: Callable[[Event], None] | None = None,
    shared_limit: SharedLimit | None = None,
) -> AsyncIterator[WanSession]:
    """An open session, its warnings on the screen. Raises `ConfigError`."""
    from wanasync import WanSession

    config = connection.usable_config()
    async with AsyncExitStack() as stack:
        if connection.emulator:
            emulator = await stack.enter_async_context(private_emulator())
            # The user's key and address stay out of it: nothing of an emulated run may reach the provider.
            config = attrs.evolve(config, api_key=emulator.api_key, base_url=emulator.base_url, proxy=None)
        stack.enter_context(screen.hearing_logs())
        yield await stack.enter_async_context(WanSession(config=config, on_event=on_event, shared_limit=shared_limit))
