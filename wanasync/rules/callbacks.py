"""Callback URLs, and what comes to them.

The provider signs nothing, so the URL itself has to be the proof: each submission's own ends in a token that nobody
can make without the secret. What is delivered there is a hint all the same. It says which task to look at; what became
of that task, only a query tells.

A token is base64url of: version (1 byte), expiry (4 bytes, unix seconds), the submission's idempotency key, and the
first 16 bytes of an HMAC-SHA256 over them. The expiry is a whole day, so that a submission that is sent again within
it has the very same body: a host that honours `Idempotency-Key` refuses the same key with another one.
"""

from __future__ import annotations

import base64
import hmac
import math
import re
import struct
from collections.abc import Sequence
from urllib.parse import urlsplit

from attrs import field, frozen

from wanasync.config import is_loopback
from wanasync.errors import CallbackError, ConfigError, RequestValidationError, ResponseFormatError
from wanasync.models import Delivery, TaskStatus
from wanasync.rules import catalog, wire

__all__ = ["LONGEST_TOKEN", "CallbackCodec", "check_reachable"]

MIN_SECRET = 16
"""Bytes. What is shorter can be guessed from a single URL."""
DAY = 86_400.0
MIN_LIFETIME, MAX_LIFETIME = 3600.0, 366 * DAY

_CONTEXT = b"wanasync callback\0"
_VERSION = 1
_HEAD = struct.Struct(">BI")
_MAC = 16
_KEY = re.compile(rb"[A-Za-z0-9._-]{16,96}")
LONGEST_TOKEN = math.ceil((_HEAD.size + 96 + _MAC) * 4 / 3)
_TOKEN = re.compile(rf"[A-Za-z0-9_-]{{1,{LONGEST_TOKEN}}}", re.ASCII)

_GOING_ON = frozenset({TaskStatus.PENDING, TaskStatus.PROCESSING})


def _as_secrets(value: str | bytes | Sequence[str | bytes]) -> tuple[bytes, ...]:
    secrets = (value,) if isinstance(value, str | bytes) else tuple(value)
    if not all(isinstance(secret, str | bytes) for secret in secrets):
        raise ConfigError("secret must be text or bytes, or several of them", "secret")
    return tuple(secret.encode() if isinstance(secret, str) else secret for secret in secrets)


def _check_secrets(_: object, __: object, secrets: tuple[bytes, ...]) -> None:
    if not secrets or any(len(secret) < MIN_SECRET for secret in secrets):
        # Not shown: it may be most of the real one.
        raise ConfigError(
            f"secret must have at least {MIN_SECRET} bytes; make one with python -c "
            "'import secrets; print(secrets.token_urlsafe(32))' and keep it with your other secrets",
            "secret",
        )


def _as_public_url(value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"public_url must be text, not {value!r}", "public_url")
    return value.rstrip("/")


def _check_public_url(_: object, __: object, url: str) -> None:
    if "?" in url or "#" in url:
        raise ConfigError("public_url must have no query and no fragment: the token follows it", "public_url")
    room = catalog.MAX_URL_LENGTH - LONGEST_TOKEN - 1
    if len(url) > room:
        raise ConfigError(f"public_url has {len(url)} characters; with the token at most {room} fit", "public_url")
    problem = _objection(url)
    if problem and not _is_local(url):
        raise ConfigError(f"public_url {problem}", "public_url")


def _objection(url: str) -> str | None:
    """What speaks against `url` as an address the provider calls; None where nothing does."""
    try:
        catalog.check_callback_url(url)
    except RequestValidationError as error:
        return error.reason
    return None


def _is_local(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and "@" not in parts.netloc and is_loopback(host or "")


def check_reachable(public_url: str, base_url: str) -> None:
    """Raises `ConfigError` where the provider at `base_url` would refuse to call `public_url`.

    A provider on this machine is an emulator, which may be told to call this machine.
    """
    problem = _objection(public_url)
    if problem and not _is_local(base_url):
        raise ConfigError(f"public_url {problem}", "public_url")


def _check_lifetime(_: object, __: object, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not MIN_LIFETIME <= value <= MAX_LIFETIME:
        raise ConfigError(f"lifetime must be {MIN_LIFETIME:g} to {MAX_LIFETIME:g} seconds, not {value!r}", "lifetime")


@frozen
class CallbackCodec:
    """Makes callback URLs and reads what comes to them. Pure: no request, no clock.

    `public_url` is where the provider reaches the receiver, without the token: https on a public host, or on this
    machine for an emulator. `secrets` are of at least 16 bytes each; the first signs, all are good for reading, so
    that one can be replaced while URLs made with it are still out. A token is good for `lifetime` seconds and until
    the end of that day. Raises `ConfigError`.
    """

    public_url: str = field(converter=_as_public_url, validator=_check_public_url)
    secrets: tuple[bytes, ...] = field(converter=_as_secrets, validator=_check_secrets, repr=False)
    lifetime: float = field(default=7 * DAY, validator=_check_lifetime)

    def url(self, idempotency_key: str, at: float) -> str:
        """The callback URL of the submission that goes by `idempotency_key`, first sent `at` (unix seconds)."""
        return f"{self.public_url}/{self.token(idempotency_key, at)}"

    def token(self, idempotency_key: str, at: float) -> str:
        expiry = math.ceil((at + self.lifetime) / DAY) * int(DAY)
        named = _HEAD.pack(_VERSION, expiry) + idempotency_key.encode("ascii")
        return base64.urlsafe_b64encode(named + _mac(self.secrets[0], named)).rstrip(b"=").decode()

    def key(self, token: str, now: float) -> str:
        """The idempotency key that `token` names. Raises `CallbackError` for one that is not ours, or no longer."""
        named, mac = _parts(token)
        # Each one is compared, so that the time taken doesn't tell which secret it was.
        genuine = [hmac.compare_digest(_mac(secret, named), mac) for secret in self.secrets]
        if not any(genuine):
            raise CallbackError("the token is not one of ours")
        version, expiry = _HEAD.unpack_from(named)
        key = named[_HEAD.size :]
        if version != _VERSION or not _KEY.fullmatch(key):
            raise CallbackError("the token is of another version of wanasync")
        if now >= expiry:
            raise CallbackError("the token has expired")
        return key.decode()

    def delivery(self, idempotency_key: str, body: bytes, now: float) -> Delivery | None:
        """What `body`, posted to the URL of `idempotency_key`, says; None where the task is only said to go on.

        Raises `CallbackError` where it names no task.
        """
        try:
            said = wire.salvaged_snapshot(wire.read_json(body))
        except ResponseFormatError as error:
            raise CallbackError(f"the body can't be understood: {error.reason}") from error
        return None if said.status in _GOING_ON else Delivery(idempotency_key, said.id, now)


def _mac(secret: bytes, named: bytes) -> bytes:
    return hmac.digest(secret, _CONTEXT + named, "sha256")[:_MAC]


def _parts(token: str) -> tuple[bytes, bytes]:
    """What a token says, and its signature. Only the one spelling that we make of it passes."""
    if not _TOKEN.fullmatch(token) or len(token) % 4 == 1:
        raise CallbackError("the token is not one of ours")
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    spelled = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    if len(raw) <= _HEAD.size + _MAC or spelled != token:
        raise CallbackError("the token is not one of ours")
    return raw[:-_MAC], raw[-_MAC:]
