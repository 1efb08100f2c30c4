"""The settings file: `wanasync.toml`, or `[tool.wanasync]` in pyproject.toml, of the working directory or above.

Such a file comes with a project, and so perhaps from a stranger. It may set everything but one thing: it can't have a
key that comes from elsewhere sent to a host of its own choice.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from wanasync.config import DEFAULT_BASE_URL, Config, is_loopback, resolve
from wanasync.errors import ConfigError

__all__ = ["FILE_NAME", "load_config", "read_settings"]

FILE_NAME = "wanasync.toml"


def load_config(
    arguments: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    start: Path | None = None,
) -> tuple[Config, Mapping[str, str]]:
    """The `Config` from all sources, and for each setting that is not the default where it came from.

    First found wins: `arguments` (None means not given), `WAN_*` of `environ`, the settings file looked for from
    `start` upwards, the defaults. Raises `ConfigError`, also where the file would have the key sent to a host that
    only the file names.
    """
    settings, file_name = read_settings(start)
    config, origin = resolve(arguments or {}, os.environ if environ is None else environ, settings, file_name)
    if origin.get("base_url") == file_name and origin.get("api_key") not in (None, file_name):
        _check_destination(config.base_url, file_name)
    return config, origin


_PROVIDERS = frozenset({urlsplit(DEFAULT_BASE_URL).hostname, "api.evolink.ai"})
"""The provider's document names the one, the public pages of the same API the other."""


def _check_destination(base_url: str, file_name: str) -> None:
    """The key was given to be sent to the provider; a file that lies about is nobody's word for another host."""
    parts = urlsplit(base_url)
    if is_loopback(parts.hostname or "") or (parts.scheme == "https" and parts.hostname in _PROVIDERS):
        return
    if Path(file_name).parent == Path.home():
        return  # nobody but the user puts files there
    raise ConfigError(
        f"{file_name}: its base_url, {base_url}, would be sent an API key that is not from this file. If you trust "
        f"that host, say so beside the key: WAN_BASE_URL={base_url} or --base-url",
        "base_url",
    )


def read_settings(start: Path | None = None) -> tuple[Mapping[str, Any], str]:
    """The nearest settings file's content and name, from `start` (the working directory) upwards; empty if none.

    Raises `ConfigError` for a file that can't be read or is not TOML: going on without it could cost money; and for
    one that another user has put into a folder open to all, such as /tmp.
    """
    for folder in _folders(start or Path.cwd()):
        own = folder / FILE_NAME
        content = _toml(own)
        if content is not None:
            _check_owner(own)
            return content, str(own)
        project = folder / "pyproject.toml"
        content = _tool_table(project)
        if content is not None:
            _check_owner(project)
            return content, f"{project} [tool.wanasync]"
    return {}, FILE_NAME


def _folders(start: Path) -> Iterator[Path]:
    """`start` and what is above it, up to the home directory: what lies beyond belongs to others."""
    start = start.resolve()
    for folder in (start, *start.parents):
        yield folder
        if str(folder) == os.path.expanduser("~"):
            return


def _check_owner(path: Path) -> None:
    if not hasattr(os, "geteuid"):
        return
    owner, folder = path.stat().st_uid, path.parent.stat()
    if folder.st_mode & stat.S_IWOTH and owner not in (0, os.geteuid()):
        raise ConfigError(f"{path}: another user has put it into a folder open to all; remove it, or work elsewhere")


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error


def _parsed(path: Path, content: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8") from error
    except (ValueError, RecursionError) as error:  # of a number or a nesting beyond measure, too
        raise ConfigError(f"{path}: is not valid TOML: {error}") from error


def _toml(path: Path) -> dict[str, Any] | None:
    content = _content(path)
    return None if content is None else _parsed(path, content)


def _tool_table(path: Path) -> dict[str, Any] | None:
    content = _content(path)
    # Most pyproject.toml hold nothing of ours; a broken one is then its other readers' affair.
    if content is None or b"wanasync" not in content:
        return None
    tool = _parsed(path, content).get("tool")
    if not isinstance(tool, dict) or "wanasync" not in tool:
        return None
    table = tool["wanasync"]
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: tool.wanasync must be a table")
    return table
