"""The settings file: `wanasync.toml`, or `[tool.wanasync]` in pyproject.toml, of the working directory or above."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wanasync.config import Config, resolve
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
    `start` upwards, the defaults. Raises `ConfigError`.
    """
    settings, file_name = read_settings(start)
    return resolve(arguments or {}, os.environ if environ is None else environ, settings, file_name)


def read_settings(start: Path | None = None) -> tuple[Mapping[str, Any], str]:
    """The nearest settings file's content and name, from `start` (the working directory) upwards; empty if none.

    Raises `ConfigError` for a file that can't be read or is not TOML: going on without it could cost money.
    """
    for folder in _folders(start or Path.cwd()):
        own = folder / FILE_NAME
        content = _toml(own)
        if content is not None:
            return content, str(own)
        project = folder / "pyproject.toml"
        content = _tool_table(project)
        if content is not None:
            return content, f"{project} [tool.wanasync]"
    return {}, FILE_NAME


def _folders(start: Path) -> Iterator[Path]:
    """`start` and what is above it, up to the home directory: what lies beyond belongs to others."""
    start = start.resolve()
    for folder in (start, *start.parents):
        yield folder
        if str(folder) == os.path.expanduser("~"):
            return


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
    except tomllib.TOMLDecodeError as error:
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
