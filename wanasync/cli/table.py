"""`--table`: a row for each item of a batch, as CSV, JSON lines or Parquet.

Rows are written one after the other as the journal tells them, so that a million take no more memory than ten, into a
file beside the wanted one that takes its place at the end. The only home of pyarrow, an extra.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from wanasync import ConfigError
from wanasync.cli.screen import Screen

if TYPE_CHECKING:
    from wanasync import BatchHistory, ItemStatus, VideoRequest

__all__ = ["COLUMNS", "check_table", "write_table"]

COLUMNS: Mapping[str, type] = {
    "id": str,
    "index": int,
    "prompt": str,
    "model": str,
    "quality": str,
    "aspect_ratio": str,
    "duration": int,
    "prompt_extend": bool,
    "image_urls": str,
    "extra": str,
    "state": str,
    "path": str,
    "url": str,
    "bytes": int,
    "sha256": str,
    "credits": float,
    "task_id": str,
    "attempt": int,
    "error_code": str,
    "error": str,
    "submitted_at": datetime,
    "updated_at": datetime,
    "link_deadline": datetime,
}
"""What each row holds. Settings that were not given, and what is not known yet, are empty; times are in UTC."""

_GROUP = 10_000
"""Rows of a Parquet row group."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""Spreadsheets take what begins so for something to carry out, and prompts and errors are other people's text."""


class _Rows(Protocol):
    def write(self, row: dict[str, Any]) -> None: ...
    def close(self) -> None: ...


def check_table(path: Path, source: str = "") -> None:
    """See that the table can be written, before anything is paid. Raises `ConfigError`."""
    if path.suffix.lower() not in _KINDS:
        raise ConfigError(f"--table {path}: the name ends in {', '.join(_KINDS)}", "table")
    if path.suffix.lower() == ".parquet":
        _parquet()
    if source and path.exists() and Path(source).exists() and path.samefile(source):
        raise ConfigError(f"--table {path}: that is the list itself", "table")
    if path.is_dir() or not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        raise ConfigError(f"--table {path}: can't be written", "table")


async def write_table(history: BatchHistory, path: Path, screen: Screen) -> None:
    """Write what the journal knows of each item; an earlier table of that name is replaced. Raises `ConfigError`."""
    check_table(path)
    count = 0
    try:
        with _replacing(path) as file:
            rows = _KINDS[path.suffix.lower()](file)
            async for row in _rows(history):
                rows.write(row)
                count += 1
            rows.close()
    except OSError as error:
        raise ConfigError(f"--table {path}: {error.strerror or error}", "table") from error
    screen.say(f"{path}: {count:,} rows", "dim")


async def _rows(history: BatchHistory) -> AsyncIterator[dict[str, Any]]:
    async for item in history.items():
        yield _row(item, history.directory, history.url)


def _row(item: ItemStatus, directory: Path, url: str | None) -> dict[str, Any]:
    saved = item.state == "saved"
    return {
        "id": item.id,
        "index": item.index,
        **_settings(item.request),
        "state": item.state,
        "path": str(directory / item.file) if saved and url is None else None,
        "url": f"{url}/{item.file}" if saved and url is not None else None,
        "bytes": item.bytes if saved else None,
        "sha256": item.sha256 if saved else None,
        "credits": item.credits,
        "task_id": item.task_id,
        "attempt": item.attempt,
        "error_code": item.error_code,
        "error": item.error_message,
        "submitted_at": _time(item.submitted_at),
        "updated_at": _time(item.updated_at),
        "link_deadline": _time(item.link_deadline),
    }


def _settings(request: VideoRequest | None) -> dict[str, Any]:
    if request is None:
        return dict.fromkeys(("prompt", "model", "quality", "aspect_ratio", "duration", "prompt_extend", "image_urls"))
    return {
        "prompt": request.prompt,
        "model": request.model,
        "quality": request.quality,
        "aspect_ratio": request.aspect_ratio,
        "duration": request.duration,
        "prompt_extend": request.prompt_extend,
        "image_urls": json.dumps(request.image_urls) if request.image_urls else None,
        "extra": json.dumps(request.extra, ensure_ascii=False) if request.extra else None,
    }


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file that takes the place of `path` if all goes well."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
    try:
        os.chmod(name, 0o666 & ~_umask())
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _plain(value: Any) -> Any:
    return value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else value


class _Lines:
    """JSON lines: text as it is."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, row: dict[str, Any]) -> None:
        whole = {name: _plain(row.get(name)) for name in COLUMNS}
        self._file.write(json.dumps(whole, ensure_ascii=True).encode() + b"\n")

    def close(self) -> None: ...


class _Csv:
    """CSV for spreadsheets: UTF-8 with a mark, since they take it for something else without one, and an apostrophe
    before text that they would carry out."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._writer = csv.writer(self)  # which hands text to `write`
        file.write(b"\xef\xbb\xbf")
        self._writer.writerow(COLUMNS)

    def write(self, row: Any) -> None:
        if isinstance(row, str):  # from the writer
            self._file.write(row.encode(errors="backslashreplace"))
            return
        self._writer.writerow([_cell(row.get(name)) for name in COLUMNS])

    def close(self) -> None: ...


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA):
        return f"'{value}"
    return _plain(value)


class _Parquet:
    """Parquet, a group of rows at a time."""

    def __init__(self, file: IO[bytes]) -> None:
        self._pa, parquet = _parquet()
        kinds = {str: "string", int: "int64", float: "float64", bool: "bool_"}
        self._schema = self._pa.schema(
            [
                (name, self._pa.timestamp("ms", tz="UTC") if kind is datetime else getattr(self._pa, kinds[kind])())
                for name, kind in COLUMNS.items()
            ]
        )
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def write(self, row: dict[str, Any]) -> None:
        self._rows.append({name: row.get(name) for name in COLUMNS})
        if len(self._rows) == _GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        self._writer.write_table(self._pa.Table.from_pylist(rows, schema=self._schema))


def _parquet() -> tuple[Any, Any]:
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]
    except ImportError as error:
        words = f"a Parquet table needs one more library ({error}): pip install 'wanasync[parquet]'"
        raise ConfigError(words, "table") from error
    return pa, pq


_KINDS: Mapping[str, Callable[[IO[bytes]], _Rows]] = {".csv": _Csv, ".jsonl": _Lines, ".parquet": _Parquet}
