from __future__ import annotations

import asyncio
import gzip
import socket
import warnings
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from tests.helpers.raw_server import Answer, Wire, raw_server, reply, say
from tests.helpers.tls import server_context, trusting_context
from wanasync.config import Config
from wanasync.edges.transport import MAX_REPLY, ReplyLostError, Transport
from wanasync.errors import (
    APIConnectionError,
    APITimeoutError,
    ConfigError,
    DownloadError,
    ResponseFormatError,
    WanError,
)
from wanasync.models import VideoRequest
from wanasync.rules.calls import Call, CallKind, query_call, submit_call

KEY = "sk-secret-0123456789abcdef"
OK = reply(b'{"id": "task-1"}', "Content-Type: application/json")


def config_for(url: str, **settings: Any) -> Config:
    settings = {"connect_timeout": 5.0, "read_timeout": 5.0, **settings}
    return Config(api_key=KEY, base_url=f"{url}/api", allow_plain_http=True, **settings)


def submission(config: Config) -> Call:
    return submit_call(config.base_url, VideoRequest("a cat"), "key-0123456789abcdef")


def query(config: Config) -> Call:
    return query_call(config.base_url, "task-1")


async def failure(config: Config, call: Call, **sessions: Any) -> WanError:
    """What `send` raises; never with the key in its text."""
    async with Transport(config, **sessions) as transport:
        with pytest.raises(WanError) as caught:
            await transport.send(call)
    assert KEY not in f"{caught.value} {caught.value!r}"
    return caught.value


async def unused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def resolve_to(monkeypatch: pytest.MonkeyPatch, answers: dict[str, str]) -> None:
    """Have the running loop find these names at these addresses, and no others."""

    async def getaddrinfo(host: str, port: int, **hints: Any) -> list[Any]:
        if host not in answers and not host[0].isdigit():
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (answers.get(host, host), port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


# --- what goes out --------------------------------------------------------------------------------------------------


async def test_a_call_goes_out_with_key_agent_and_its_own_headers() -> None:
    async with raw_server(say(OK)) as server:
        config = config_for(server.url)
        async with Transport(config) as transport:
            answer = await transport.send(submission(config))
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /api/v1/videos/generations HTTP/1.1"
    assert f"Authorization: Bearer {KEY}" in lines
    assert "Idempotency-Key: key-0123456789abcdef" in lines
    assert any(line.startswith("User-Agent: wanasync/") for line in lines)
    assert b'"a cat"' in body
    assert (answer.status, answer.body, answer.headers["content-type"]) == (
        200,
        b'{"id": "task-1"}',
        "application/json",
    )


async def test_the_key_goes_nowhere_but_below_the_base_url() -> None:
    async with raw_server(say(OK)) as server:
        config = config_for(server.url)
        elsewhere = Call(CallKind.QUERY, "GET", f"{server.url}/apiary/tasks/1")
        assert isinstance(await failure(config, elsewhere), ConfigError)
    assert server.connections == 0


async def test_redirects_of_the_api_are_not_followed() -> None:
    async with raw_server(say(reply(b"", "Location: /elsewhere", status="307 Temporary Redirect"))) as server:
        config = config_for(server.url)
        async with Transport(config) as transport:
            answer = await transport.send(submission(config))
    assert answer.status == 307
    assert len(server.requests) == 1


async def test_cookies_are_not_kept() -> None:
    async with raw_server(say(reply(b"{}", "Set-Cookie: session=1"))) as server:
        config = config_for(server.url)
        async with Transport(config) as transport:
            await transport.send(query(config))
            await transport.send(query(config))
    assert b"cookie" not in server.requests[1].lower()


async def test_a_body_of_megabytes_passes_without_a_warning() -> None:
    async with raw_server(say(OK)) as server:
        config = config_for(server.url)
        request = VideoRequest("a cat", extra={"image": "x" * 2**21})
        async with Transport(config) as transport:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                await transport.send(submit_call(config.base_url, request, "key-0123456789abcdef"))
    assert len(server.requests[0]) > 2**21


async def test_many_calls_at_once_do_not_time_out_waiting_for_each_other() -> None:
    everybody = asyncio.Barrier(150)

    async def answer(wire: Wire) -> None:
        await wire.request()
        await everybody.wait()
        await wire.send(OK)

    async with raw_server(answer) as server:
        config = config_for(server.url)
        async with Transport(config) as transport:
            replies = await asyncio.gather(*(transport.send(query(config)) for _ in range(150)))
    assert [each.status for each in replies] == [200] * 150


async def test_trace_configs_see_our_sessions_work() -> None:
    seen: list[str] = []
    tracing = aiohttp.TraceConfig()

    async def note(session: object, context: object, params: aiohttp.TraceRequestStartParams) -> None:
        seen.append(params.url.path)

    tracing.on_request_start.append(note)
    async with raw_server(say(OK)) as server:
        config = config_for(server.url)
        async with Transport(config, trace_configs=[tracing]) as transport:
            await transport.send(query(config))
    assert seen == ["/api/v1/tasks/task-1"]


# --- never sent, or lost? -------------------------------------------------------------------------------------------


async def silence(wire: Wire) -> None:
    await wire.forever()


async def reset_unread(wire: Wire) -> None:
    wire.reset()


async def close_unread(wire: Wire) -> None:
    return None


async def reset_when_read(wire: Wire) -> None:
    await wire.request()
    wire.reset()


async def close_when_read(wire: Wire) -> None:
    await wire.request()


async def silent_when_read(wire: Wire) -> None:
    await wire.request()
    await wire.forever()


def then_close(data: bytes) -> Answer:
    async def answer(wire: Wire) -> None:
        await wire.request()
        await wire.send(data)

    return answer


def then_silent(data: bytes) -> Answer:
    async def answer(wire: Wire) -> None:
        await wire.request()
        await wire.send(data)
        await wire.forever()

    return answer


LOSSES: dict[str, Answer] = {
    "reset before reading": reset_unread,
    "closed before reading": close_unread,
    "reset after reading": reset_when_read,
    "closed after reading": close_when_read,
    "never answered": silent_when_read,
    "half the headers": then_close(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "half the body": then_close(reply(b"{", "Content-Length: 100")),
    "half a chunked body": then_close(reply(b'5\r\n{"id"', "Transfer-Encoding: chunked")),
    "body that stops coming": then_silent(reply(b"{", "Content-Length: 100")),
    "not HTTP": then_close(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "impossible length": then_close(reply(b"{}", "Content-Length: lots")),
    "broken compression": then_close(reply(b"no gzip", "Content-Encoding: gzip")),
    "headers without end": then_close(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000),
}


@pytest.mark.parametrize("loss", LOSSES)
async def test_what_fails_after_connecting_is_a_lost_reply_for_a_submission(loss: str) -> None:
    async with raw_server(LOSSES[loss]) as server:
        config = config_for(server.url, read_timeout=0.2)
        assert type(await failure(config, submission(config))) is ReplyLostError
    assert server.connections == 1, "a POST was sent twice"


@pytest.mark.parametrize("loss", LOSSES)
async def test_what_fails_after_connecting_is_a_connection_error_for_a_query(loss: str) -> None:
    async with raw_server(LOSSES[loss]) as server:
        config = config_for(server.url, read_timeout=0.2)
        error = await failure(config, query(config))
    timed_out = loss in ("never answered", "body that stops coming")
    assert type(error) is (APITimeoutError if timed_out else APIConnectionError)
    assert "127.0.0.1" in str(error)


@pytest.mark.parametrize("kind", [submission, query])
async def test_a_refused_connection_sent_nothing(kind: Callable[[Config], Call]) -> None:
    config = config_for(f"http://127.0.0.1:{await unused_port()}")
    error = await failure(config, kind(config))
    assert type(error) is APIConnectionError
    assert "127.0.0.1" in str(error)


async def test_an_unknown_host_was_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, {})
    config = config_for("http://api.example.com")
    error = await failure(config, submission(config))
    assert type(error) is APIConnectionError
    assert str(error) == "api.example.com can't be reached: Name or service not known"


async def test_an_impossible_host_name_was_sent_nothing() -> None:
    config = config_for(f"http://{'x' * 70}.example.com")
    assert type(await failure(config, submission(config))) is APIConnectionError


async def test_a_name_server_that_never_answers_was_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*question: Any, **hints: Any) -> list[Any]:
        return await asyncio.Event().wait()  # type: ignore[return-value]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    config = config_for("http://api.example.com", connect_timeout=0.1)
    assert type(await failure(config, submission(config))) is APITimeoutError


async def test_a_server_without_tls_was_sent_nothing() -> None:
    async def answer(wire: Wire) -> None:
        await wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with raw_server(answer) as server:
        config = config_for(server.url.replace("http:", "https:"))
        error = await failure(config, submission(config))
    assert type(error) is APIConnectionError


async def test_a_server_that_breaks_off_the_handshake_was_sent_nothing() -> None:
    async with raw_server(reset_unread) as server:
        config = config_for(server.url.replace("http:", "https:"))
        assert type(await failure(config, submission(config))) is APIConnectionError


async def test_a_handshake_without_end_was_sent_nothing() -> None:
    async with raw_server(silence) as server:
        config = config_for(server.url.replace("http:", "https:"), connect_timeout=0.1)
        error = await failure(config, submission(config))
    assert type(error) is APITimeoutError
    assert str(error) == "127.0.0.1 could not be reached within 0.1 s"


async def test_a_server_with_an_unknown_certificate_was_sent_nothing() -> None:
    async with raw_server(say(OK), tls=server_context()) as server:
        config = config_for(server.url)
        error = await failure(config, submission(config))
    assert type(error) is APIConnectionError
    assert "certificate is not accepted" in str(error)
    assert server.requests == []


async def test_a_reply_lost_under_tls_is_lost() -> None:
    async with raw_server(reset_when_read, tls=server_context()) as server:
        config = config_for(server.url)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting_context())) as session:
            assert type(await failure(config, submission(config), client_session=session)) is ReplyLostError


async def test_a_submission_on_a_connection_that_the_server_closed_meanwhile_is_lost_not_repeated() -> None:
    closing = asyncio.Event()

    async def answer(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK)
        await closing.wait()
        await wire.request()
        wire.reset()

    async with raw_server(answer) as server:
        config = config_for(server.url)
        async with Transport(config) as transport:
            await transport.send(query(config))
            closing.set()
            with pytest.raises(ReplyLostError):
                await transport.send(submission(config))
    assert server.connections == 1


async def test_a_cancelled_call_closes_its_connection() -> None:
    closed = asyncio.Event()
    arrived = asyncio.Event()

    async def answer(wire: Wire) -> None:
        await wire.request()
        arrived.set()
        assert await wire.reader.read() == b""
        closed.set()

    async with raw_server(answer) as server:
        config = config_for(server.url)
        async with Transport(config) as transport:
            sending = asyncio.create_task(transport.send(query(config)))
            await arrived.wait()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await asyncio.wait_for(closed.wait(), 5)


async def test_a_call_cancelled_within_the_body_closes_its_connection() -> None:
    closed = asyncio.Event()
    begun = asyncio.Event()

    async def answer(wire: Wire) -> None:
        await wire.request()
        await wire.send(reply(b"{", "Content-Length: 100"))
        begun.set()
        assert await wire.reader.read() == b""
        closed.set()

    async with raw_server(answer) as server:
        config = config_for(server.url)
        async with Transport(config) as transport:
            sending = asyncio.create_task(transport.send(query(config)))
            await begun.wait()
            await asyncio.sleep(0.01)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await asyncio.wait_for(closed.wait(), 5)


# --- what comes in --------------------------------------------------------------------------------------------------

TOO_LARGE = {
    "plain": reply(b" " * (MAX_REPLY + 1)),
    "compressed": reply(gzip.compress(b" " * (MAX_REPLY + 1)), "Content-Encoding: gzip"),
    "without a length": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b" " * (MAX_REPLY + 1),
}


@pytest.mark.parametrize("kind", TOO_LARGE)
async def test_a_reply_that_is_too_large_is_not_read_on(kind: str) -> None:
    async with raw_server(then_close(TOO_LARGE[kind])) as server:
        config = config_for(server.url)
        error = await failure(config, query(config))
    assert isinstance(error, ResponseFormatError)
    assert "larger than 8 MiB" in str(error)


async def test_a_submission_whose_reply_is_too_large_is_lost() -> None:
    async with raw_server(say(TOO_LARGE["plain"])) as server:
        config = config_for(server.url)
        assert type(await failure(config, submission(config))) is ReplyLostError


async def test_the_largest_allowed_reply_is_read() -> None:
    async with raw_server(say(reply(b" " * MAX_REPLY))) as server:
        config = config_for(server.url)
        async with Transport(config) as transport:
            assert len((await transport.send(query(config))).body) == MAX_REPLY


async def test_a_compressed_reply_is_decompressed() -> None:
    async with raw_server(say(reply(gzip.compress(b"{}"), "Content-Encoding: gzip"))) as server:
        config = config_for(server.url)
        async with Transport(config) as transport:
            assert (await transport.send(query(config))).body == b"{}"


# --- sessions given to us -------------------------------------------------------------------------------------------


async def test_a_given_session_is_used_whatever_its_defaults_and_never_closed() -> None:
    async with raw_server(say(reply(b"{}", "Location: /", status="302 Found"))) as server:
        config = config_for(server.url)
        hasty = aiohttp.ClientTimeout(total=1e-6)
        async with aiohttp.ClientSession(timeout=hasty, raise_for_status=True, auto_decompress=False) as session:
            async with Transport(config, client_session=session) as transport:
                answer = await transport.send(query(config))
            assert not session.closed
    assert answer.status == 302


async def test_a_given_session_tells_never_sent_from_lost_too() -> None:
    refused = config_for(f"http://127.0.0.1:{await unused_port()}")
    async with aiohttp.ClientSession() as session:
        assert type(await failure(refused, submission(refused), client_session=session)) is APIConnectionError
        async with raw_server(reset_when_read) as server:
            config = config_for(server.url)
            assert type(await failure(config, submission(config), client_session=session)) is ReplyLostError
        async with raw_server(silence) as server:
            slow = config_for(server.url.replace("http:", "https:"), connect_timeout=0.1)
            assert type(await failure(slow, submission(slow), client_session=session)) is APITimeoutError
        async with raw_server(say(OK), tls=server_context()) as server:
            config = config_for(server.url)
            assert type(await failure(config, submission(config), client_session=session)) is APIConnectionError


async def test_a_closed_session_is_named() -> None:
    session = aiohttp.ClientSession()
    await session.close()
    config = config_for("http://127.0.0.1:1")
    error = await failure(config, query(config), client_session=session)
    assert isinstance(error, ConfigError)
    assert "session is closed" in str(error)


async def test_a_download_session_with_credentials_is_refused() -> None:
    async with aiohttp.ClientSession(headers={"authorization": "x"}) as session:
        with pytest.raises(ConfigError, match="download_session"):
            Transport(config_for("http://127.0.0.1:1"), download_session=session)


# --- proxies --------------------------------------------------------------------------------------------------------


async def test_the_environments_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(say(OK)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        config = config_for("http://api.example.com")
        async with Transport(config) as transport:
            monkeypatch.delenv("http_proxy")
            await transport.send(query(config))
    assert proxy.requests[0].startswith(b"GET http://api.example.com/api/v1/tasks/task-1 HTTP/1.1\r\n")


async def test_no_proxy_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(say(OK)) as server:
        resolve_to(monkeypatch, {"api.example.com": "127.0.0.1"})
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{await unused_port()}")
        monkeypatch.setenv("no_proxy", "example.com")
        config = config_for(f"http://api.example.com:{server.port}")
        async with Transport(config) as transport:
            assert (await transport.send(query(config))).status == 200


async def test_loopback_is_reached_without_the_environments_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(say(OK)) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{await unused_port()}")
        config = config_for(server.url)
        async with Transport(config) as transport:
            assert (await transport.send(query(config))).status == 200


async def test_the_configured_proxy_is_for_every_connection() -> None:
    async with raw_server(say(OK)) as proxy:
        config = config_for("http://127.0.0.1:1", proxy=proxy.url)
        async with Transport(config) as transport:
            await transport.send(query(config))
            async with transport.stream("http://127.0.0.1:1/video.mp4", {}) as answer:
                assert await answer.read() == b'{"id": "task-1"}'
    assert [request.split()[1] for request in proxy.requests] == [
        b"http://127.0.0.1:1/api/v1/tasks/task-1",
        b"http://127.0.0.1:1/video.mp4",
    ]


async def test_a_proxys_password_goes_to_the_proxy() -> None:
    async with raw_server(say(OK)) as proxy:
        config = config_for("http://api.example.com", proxy=proxy.url.replace("://", "://me:hunter2@"))
        async with Transport(config) as transport:
            await transport.send(query(config))
    assert b"Proxy-Authorization: Basic bWU6aHVudGVyMg==" in proxy.requests[0]


PROXY_FAULTS: dict[str, Answer] = {
    "refuses": say(reply(b"", status="407 Proxy Authentication Required")),
    "hangs up": close_when_read,
    "resets": reset_when_read,
    "is silent": silent_when_read,
    "talks nonsense": then_close(b"what?\r\n\r\n"),
    "breaks off the handshake": then_close(b"HTTP/1.1 200 Connection established\r\n\r\n"),
}


@pytest.mark.parametrize("fault", PROXY_FAULTS)
async def test_a_tunnel_that_the_proxy_does_not_make_was_sent_nothing(fault: str) -> None:
    async with raw_server(PROXY_FAULTS[fault]) as proxy:
        config = config_for("https://api.example.com", proxy=proxy.url, connect_timeout=0.3)
        error = await failure(config, submission(config))
    assert type(error) is (APITimeoutError if fault == "is silent" else APIConnectionError)
    assert proxy.requests[0].startswith(b"CONNECT api.example.com:443 ")


async def test_a_proxy_of_another_kind_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks5://me:hunter2@proxy.example.com:1080")
    with pytest.raises(ConfigError, match=r"proxy\.example\.com is of kind socks5") as caught:
        Transport(config_for("https://api.example.com"))
    assert "hunter2" not in str(caught.value)


# --- links ----------------------------------------------------------------------------------------------------------

VIDEO = reply(b"video", "Content-Type: video/mp4")
SIGNED = "/v.mp4?Signature=a%2Fb%7Ec+d%20&X=1"


async def get(transport: Transport, link: str, headers: dict[str, str] | None = None) -> bytes:
    async with transport.stream(link, headers or {}) as answer:
        return b"".join([chunk async for chunk in answer.chunks()])


async def refusal(config: Config, link: str, **sessions: Any) -> WanError:
    async with Transport(config, **sessions) as transport:
        with pytest.raises(WanError) as caught:
            await get(transport, link)
    assert "Signature" not in str(caught.value)
    return caught.value


async def test_a_link_is_asked_for_without_the_key_and_as_it_is_spelled() -> None:
    async with raw_server(say(VIDEO)) as server, Transport(config_for(server.url)) as transport:
        assert await get(transport, f"{server.url}{SIGNED}", {"Range": "bytes=3-"}) == b"video"
    request = server.requests[0].decode()
    assert request.startswith(f"GET {SIGNED} HTTP/1.1\r\n")
    assert "Range: bytes=3-\r\n" in request
    assert "Accept-Encoding: identity\r\n" in request
    assert "User-Agent: wanasync/" in request
    assert KEY not in request
    assert "authorization" not in request.lower()


async def test_a_link_with_spaces_is_encoded_instead_of_breaking_the_request() -> None:
    async with raw_server(say(VIDEO)) as server, Transport(config_for(server.url)) as transport:
        await get(transport, f"{server.url}/a cat\r\nX-Evil: 1.mp4")
    assert server.requests[0].startswith(b"GET /a%20cat")
    assert b"\r\nX-Evil" not in server.requests[0]


async def test_a_links_reply_is_not_decompressed() -> None:
    squeezed = gzip.compress(b"video")
    answer = say(reply(squeezed, "Content-Encoding: gzip"))
    async with raw_server(answer) as server, Transport(config_for(server.url)) as transport:
        assert await get(transport, f"{server.url}/v.mp4") == squeezed


async def test_redirects_of_links_are_followed_with_their_headers() -> None:
    hops = [reply(b"", f"Location: {SIGNED}", status=status) for status in ("301 Moved", "302 Found", "303 See Other")]
    hops += [reply(b"", "Location: //localhost:{port}/v.mp4", status="308 Permanent Redirect"), VIDEO]

    async def answer(wire: Wire) -> None:
        while True:
            await wire.request()
            await wire.send(hops.pop(0).replace(b"{port}", str(server.port).encode()))

    async with (
        raw_server(answer) as server,
        Transport(config_for(server.url)) as transport,
        transport.stream(f"{server.url}/first.mp4", {"Range": "bytes=7-"}) as reached,
    ):
        assert reached.url == f"http://localhost:{server.port}/v.mp4"
        assert await reached.read() == b"video"
    assert all(b"Range: bytes=7-" in request for request in server.requests)
    assert server.requests[1].startswith(f"GET {SIGNED} ".encode())


async def test_redirects_without_end_are_left() -> None:
    async with raw_server(say(reply(b"", "Location: /again", status="302 Found"))) as server:
        error = await refusal(config_for(server.url), f"{server.url}{SIGNED}")
    assert isinstance(error, APIConnectionError)
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    "location", ["http://10.0.0.1/v.mp4", "http://[::ffff:169.254.169.254]/", "file:///etc/passwd"]
)
async def test_a_redirect_into_an_internal_network_is_refused(location: str) -> None:
    async with raw_server(say(reply(b"", f"Location: {location}", status="302 Found"))) as server:
        error = await refusal(config_for(server.url), f"{server.url}{SIGNED}")
    assert isinstance(error, DownloadError)
    assert "was not followed" in str(error)


INTERNAL = [
    "http://cdn.example.com/v.mp4",
    "https://127.0.0.1/v.mp4",
    "https://2130706433/v.mp4",
    "https://0x7f.1/v.mp4",
    "https://localhost/v.mp4",
    "https://[::1]/v.mp4",
    "https://169.254.169.254/latest",
    "https://me:secret@cdn.example.com/v.mp4",
    "ftp://cdn.example.com/v.mp4",
    "https:///v.mp4",
    "https://cdn.example.com:99999/v.mp4",
    "not a link",
    "",
]


@pytest.mark.parametrize("link", INTERNAL)
async def test_a_link_that_is_not_https_to_a_public_address_is_refused(link: str) -> None:
    error = await refusal(config_for("https://api.example.com"), f"{link}?Signature=1")
    assert isinstance(error, DownloadError)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "169.254.169.254"])
async def test_a_public_name_with_an_internal_address_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, {"cdn.example.com": address})
    error = await refusal(config_for("https://api.example.com"), f"https://cdn.example.com{SIGNED}")
    assert isinstance(error, DownloadError)
    assert "leads to an internal address" in str(error)


async def test_a_given_download_session_is_guarded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, {"cdn.example.com": "10.1.2.3"})
    async with aiohttp.ClientSession() as session:
        config = config_for("https://api.example.com")
        error = await refusal(config, f"https://cdn.example.com{SIGNED}", download_session=session)
        assert isinstance(error, DownloadError)
        gone = await refusal(config, f"https://gone.example.com{SIGNED}", download_session=session)
        assert type(gone) is APIConnectionError
        async with (
            raw_server(say(VIDEO)) as server,
            Transport(config_for(server.url), download_session=session) as transport,
        ):
            assert await get(transport, f"{server.url}{SIGNED}") == b"video"
        assert not session.closed


async def test_private_links_can_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(say(VIDEO)) as server:
        resolve_to(monkeypatch, {"cdn.corp": "127.0.0.1"})
        config = config_for("https://api.example.com", allow_private_links=True)
        async with Transport(config) as transport:
            assert await get(transport, f"http://cdn.corp:{server.port}/v.mp4") == b"video"


async def test_private_links_can_be_forbidden_even_to_an_api_on_loopback() -> None:
    async with raw_server(say(VIDEO)) as server:
        error = await refusal(config_for(server.url, allow_private_links=False), f"{server.url}{SIGNED}")
    assert isinstance(error, DownloadError)


@pytest.mark.parametrize("loss", ["reset after reading", "half the headers", "half the body", "half a chunked body"])
async def test_a_download_that_breaks_off_is_a_connection_error(loss: str) -> None:
    async with raw_server(LOSSES[loss]) as server:
        assert type(await refusal(config_for(server.url), f"{server.url}{SIGNED}")) is APIConnectionError


async def test_a_download_that_stops_coming_is_a_timeout() -> None:
    async with raw_server(LOSSES["body that stops coming"]) as server:
        error = await refusal(config_for(server.url, read_timeout=0.2), f"{server.url}{SIGNED}")
    assert type(error) is APITimeoutError


async def test_a_file_host_that_is_not_there_is_a_connection_error() -> None:
    port = await unused_port()
    error = await refusal(config_for(f"http://127.0.0.1:{port}"), f"http://127.0.0.1:{port}{SIGNED}")
    assert type(error) is APIConnectionError
