"""A link is a stranger's: it leads to the public internet over https, or it is not followed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers.raw_server import raw_server, reply, say
from wanasync import Config, DownloadError
from wanasync.edges.transport import MAX_REDIRECTS, Transport
from wanasync.errors import APIConnectionError

PUBLIC = "93.184.215.14"


def answering(monkeypatch: pytest.MonkeyPatch, *answers: str, proxy: str = "127.0.0.1") -> list[str]:
    """Have names found at `answers`, one after another, the last one from then on; `proxy.example` always at its own.
    Gives the names that were asked for."""
    coming: Iterator[str] = iter(answers)
    last = [answers[-1]]
    asked: list[str] = []

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        address = proxy if host == "proxy.example" else next(coming, last[0])
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        where = (address, port, 0, 0) if ":" in address else (address, port)
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return asked


async def refusal(link: str, **settings: Any) -> Exception:
    config = Config(api_key="k" * 20, base_url="https://api.example.com", connect_timeout=1.0, **settings)
    async with Transport(config) as transport:
        with pytest.raises((DownloadError, APIConnectionError)) as caught:
            async with transport.stream(link, {}):
                pass
    return caught.value


INWARD = [
    "https://127.0.0.1/v.mp4",
    "https://127.1/v.mp4",
    "https://2130706433/v.mp4",
    "https://0x7f000001/v.mp4",
    "https://0177.0.0.1/v.mp4",
    "https://169.254.169.254/latest/meta-data",
    "https://10.0.0.1/v.mp4",
    "https://0.0.0.0/v.mp4",
    "https://100.64.0.1/v.mp4",
    "https://[::1]/v.mp4",
    "https://[::]/v.mp4",
    "https://[::ffff:127.0.0.1]/v.mp4",
    "https://[::ffff:7f00:1]/v.mp4",
    "https://[::127.0.0.1]/v.mp4",
    "https://[64:ff9b::7f00:1]/v.mp4",
    "https://[64:ff9b:1::a00:1]/v.mp4",
    "https://[2002:7f00:1::]/v.mp4",
    "https://[2001:0:a00:1:0:0:80ff:fffe]/v.mp4",
    "https://[fe80::1]/v.mp4",
    "https://[fe80::1%25eth0]/v.mp4",
    "https://[fd00::1]/v.mp4",
    "https://localhost/v.mp4",
    "https://LOCALHOST./v.mp4",
    "https://router/v.mp4",
    "https://db.internal/v.mp4",
    "https://127。0。0。1/v.mp4",
    "https://①②⑦.0.0.1/v.mp4",
    "https://localhost%00.example.com/v.mp4",
    "https://cdn.example.com@127.0.0.1/v.mp4",
    "https://127.0.0.1\\@cdn.example.com/v.mp4",
    "https://127.0.0.1#@cdn.example.com/v.mp4",
]


@pytest.mark.parametrize("link", INWARD)
async def test_a_link_that_points_inward_is_not_followed(link: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, PUBLIC)
    error = await refusal(link)
    assert isinstance(error, DownloadError), error
    assert asked == []


@pytest.mark.parametrize("link", ["http://cdn.example.com/v", "file:///etc/passwd", "ftp://cdn.example.com/v", "//x/v"])
async def test_a_link_that_is_not_https_is_not_followed(link: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, PUBLIC)
    assert isinstance(await refusal(link), DownloadError)
    assert asked == []


@pytest.mark.parametrize("link", ["https://me@cdn.example.com/v", "https://me:secret@cdn.example.com/v"])
async def test_a_link_with_user_information_is_not_followed(link: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "user name" in str(await refusal(link))


@pytest.mark.parametrize("location", [*INWARD[:6], "file:///etc/passwd", "http://cdn.example.com/v.mp4"])
async def test_a_redirect_is_judged_like_a_link(location: str) -> None:
    away = reply(b"", f"Location: {location}", status="302 Found")
    async with raw_server(say(away)) as server:
        config = Config(api_key="k" * 20, base_url=server.url)
        async with Transport(config) as transport:
            if location == INWARD[0]:
                location = "https://127.0.0.1:1/"  # loopback is allowed here; nobody listens
            with pytest.raises((DownloadError, APIConnectionError)):
                async with transport.stream(f"{server.url}/v.mp4", {}):
                    pass
    assert len(server.requests) == 1


async def test_redirects_come_to_an_end() -> None:
    async with raw_server(say(reply(b"", "Location: /again", status="302 Found"))) as server:
        config = Config(api_key="k" * 20, base_url=server.url)
        with pytest.raises(APIConnectionError, match="redirects"):
            async with Transport(config) as transport, transport.stream(f"{server.url}/v.mp4", {}):
                pass
    assert len(server.requests) == MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"]
)
async def test_a_public_name_that_resolves_inward_is_not_followed(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answering(monkeypatch, address)
    assert "leads to an internal address" in str(await refusal("https://cdn.example.com/v.mp4"))
    assert asked == ["cdn.example.com"]


async def test_a_name_is_judged_by_the_answer_that_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebinding: whoever judges one answer and connects to the next one can be led inward. There is one question."""
    async with raw_server(say(reply(b"inner"))) as server:
        asked = answering(monkeypatch, PUBLIC, "127.0.0.1")
        await refusal(f"https://cdn.example.com:{server.port}/v.mp4")
    assert asked == ["cdn.example.com"]
    assert server.connections == 0


async def test_the_proxys_name_is_no_way_into_its_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy may stand on an internal address, and so its name passes the guard; a link must not make use of it."""
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    asked = answering(monkeypatch, PUBLIC)
    assert "leads to the proxy itself" in str(await refusal("https://proxy.example/v.mp4"))
    assert asked == []


async def test_internal_links_are_followed_where_the_user_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(say(reply(b"video"))) as server:
        config = Config(api_key="k" * 20, base_url="https://api.example.com", allow_private_links=True)
        async with Transport(config) as transport, transport.stream(f"{server.url}/v.mp4", {}) as opened:
            assert await opened.read() == b"video"
