"""The provider's rules for a submission, written from its document alone.

Nothing here is shared with the client's own checks: two readings of one document keep each other honest.
"""

from __future__ import annotations

import ipaddress
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from attrs import frozen

from wanasync.emulator.refusals import Refusal

__all__ = ["MODELS", "ModelRules", "Wish", "check_callback_url", "parse_json", "read_submission"]

MAX_PROMPT = 2000
MAX_CALLBACK_URL = 2048
IDEMPOTENCY_KEY = re.compile(r"[A-Za-z0-9._-]{16,96}")

_SQUARE_AND_WIDE = ("16:9", "9:16", "1:1")
_ALL_SHAPES = (*_SQUARE_AND_WIDE, "4:3", "3:4")


@frozen
class ModelRules:
    """What one model accepts. `shapes` maps each quality to its aspect ratios."""

    name: str
    shapes: Mapping[str, tuple[str, ...]]
    durations: tuple[int, ...] = (5, 10)
    needs_images: bool = False


_SHAPES = {"480p": _SQUARE_AND_WIDE, "720p": _ALL_SHAPES, "1080p": _ALL_SHAPES}

MODELS: Mapping[str, ModelRules] = {
    "wan2.5-text-to-video": ModelRules("wan2.5-text-to-video", _SHAPES),
    # The sibling shares endpoint and query and adds `image_urls` (public pages of the same API family).
    "wan2.5-image-to-video": ModelRules("wan2.5-image-to-video", _SHAPES, needs_images=True),
}


@frozen
class Wish:
    """A submission that passed, with the provider's defaults filled in."""

    model: str
    prompt: str
    quality: str
    aspect_ratio: str
    seconds: int
    callback_url: str | None


def parse_json(body: bytes) -> Any:
    """What the body says; a `Refusal` (400) if it is not JSON in the strict sense."""
    try:
        return json.loads(body.decode(), parse_constant=_not_json)
    except (ValueError, RecursionError) as error:
        raise Refusal("bad_request", "Invalid request format: the body is not JSON") from error


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def read_submission(body: object, *, models: Mapping[str, ModelRules] = MODELS, local_callbacks: bool = False) -> Wish:
    """Check a submission against the document; raises `Refusal` naming the parameter."""
    if not isinstance(body, dict):
        raise Refusal("bad_request", "Invalid request format: the body must be an object")
    rules = _model(body, models)
    quality = _word(body, "quality", "720p", tuple(rules.shapes))
    wish = Wish(
        model=rules.name,
        prompt=_prompt(body),
        quality=quality,
        aspect_ratio=_word(body, "aspect_ratio", "16:9", rules.shapes[quality], f" at {quality}"),
        seconds=_duration(body, rules),
        callback_url=_callback_url(body, local_callbacks),
    )
    if not isinstance(body.get("prompt_extend", True), bool):
        raise _wrong("prompt_extend", "must be true or false")
    _images(body, rules)
    return wish


def _wrong(param: str, reason: str) -> Refusal:
    return Refusal("bad_request", f"Invalid request parameters: {param} {reason}", param)


def _text(body: Mapping[str, Any], param: str) -> str:
    if param not in body:
        raise _wrong(param, "is required")
    value = body[param]
    if not isinstance(value, str):
        raise _wrong(param, "must be a string")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise _wrong(param, "is not valid Unicode text")
    return value


def _model(body: Mapping[str, Any], models: Mapping[str, ModelRules]) -> ModelRules:
    name = _text(body, "model")
    if name not in models:
        # The document suggests the one model it describes.
        raise Refusal("no_model", param="model", suggestion=next(iter(models)))
    return models[name]


def _prompt(body: Mapping[str, Any]) -> str:
    prompt = _text(body, "prompt")
    if len(prompt) > MAX_PROMPT:
        raise _wrong("prompt", f"must not exceed {MAX_PROMPT} characters")
    return prompt


def _word(body: Mapping[str, Any], param: str, default: str, allowed: tuple[str, ...], where: str = "") -> str:
    if param not in body:
        return default
    value = _text(body, param)
    if value not in allowed:
        raise _wrong(param, f"must be one of {', '.join(allowed)}{where}")
    return value


def _duration(body: Mapping[str, Any], rules: ModelRules) -> int:
    value = body.get("duration", rules.durations[0])
    # JSON has one kind of number: 5.0 is the integer 5. true is not a number.
    if isinstance(value, bool) or not isinstance(value, int | float) or value not in rules.durations:
        raise _wrong("duration", f"must be one of {', '.join(map(str, rules.durations))}")
    return int(value)


def _images(body: Mapping[str, Any], rules: ModelRules) -> None:
    if not rules.needs_images:
        return
    links = body.get("image_urls")
    if not isinstance(links, list) or not links or not all(isinstance(link, str) for link in links):
        raise _wrong("image_urls", "must be a list with at least one link")
    if not all(link.startswith(("https://", "http://")) for link in links):
        raise _wrong("image_urls", "must hold http(s) links")


def _callback_url(body: Mapping[str, Any], local: bool) -> str | None:
    if "callback_url" not in body:
        return None
    url = _text(body, "callback_url")
    check_callback_url(url, local=local)
    return url


def check_callback_url(url: str, *, local: bool = False) -> None:
    """https, a public host, at most 2048 characters; `local` lets http and internal hosts pass, for tests."""
    if len(url) > MAX_CALLBACK_URL:
        raise _wrong("callback_url", f"must not exceed {MAX_CALLBACK_URL} characters")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise _wrong("callback_url", "is not a valid URL") from error
    if not host or not url.isprintable() or " " in url:
        raise _wrong("callback_url", "is not a valid URL")
    if parts.scheme != "https" and not (local and parts.scheme == "http"):
        raise _wrong("callback_url", "must use https")
    if not local and _is_internal(host):
        raise _wrong("callback_url", "must not point to an internal address")


def _is_internal(host: str) -> bool:
    # NFKC folds the digits and dots of other scripts, which resolvers fold too.
    name = _fold(unquote(host)).rstrip(".").lower()
    if not name or name == "localhost" or name.endswith((".localhost", ".local", ".internal", ".lan", ".home.arpa")):
        return True
    try:
        address = _address(name)
    except ValueError:
        # Numbers that are no address: who knows what a resolver makes of 127.0.0.08.
        return True
    return address is not None and not _is_public(address)


def _fold(host: str) -> str:
    return re.sub("[。．｡]", ".", unicodedata.normalize("NFKC", host))


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host spells; None for a name. Raises ValueError for what looks like one and is none."""
    if ":" in name:
        return ipaddress.IPv6Address(name.partition("%")[0])
    parts = name.split(".")
    return _ipv4(parts) if _NUMBER.fullmatch(parts[-1]) else None


def _ipv4(parts: list[str]) -> ipaddress.IPv4Address:
    """Read an IPv4 address the way inet_aton does: 1–4 parts, decimal, octal or hexadecimal."""
    *head, tail = [_number(part) for part in parts]
    if len(head) > 3 or any(number > 255 for number in head) or tail >= 256 ** (4 - len(head)):
        raise ValueError(".".join(parts))
    value = sum(number << (24 - 8 * place) for place, number in enumerate(head))
    return ipaddress.IPv4Address(value + tail)


def _number(part: str) -> int:
    if part.startswith("0x"):
        return int(part[2:] or "0", 16)
    return int(part, 8) if part.startswith("0") and part != "0" else int(part)


_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(inner)
    return address.is_global and not address.is_multicast
