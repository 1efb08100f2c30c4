"""Deliveries as no provider should send them, and what must hold whatever comes to a callback URL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from random import Random

from attrs import frozen

from tests.security import fuzz_replies
from tests.security.mutation import choose, damaged, text
from wanasync import Delivery
from wanasync.rules.wire import is_task_id
from wanasync.webhooks import CallbackReceiver, LocalMailbox

__all__ = ["Hostile", "check", "example"]

NOW = 1_800_000_000.0
KEY = "wan-0123456789abcdef"


@frozen
class Hostile:
    """`genuine` is whether the path ends in the token that was given out."""

    method: str
    path: str
    genuine: bool
    headers: dict[str, str]
    pieces: tuple[bytes, ...]


class _Noting(LocalMailbox):
    """Keeps what was put into it."""

    def __init__(self) -> None:
        super().__init__()
        self.put_in: list[Delivery] = []

    async def put(self, delivery: Delivery) -> None:
        self.put_in.append(delivery)


_RECEIVER = CallbackReceiver(
    public_url="https://app.example.com/hooks/wan", secret="a secret of the tests' own", clock=lambda: NOW
)
_URL = _RECEIVER.url(KEY, NOW)
_TOKEN = _URL.rpartition("/")[2]


def example(rng: Random) -> Hostile:
    """Two of three come to the right address, with a body that a reply could have."""
    path = choose(rng, _genuine, _genuine, _elsewhere)
    genuine = path.partition("?")[0].rstrip("/").rpartition("/")[2] == _TOKEN
    method = "POST" if rng.randrange(20) else rng.choice(["GET", "post", "", text(rng, 8)])
    return Hostile(method, path, genuine, _headers(rng), _pieces(rng, fuzz_replies.example(rng).body))


def _genuine(rng: Random) -> str:
    return rng.choice([f"/hooks/wan/{_TOKEN}", _TOKEN, f"/{_TOKEN}/", f"/{_TOKEN}?x={text(rng, 9)}"])


def _elsewhere(rng: Random) -> str:
    torn = damaged(rng, _TOKEN.encode()).decode("latin-1")
    return rng.choice([f"/hooks/wan/{torn}", text(rng, 200), "/hooks/wan/", f"{_TOKEN}=", f"{_TOKEN}\n", "A" * 9999])


def _headers(rng: Random) -> dict[str, str]:
    length = rng.choice(["0", "-1", "٣", "1e9", "9" * 400, "1048577", text(rng, 9)])
    return {"Content-Length": length} if rng.randrange(4) == 0 else {text(rng, 9): text(rng, 9)}


def _pieces(rng: Random, body: bytes) -> tuple[bytes, ...]:
    cut = rng.randint(0, len(body))
    return (body[:cut], b"", body[cut:]) if rng.randrange(50) else (body, b" " * 2**20)


async def _body(pieces: Sequence[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def check(hostile: Hostile) -> None:
    """It is answered, never raised over; and only what came to the right address and names a task is handed on."""
    mailbox = _RECEIVER._mailbox = _Noting()
    status, headers, body = asyncio.run(
        _RECEIVER.handle(hostile.method, hostile.path, hostile.headers, _body(hostile.pieces))
    )
    assert status in _expected(hostile)
    assert body == b""
    assert all(name.isascii() and value.isascii() for name, value in headers.items())
    assert not mailbox.put_in or (hostile.genuine and status == 204)
    for delivery in mailbox.put_in:
        assert delivery.idempotency_key == KEY
        assert is_task_id(delivery.task_id)


def _expected(hostile: Hostile) -> tuple[int, ...]:
    if hostile.method != "POST":
        return (405,)
    return (204, 400, 413) if hostile.genuine else (404,)
