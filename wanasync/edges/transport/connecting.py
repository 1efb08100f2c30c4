"""Connections: which failures are those of connecting, and to which addresses a link may lead."""

from __future__ import annotations

import socket
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from wanasync.edges.silence import SilenceLimit
from wanasync.rules.links import LinkRule, address_problem

__all__ = ["Connector", "GuardedResolver", "InternalAddressError", "NotConnectedError"]


class NotConnectedError(aiohttp.ClientConnectionError):
    """No connection was made, whatever the cause: DNS, TCP, TLS, a proxy, a timeout of these."""


class InternalAddressError(OSError):
    """A link's host name leads to internal addresses only."""


class Connector(aiohttp.TCPConnector):
    """Tells failures to connect from failures on a connection.

    aiohttp's exception types can't: a proxy that hangs up on CONNECT raises what a server raises that hangs up on the
    request. A tracer could, at a tenth of the cost of a request; here nothing is added to a success.
    A `silence` limit begins once the connection is there.
    """

    def __init__(self, *, silence: SilenceLimit | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._silence = silence

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        try:
            connection = await super().connect(*args, **kwargs)
        except Exception as error:
            raise NotConnectedError from error
        if self._silence is not None:
            self._silence.begin()
        return connection


class GuardedResolver(AbstractResolver):
    """Leaves only those addresses of a link's host to which the link rule lets us connect.

    It has to be done here: whoever looks a name up before the request may get another answer than the connection.
    `trusted` hosts, the proxies, pass.
    """

    def __init__(self, rule: LinkRule, trusted: frozenset[str]) -> None:
        self._rule = rule
        self._trusted = trusted
        self._resolver = aiohttp.DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        answers = await self._resolver.resolve(host, port, family)
        if host in self._trusted:
            return answers
        allowed = [answer for answer in answers if address_problem(answer["host"], self._rule) is None]
        if answers and not allowed:
            raise InternalAddressError(f"{host} leads to an internal address")
        return allowed

    async def close(self) -> None:
        await self._resolver.close()
