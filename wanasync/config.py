"""Settings of a session, as one frozen value.

Where a setting may come from, first found wins: an argument or flag, a `WAN_*` variable, the file (`wanasync.toml`,
or `[tool.wanasync]` in pyproject.toml), the default here. `resolve` folds them; reading the file is
`wanasync.edges.settings`' part.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import attrs
from attrs import field, frozen

from wanasync.errors import ConfigError
from wanasync.models import Limits

__all__ = ["DEFAULT_BASE_URL", "Config", "is_loopback", "resolve", "unknown_variables"]

DEFAULT_BASE_URL = "https://ai.odkkk.com/apiv1"
"""From the provider's document; the base has a path, which joining must keep."""

ON_UNKNOWN = ("hold", "replay", "resubmit")


def _positive(_: object, attribute: attrs.Attribute[float], value: Any) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0 or value == math.inf:
        raise ConfigError(f"{attribute.name} must be a number above 0, not {value!r}", attribute.name)


def _count(_: object, attribute: attrs.Attribute[int], value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{attribute.name} must be a whole number of at least 1, not {value!r}", attribute.name)


def _base_url(value: Any) -> Any:
    return value.rstrip("/") if isinstance(value, str) else value


def _check_base_url(_: object, __: object, value: Any) -> None:
    if isinstance(value, str) and "@" in value.split("://", 1)[-1].split("/", 1)[0]:
        # Not shown: what stands before the @ may be a password.
        raise ConfigError("base_url must not hold a user name or password", "base_url")
    if not _is_base_url(value):
        # Shown only where it is an address: what was put here by mistake may be the key.
        given = f", not {value!r}" if isinstance(value, str) and "://" in value else ""
        raise ConfigError(f"base_url must be an http(s) address without query{given}", "base_url")


def _is_base_url(value: Any) -> bool:
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        return False
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return False
    named = parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0
    return named and "?" not in value and "#" not in value


def is_loopback(host: str) -> bool:
    """Whether a host, as it stands in an address, is this machine itself."""
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _check_key(_: object, __: object, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable() or " " in value:
        # The value is not shown: it may be most of a real key.
        raise ConfigError("api_key must be printable ASCII without spaces; was it copied with a line break?", "api_key")


def _check_proxy(_: object, __: object, value: Any) -> None:
    if value is not None and (not isinstance(value, str) or not value.startswith(("http://", "https://"))):
        # Not shown: it may hold a password.
        raise ConfigError("proxy must be an http(s) address", "proxy")


def _flag(_: object, attribute: attrs.Attribute[bool | None], value: Any) -> None:
    if value is not None and not isinstance(value, bool):
        raise ConfigError(f"{attribute.name} must be true or false, not {value!r}", attribute.name)


def _is_flag(_: object, attribute: attrs.Attribute[bool], value: Any) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{attribute.name} must be true or false, not {value!r}", attribute.name)


def _check_limits(_: object, __: object, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, Limits):
        raise ConfigError(f"limits must be a Limits(...), not {value!r}", "limits")
    for name in ("requests", "concurrent"):
        given = getattr(value, name)
        if given is not None and (not isinstance(given, int) or isinstance(given, bool) or given < 1):
            raise ConfigError(f"limits: {name} must be a whole number of at least 1, not {given!r}", "limits")
    per: Any = value.per
    if not isinstance(per, int | float) or isinstance(per, bool) or not 0 < per < math.inf:
        raise ConfigError(f"limits: per must be a number of seconds above 0, not {per!r}", "limits")


def _check_on_unknown(_: object, __: object, value: Any) -> None:
    if value not in ON_UNKNOWN:
        raise ConfigError(f"on_unknown must be one of {', '.join(ON_UNKNOWN)}, not {value!r}", "on_unknown")


@frozen(kw_only=True)
class Config:
    """Everything a session can be told. All waits are in seconds. Raises `ConfigError` for what makes no sense."""

    api_key: str | None = field(default=None, repr=False, validator=_check_key)
    """The provider's key. Never shown, logged or sent anywhere but to the API's own address."""
    base_url: str = field(default=DEFAULT_BASE_URL, converter=_base_url, validator=_check_base_url)
    """Where the API is. https, but on this machine; its path is kept."""
    connect_timeout: float = field(default=15.0, validator=_positive)
    """Seconds for one attempt to connect."""
    read_timeout: float = field(default=60.0, validator=_positive)
    """Seconds of silence on a connection. There is no total, which would count the wait for a connection too."""
    connect_attempts: int = field(default=6, validator=_count)
    """How often a submission may find the provider out of reach before it is given up; a batch that has been let in
    once tries on."""
    max_submissions_in_flight: int = field(default=32, validator=_count)
    """POSTs on the wire at once."""
    max_polls_in_flight: int = field(default=16, validator=_count)
    """Queries on the wire at once."""
    max_downloads: int = field(default=8, validator=_count)
    """Videos that are fetched at once."""
    download_attempts: int = field(default=8, validator=_count)
    """Tries that bring a video no further before it is given up for this run."""
    limits: Limits | None = field(default=None, validator=_check_limits)
    """The provider's limits, where they are known; others are found from replies."""
    on_unknown: str = field(default="hold", validator=_check_on_unknown)
    """What to do with a submission whose reply was lost: `hold` (never sent again), `replay` (the same key again, for
    hosts that honour `Idempotency-Key`) or `resubmit` (send it again, and accept that it may be paid twice)."""
    link_lifetime: float = field(default=24 * 3600.0, validator=_positive)
    """How long the link to a finished video lives."""
    results_grace: float = field(default=120.0, validator=_positive)
    """How long a completed task may go without links."""
    task_patience: float = field(default=24 * 3600.0, validator=_positive)
    """For how long after its submission a batch waits for a task: tasks take minutes, and what has not come within the
    day that links live is not worth keeping a run open for."""
    polls_per_second: float = field(default=20.0, validator=_positive)
    """Queries a second that following all tasks may take."""
    allow_private_links: bool | None = field(default=None, validator=_flag)
    """Lets links be http or lead to internal addresses; unset, only where the base URL itself is on this machine."""
    allow_plain_http: bool = field(default=False, validator=_is_flag)
    """Lets the key go to an http base URL beyond this machine, in a network of your own."""
    proxy: str | None = field(default=None, repr=False, validator=_check_proxy)
    """Used for every connection; unset, the environment is read once, when the session opens."""

    def __attrs_post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        plain = parts.scheme == "http" and not is_loopback(parts.hostname or "")
        if plain and self.api_key is not None and not self.allow_plain_http:
            raise ConfigError(
                f"base_url {self.base_url} is plain http: anybody on the way could read the API key. Use https, or set "
                "allow_plain_http (WAN_ALLOW_PLAIN_HTTP=1) in a network of your own",
                "base_url",
            )


_FIELDS = {attribute.name: attribute for attribute in attrs.fields(Config)}
_LIMITS = tuple(attribute.name for attribute in attrs.fields(Limits))
_PREFIX = "WAN_"
_VARIABLES = {name: f"{_PREFIX}{name.upper()}" for name in _FIELDS if name != "limits"}
_OTHER_VARIABLES = ("WAN_DATABASE_URL",)
"""Read by `wanasync cluster`, and no setting of a session."""
_BOOLEANS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _boolean(text: str) -> bool:
    return _BOOLEANS[text.lower()]


_READERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "str": (str, "text"),
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "bool": (_boolean, "true or false"),
}


def resolve(
    arguments: Mapping[str, Any],
    environ: Mapping[str, str],
    file: Mapping[str, Any],
    file_name: str = "wanasync.toml",
) -> tuple[Config, dict[str, str]]:
    """Fold the sources into a `Config`, and tell for each field set where it came from.

    `arguments` that are None count as not given, and so do empty variables. Unknown names in the file are an error
    (a typo would otherwise cost money silently); unknown `WAN_*` variables may be another program's, so that they are
    only told, by the command line: see `unknown_variables`. In the file,
    `limits` is a table of requests, per and concurrent; it has no variable. Raises `ConfigError`, which names the
    source.
    """
    _refuse_unknown(file, tuple(_FIELDS), file_name)
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for name in _FIELDS:
        variable = _VARIABLES.get(name, "")
        if arguments.get(name) is not None:
            values[name], origin[name] = arguments[name], "argument"
        elif environ.get(variable, "").strip():
            values[name], origin[name] = _read_text(name, environ[variable].strip(), variable), variable
        elif name in file:
            values[name], origin[name] = file[name], file_name
    if origin.get("limits") == file_name:
        values["limits"] = _read_limits(values["limits"], file_name)
    return _made(values, origin), origin


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str | None]:
    """The variables that are named like settings and are none, each with the one that was probably meant."""
    known = (*_VARIABLES.values(), *_OTHER_VARIABLES)
    names = {variable.removeprefix(_PREFIX): variable for variable in known}
    strange = sorted(name for name in environ if name.startswith(_PREFIX) and name not in known)
    return {name: names.get(_nearest(name.removeprefix(_PREFIX), names) or "") for name in strange}


def _nearest(word: str, known: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(word, known, n=1)), None)


def _made(values: Mapping[str, Any], origin: Mapping[str, str]) -> Config:
    try:
        return Config(**values)
    except ConfigError as error:
        source = origin.get(error.setting or "", "argument")
        if source == "argument":
            raise
        raise ConfigError(f"{source}: {error.message}", error.setting) from error


def _read_text(name: str, text: str, variable: str) -> Any:
    reader, kind = _READERS[str(_FIELDS[name].type).split(" | ")[0]]
    try:
        return reader(text)
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{variable}: {name} must be {kind}, not {text!r}", name) from error


def _read_limits(table: object, file_name: str) -> Limits:
    if not isinstance(table, Mapping):
        raise ConfigError(f"{file_name}: limits must be a table of {', '.join(_LIMITS)}", "limits")
    _refuse_unknown(table, _LIMITS, f"{file_name}: limits")
    return Limits(**table)


def _refuse_unknown(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for name in table:
        if name not in known:
            near = _nearest(name, known)
            hint = f"did you mean {near}?" if near else f"there are {', '.join(known)}"
            raise ConfigError(f"{where}: no such setting as {name!r}; {hint}", name)
