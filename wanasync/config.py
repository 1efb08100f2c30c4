"""Settings of a session, as one frozen value.

Where a setting may come from, first found wins: an argument or flag, a `WAN_*` variable, the file (`wanasync.toml`,
or `[tool.wanasync]` in pyproject.toml), the default here. `resolve` folds them; reading the file is
`wanasync.edges.settings`' part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs
from attrs import field, frozen

from wanasync.errors import ConfigError
from wanasync.models import Limits

__all__ = ["DEFAULT_BASE_URL", "Config", "resolve"]

DEFAULT_BASE_URL = "https://ai.odkkk.com/apiv1"
"""From the provider's document; the base has a path, which joining must keep."""

ON_UNKNOWN = ("hold", "replay", "resubmit")


def _seconds(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0 or math.isinf(value):
        raise ConfigError(f"{attribute.name} must be a number of seconds above 0, not {value!r}", attribute.name)


def _count(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{attribute.name} must be a whole number of at least 1, not {value!r}", attribute.name)


def _base_url(value: str) -> str:
    return value.rstrip("/") if isinstance(value, str) else value


def _check_base_url(_: object, __: object, value: str) -> None:
    parts = urlsplit(value) if isinstance(value, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"base_url must be an http(s) address without query, not {value!r}", "base_url")
    if parts.username or parts.password:
        raise ConfigError("base_url must not hold a user name or password", "base_url")


def _check_key(_: object, __: object, value: str | None) -> None:
    if value is None:
        return
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        # The value is not shown: it may be most of a real key.
        raise ConfigError("api_key must be printable ASCII without spaces; was it copied with a line break?", "api_key")


def _check_on_unknown(_: object, __: object, value: str) -> None:
    if value not in ON_UNKNOWN:
        raise ConfigError(f"on_unknown must be one of {', '.join(ON_UNKNOWN)}, not {value!r}", "on_unknown")


@frozen(kw_only=True)
class Config:
    """Everything a session can be told. All waits are in seconds; raises `ConfigError`.

    `connect_timeout` and `read_timeout` are for one connection attempt and one silence on it; there is no total,
    since a total would count the wait for a connection too. `max_submissions_in_flight` bounds POSTs on the wire.
    `limits` are the provider's limits where they are known. `on_unknown` says what to do with a submission whose
    reply was lost: hold (never sent again), replay (same key again, for hosts that honour `Idempotency-Key`) or
    resubmit (send again and accept that it may be paid twice). `link_lifetime` is how long a link lives;
    `results_grace` how long a completed task may go without links. `allow_private_links` lets links be http or
    point to internal addresses; None allows it only where the base URL itself is on loopback.
    `proxy` is used for every connection; None reads the environment once, when the session opens.
    """

    api_key: str | None = field(default=None, repr=False, validator=_check_key)
    base_url: str = field(default=DEFAULT_BASE_URL, converter=_base_url, validator=_check_base_url)
    connect_timeout: float = field(default=15.0, validator=_seconds)
    read_timeout: float = field(default=60.0, validator=_seconds)
    connect_attempts: int = field(default=6, validator=_count)
    max_submissions_in_flight: int = field(default=32, validator=_count)
    max_polls_in_flight: int = field(default=16, validator=_count)
    max_downloads: int = field(default=8, validator=_count)
    download_attempts: int = field(default=8, validator=_count)
    limits: Limits | None = None
    on_unknown: str = field(default="hold", validator=_check_on_unknown)
    link_lifetime: float = field(default=24 * 3600.0, validator=_seconds)
    results_grace: float = field(default=120.0, validator=_seconds)
    polls_per_second: float = field(default=20.0, validator=_seconds)
    allow_private_links: bool | None = None
    proxy: str | None = field(default=None, repr=False)


_FIELDS = {attribute.name: attribute for attribute in attrs.fields(Config)}
_SETTABLE = tuple(name for name in _FIELDS if name != "limits")
_BOOLEANS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _boolean(text: str) -> bool:
    return _BOOLEANS[text.strip().lower()]


_READERS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": _boolean,
}


def _read_text(name: str, text: str, where: str) -> Any:
    kind = str(_FIELDS[name].type).split(" | ")[0]
    try:
        return _READERS[kind](text)
    except (ValueError, KeyError) as error:
        shown = "its value" if name == "api_key" else repr(text)
        raise ConfigError(f"{where}: {shown} is not a valid {kind}", where) from error


def resolve(
    arguments: Mapping[str, Any],
    environ: Mapping[str, str],
    file: Mapping[str, Any],
    file_name: str = "wanasync.toml",
) -> tuple[Config, dict[str, str]]:
    """Fold the sources into a `Config`, and tell for each field set where it came from.

    `arguments` that are None count as not given. Unknown names in the file are an error (a typo would otherwise
    cost money silently); unknown `WAN_*` variables are not ours to judge. Raises `ConfigError`.
    """
    unknown = sorted(set(file) - set(_SETTABLE))
    if unknown:
        known = ", ".join(_SETTABLE)
        raise ConfigError(f"{file_name}: unknown setting {unknown[0]!r} (known: {known})", unknown[0])
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for name in _SETTABLE:
        variable = f"WAN_{name.upper()}"
        if arguments.get(name) is not None:
            values[name], origin[name] = arguments[name], "argument"
        elif environ.get(variable):
            values[name], origin[name] = _read_text(name, environ[variable], variable), variable
        elif name in file:
            values[name], origin[name] = file[name], file_name
    if arguments.get("limits") is not None:
        values["limits"], origin["limits"] = arguments["limits"], "argument"
    return Config(**values), origin
