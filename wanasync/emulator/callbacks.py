"""Callbacks as the provider's document has them: POST, 10 s timeout, retries after 1, 2 and 4 s, any 2xx is success."""

from __future__ import annotations

import asyncio
import json
import math
import socket
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver
from attrs import define, field

from wanasync.emulator.clock import Clock
from wanasync.emulator.ledger import Ledger
from wanasync.emulator.settings import Settings
from wanasync.emulator.tasks import Task
from wanasync.emulator.trouble import Dice

__all__ = ["Callbacks"]

TIMEOUT = 10.0
RETRY_AFTER = (1.0, 2.0, 4.0)
_AT_ONCE = 100


class _Hosts(AbstractResolver):
    """Names from a table first, like a hosts file."""

    def __init__(self, table: Mapping[str, str]) -> None:
        self._table = table
        self._others = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if host not in self._table:
            return await self._others.resolve(host, port, family)
        address = self._table[host]
        return [ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        await self._others.close()


@define(eq=False)
class Callbacks:
    """Waiting callbacks are alarms on the emulator's clock; only those being sent are asyncio tasks."""

    settings: Settings
    clock: Clock
    ledger: Ledger
    dice: Dice
    describe: Callable[[Task], Mapping[str, Any]]
    _session: aiohttp.ClientSession | None = field(default=None, init=False)
    _sending: set[asyncio.Task[None]] = field(factory=set, init=False)
    _slots: asyncio.Semaphore = field(factory=lambda: asyncio.Semaphore(_AT_ONCE), init=False)

    def expect(self, task: Task) -> None:
        """Deliver when this task ends, once its end is known; faults are drawn now, in order of submission."""
        when = task.ends
        if not self.settings.callbacks or task.wish.callback_url is None or when is None or math.isinf(when):
            return
        fault = self.dice.draw("callback")
        name = fault.name if fault else ""
        if name == "lost":
            return
        due = when + (fault.number(30.0) if fault and name == "late" else 0.0)
        # The end may be moved meanwhile (a cancelled task): then another alarm was set.
        for _ in range(2 if name == "duplicate" else 1):
            self.clock.call_at(due, lambda: self._start(task, when))

    async def close(self) -> None:
        for sending in self._sending:
            sending.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _start(self, task: Task, expected_end: float) -> None:
        if task.ends != expected_end or task.wish.callback_url is None:
            return
        sending = asyncio.get_running_loop().create_task(self._deliver(task, task.wish.callback_url))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)

    async def _deliver(self, task: Task, url: str) -> None:
        for wait in (*RETRY_AFTER, None):
            async with self._slots:
                delivered = await self._post(task, url)
            if delivered or wait is None:
                return
            await self.clock.sleep(wait)

    async def _post(self, task: Task, url: str) -> bool:
        status = None
        try:
            async with asyncio.timeout(self.clock.loop_seconds(TIMEOUT)):
                status = await self._status(url, json.dumps(self.describe(task)).encode())
        except (aiohttp.ClientError, OSError, ValueError):
            pass  # not delivered, whatever the reason; a timeout is an OSError too
        self.ledger.note("callback", status, task_id=task.id)
        delivered = status is not None and 200 <= status < 300
        self.ledger.callbacks_delivered[task.id] += delivered
        return delivered

    async def _status(self, url: str, body: bytes) -> int:
        headers = {"Content-Type": "application/json"}
        # A redirect is not a 2xx: it is not followed, but tried again.
        async with self._client().post(url, data=body, headers=headers, allow_redirects=False) as reply:
            return reply.status

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            resolver = _Hosts(self.settings.callback_hosts) if self.settings.callback_hosts else None
            ssl_context = self.settings.callback_ssl or True
            connector = aiohttp.TCPConnector(ssl=ssl_context, resolver=resolver, limit=_AT_ONCE)
            self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        return self._session
