"""Calls to the API and links to videos, each through a session of its own."""

from __future__ import annotations

import asyncio
import functools
import io
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import NoReturn, Self

import aiohttp
import attrs
from aiohttp.abc import AbstractResolver
from attrs import frozen
from multidict import CIMultiDict
from yarl import URL

from wanasync import __version__
from wanasync.config import Config
from wanasync.edges.silence import SilenceLimit
from wanasync.edges.transport.connecting import Connector, GuardedResolver, InternalAddressError
from wanasync.edges.transport.failures import (
    ReplyLostError,
    broken,
    forget_headers,
    is_unsendable,
    origin_of,
    unreachable,
    was_never_sent,
)
from wanasync.edges.transport.proxies import Proxies
from wanasync.errors import APIConnectionError, ConfigError, DownloadError, ResponseFormatError
from wanasync.rules.calls import Call, CallKind
from wanasync.rules.links import link_problem, rule_for, shown
from wanasync.rules.replies import Reply

__all__ = ["MAX_REDIRECTS", "MAX_REPLY", "StreamReply", "Transport"]

MAX_REPLY = 8 * 2**20
"""Bytes of an API reply, decompressed. The largest real one, 50 tasks, is far below."""

MAX_REDIRECTS = 5

_KEEP_ALIVE = 4.0
"""Seconds a connection may idle before it is not used again. Node and gunicorn, among others, close after 5 s: a POST
that meets the closing connection is lost in a way that can't be told from one that was processed."""

_WHOLE_REPLY = 5
"""Read timeouts that an API reply may take as a whole. Its parts may come slowly, but not for ever."""

_STREAM_BUFFER = 2**16
"""Bytes of a video held between the network and the disk writer before the network is stopped (aiohttp doubles it)."""

_LEAST_KEY = 16
"""Characters of a key that can be told from other text by its length."""

_LARGE_BODY = 2**20
"""aiohttp warns of bodies above this that are given as bytes."""


@frozen
class StreamReply:
    """A link's reply whose body is still on its way. `headers` have lower-case keys; `url` is after redirects."""

    status: int
    headers: Mapping[str, str]
    url: str
    _response: aiohttp.ClientResponse

    async def read(self) -> bytes:
        """What has come of the body, undecoded; `b""` at its end. Raises `APIConnectionError` where it breaks off."""
        try:
            return await self._response.content.readany()
        except Exception as error:
            raise broken(error, f"the download from {self._response.url.host}") from error

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, see `read`."""
        while chunk := await self.read():
            yield chunk


class Transport:
    """Sends calls to the API and streams links. Made and used in one running event loop; `close` it.

    `client_session` and `download_session` replace our own sessions; they are used as they are, whatever their
    defaults, and never closed. `trace_configs` go to our own sessions. Raises `ConfigError` for a proxy that can't be
    used and for a download session that would send credentials to the hosts of videos.
    """

    def __init__(
        self,
        config: Config,
        *,
        client_session: aiohttp.ClientSession | None = None,
        download_session: aiohttp.ClientSession | None = None,
        trace_configs: Sequence[aiohttp.TraceConfig] = (),
    ) -> None:
        _check_download_session(download_session)
        _raise_mmap_threshold()
        self._config = config
        self._base = f"{config.base_url}/"
        self._rule = rule_for(config.base_url, config.allow_private_links)
        self._proxies = Proxies.read(config.proxy)
        self._own: list[aiohttp.ClientSession] = []
        self._trace_configs = list(trace_configs)
        # An outer session keeps its own proxy settings unless ours name one.
        self._api_proxy = self._proxies.proxy_for(URL(config.base_url)) if not client_session else config.proxy
        self._api_timeout = _timeout(config, own=client_session is None)
        if client_session is None:
            self._api_timeout = attrs.evolve(self._api_timeout, sock_read=None)  # `_silence` sees to it
        self._links_timeout = _timeout(config, own=download_session is None)
        self._silence = SilenceLimit(config.read_timeout)
        self._secret = _scrubbable(config.api_key)
        self._secret_bytes = (self._secret or "").encode()
        headers = {"User-Agent": user_agent()}
        if config.api_key is not None:
            headers["Authorization"] = f"Bearer {config.api_key}"
        self._guard = GuardedResolver(self._rule, self._proxies.hosts())
        self._links_guarded = download_session is None
        # Our own session sends them by default, which is cheaper than to give them with each call.
        self._headers = headers if client_session else {}
        self._api = client_session or self._open_session(silence=self._silence, headers=headers)
        self._links = download_session or self._open_session(resolver=self._guard)

    def _open_session(
        self,
        *,
        resolver: AbstractResolver | None = None,
        silence: SilenceLimit | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> aiohttp.ClientSession:
        # No limit on connections: each lane (gate, poller, saver) limits itself, and waits where it can say why.
        # Idle for less than the read timeout: aiohttp (3.14) leaves its timer running on a connection whose last reply
        # ended while reading was paused, and a request that met it expired would seem to have lost its reply.
        keep_alive = min(_KEEP_ALIVE, self._config.read_timeout / 2)
        connector = Connector(silence=silence, resolver=resolver, limit=0, keepalive_timeout=keep_alive)
        session = aiohttp.ClientSession(
            connector=connector,
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=self._trace_configs,
            trust_env=False,
        )
        self._own.append(session)
        return session

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close what was opened here. Requests on the wire end with an error."""
        self._silence.close()
        for session in self._own:
            await session.close()
        await self._guard.close()

    # --- calls to the API -------------------------------------------------------------------------------------------

    async def send(self, call: Call) -> Reply:
        """Send one call; redirects are not followed.

        Raises `APIConnectionError` or its `APITimeoutError` where no reply came, for a submission only where nothing
        was sent; what may have been sent raises `ReplyLostError`. A reply above 8 MiB is a `ResponseFormatError`
        (a lost reply of a submission). Raises `ConfigError` where the call can't be sent at all.
        """
        headers = self._headers_for(call)
        body = call.body if call.body is None or len(call.body) < _LARGE_BODY else io.BytesIO(call.body)
        try:
            with self._silence:
                response = await self._api.request(
                    call.method,
                    URL(call.url, encoded=True),
                    data=body,
                    headers=headers,
                    timeout=self._api_timeout,
                    proxy=self._api_proxy,
                    allow_redirects=False,
                    raise_for_status=False,
                    auto_decompress=True,
                )
                content = await _read(response, self._silence, _WHOLE_REPLY * self._config.read_timeout)
        except Exception as error:  # noqa: BLE001 — once a paid POST may be out, any error means that its reply is lost
            self._fail(call, error)
        if content is None:
            self._fail_too_large(call, response.status)
        return self._without_key(Reply(response.status, response.headers, content, call.url))

    def _without_key(self, reply: Reply) -> Reply:
        """A host that repeats the key, in an error about it perhaps, must not bring it into errors and logs."""
        if self._secret is None:
            return reply
        if self._secret_bytes in reply.body:
            reply = attrs.evolve(reply, body=reply.body.replace(self._secret_bytes, b"[removed]"))
        if reply.status >= 300:
            said = reply.headers.items()
            headers = CIMultiDict((name, value.replace(self._secret, "[removed]")) for name, value in said)
            reply = attrs.evolve(reply, headers=headers)
        return reply

    def _headers_for(self, call: Call) -> Iterable[tuple[str, str]]:
        if self._api.closed:
            raise ConfigError("the client session is closed", "client_session")
        if not call.url.startswith(self._base):
            raise ConfigError(f"{shown(call.url)} is not below the base URL {self._config.base_url}", "base_url")
        return call.headers if not self._headers else {**self._headers, **dict(call.headers)}.items()

    def _fail(self, call: Call, error: Exception) -> NoReturn:
        forget_headers(error)
        host = URL(call.url).host or "the provider"
        if is_unsendable(error):
            raise ConfigError(f"the call to {host} can't be sent: its address is malformed", "base_url") from error
        if was_never_sent(error):
            raise unreachable(error, host, self._config.connect_timeout) from error
        lost = broken(error, f"the reply of {host}")
        if call.kind is CallKind.SUBMIT:
            raise ReplyLostError(lost.message) from error
        raise lost from error

    def _fail_too_large(self, call: Call, status: int) -> NoReturn:
        reason = f"larger than {MAX_REPLY // 2**20} MiB"
        if call.kind is CallKind.SUBMIT:
            raise ReplyLostError(f"the reply (HTTP {status}) is {reason}")
        raise ResponseFormatError(reason, status)

    # --- links to videos --------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def stream(self, link: str, headers: Mapping[str, str]) -> AsyncIterator[StreamReply]:
        """Open a link; its body is read with `StreamReply.chunks`.

        Up to 5 redirects are followed, each held against the link rule. Raises `APIConnectionError` where the host
        can't be reached, `DownloadError` for a link that may not be followed.
        """
        response = await self._open_link(link, headers)
        try:
            yield StreamReply(
                response.status,
                {name.lower(): value for name, value in response.headers.items()},
                str(response.url),
                response,
            )
        finally:
            response.close()

    async def _open_link(self, link: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        url = _link_url(link)
        for _ in range(MAX_REDIRECTS + 1):
            await self._check_link(url)
            response = await self._get(url, headers)
            location = response.headers.get("Location")
            if response.status not in (301, 302, 303, 307, 308) or location is None:
                return response
            response.close()
            url = _link_url(location, url)
        raise APIConnectionError(f"{shown(link)} leads through more than {MAX_REDIRECTS} redirects")

    async def _check_link(self, url: URL) -> None:
        problem = link_problem(url.scheme, url.raw_host, url.raw_user is not None, self._rule)
        if problem is not None:
            raise _refused(url, problem)
        if url.raw_host in self._proxies.hosts() and self._proxies.proxy_for(url) is None and not self._rule.private:
            # Its name passes the resolver's guard, so that it can be used as the proxy.
            raise _refused(url, "leads to the proxy itself")
        if not self._links_guarded:
            # A session that was given to us connects where it likes; this closes all but a change of DNS in between.
            await self._look_up(url)

    async def _look_up(self, url: URL) -> None:
        try:
            await self._guard.resolve(url.raw_host or "", url.port or 0)
        except InternalAddressError as error:
            raise _refused(url, "leads to an internal address") from error
        except OSError as error:
            raise APIConnectionError(f"{url.host} can't be found: {error}") from error

    async def _get(self, url: URL, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        proxy = self._proxies.proxy_for(url) if self._links_guarded else self._config.proxy
        try:
            return await self._links.get(
                url,
                headers={"User-Agent": user_agent(), "Accept": "*/*", "Accept-Encoding": "identity", **headers},
                timeout=self._links_timeout,
                proxy=proxy,
                allow_redirects=False,
                raise_for_status=False,
                auto_decompress=False,
                read_bufsize=_STREAM_BUFFER,
            )
        except Exception as error:  # noqa: BLE001 — see send
            self._fail_link(url, error)

    def _fail_link(self, url: URL, error: Exception) -> NoReturn:
        forget_headers(error)
        if isinstance(origin_of(error), InternalAddressError):
            raise _refused(url, "leads to an internal address") from error
        host = url.host or "the link's host"
        if was_never_sent(error) or is_unsendable(error):
            raise unreachable(error, host, self._config.connect_timeout) from error
        raise broken(error, f"the download from {host}") from error


@functools.cache
def user_agent() -> str:
    """Truthful: hosts behind Cloudflare refuse the default agents of HTTP libraries."""
    return f"wanasync/{__version__} aiohttp/{aiohttp.__version__}"


def _timeout(config: Config, *, own: bool) -> aiohttp.ClientTimeout:
    """No total, which would end a long download; and in a session of unknown limits no `connect`, which would count
    the wait for a free connection. In ours it bounds what `sock_connect` leaves out: DNS and a proxy's CONNECT."""
    return aiohttp.ClientTimeout(
        total=None,
        connect=config.connect_timeout if own else None,
        sock_connect=config.connect_timeout,
        sock_read=config.read_timeout,
    )


def _raise_mmap_threshold() -> None:
    """Allocate and free half a megabyte, which makes glibc serve blocks up to that size from its heap from then on.

    asyncio reads into a fresh 256 KiB buffer each time; by default glibc maps and unmaps each of them, which costs
    13 to 23 % of a request. Elsewhere it does nothing.
    """
    bytearray(2**19)


def _check_download_session(session: aiohttp.ClientSession | None) -> None:
    if session is not None and ("Authorization" in session.headers or getattr(session, "auth", None) is not None):
        raise ConfigError(
            "download_session sends credentials by default, which would go to the hosts of videos; "
            "give it no Authorization header and no auth",
            "download_session",
        )


def _scrubbable(api_key: str | None) -> str | None:
    """A key that is told from other text by its length; real ones are. A short one could be part of a task's id."""
    return api_key if api_key is not None and len(api_key) >= _LEAST_KEY else None


async def _read(response: aiohttp.ClientResponse, silence: SilenceLimit, limit: float) -> bytes | None:
    """The whole body; None where it is larger than allowed (a small compressed body can be a large one).

    Raises `TimeoutError` where it takes more than `limit` seconds, however many bytes come meanwhile.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + limit
    chunks: list[bytes] = []
    content, room = response.content, MAX_REPLY
    try:
        while chunk := await content.readany():
            room -= len(chunk)
            if room < 0:
                response.close()
                return None
            chunks.append(chunk)
            if content.at_eof():
                break
            silence.heard()
            if clock() > end:
                raise TimeoutError  # noqa: TRY301 — the response is to be closed as for any other error
    except BaseException:
        response.close()
        raise
    return b"".join(chunks)


def _link_url(link: str, base: URL | None = None) -> URL:
    """A link as it must go out: a signature covers the exact spelling, so only what can't be sent is encoded."""
    try:
        url = URL(link, encoded=_is_plain(link))
        url = base.join(url) if base else url
        _ = url.port  # read late by yarl, and part of what can be malformed
    except ValueError as error:
        raise DownloadError(f"the link {shown(link)[:200]!r} is not an address", link=link) from error
    return url


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _refused(url: URL, problem: str) -> DownloadError:
    return DownloadError(
        f"the link {shown(str(url))} {problem}; it was not followed (allow_private_links=True allows it)", link=str(url)
    )
