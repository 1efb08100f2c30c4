"""Where a batch's videos go, and where what it remembers lies on this machine."""

from __future__ import annotations

import os
import re
from hashlib import blake2b
from pathlib import Path
from urllib.parse import unquote, urlsplit

from attrs import frozen

from wanasync.errors import ConfigError

__all__ = ["Destination"]

SCHEMES = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "memory")
"""Object stores. `memory` is one that ends with the process, for tests."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://", re.ASCII)
_NOT_PLAIN = re.compile(r"[^a-z0-9]+", re.ASCII)
_LONGEST_SLUG = 60


@frozen
class Destination:
    """Where the videos of a batch go.

    `directory` is on this machine: it holds the journal, and the videos too unless `url` is set. `url` is that of a
    place in an object store, without a slash at its end; a video passes through `directory` on its way there.
    """

    directory: Path
    url: str | None = None

    @classmethod
    def of(cls, to: str | os.PathLike[str] | Destination, state: str | os.PathLike[str] | None = None) -> Destination:
        """What `to` means: a directory, or a URL such as ``s3://bucket/prefix``, ``gs://…``, ``az://…``.

        `state` is the directory for what a batch to an object store remembers; without it, one in the working
        directory whose name is made from the URL (``.wanasync-s3-bucket-prefix-1a2b3c4d``). Nothing is touched.
        Raises `ConfigError` for a URL of another kind, and for a `state` where the videos go to a directory anyway.
        """
        if isinstance(to, Destination):
            return to
        found = _URL.match(to) if isinstance(to, str) else None
        if found is None or found[1].lower() == "file":
            if state is not None:
                raise ConfigError(f"{to} holds its own journal; `state` is for object stores", "state")
            return cls(Path(to) if found is None else _local(str(to)))
        if found[1].lower() not in SCHEMES:
            raise ConfigError(f"{to!r}: videos go to a directory, or to {', '.join(f'{s}://' for s in SCHEMES)}", "to")
        url = _checked(str(to))
        return cls(Path(state) if state is not None else Path(f".wanasync-{_slug(url)}"), url)

    def __str__(self) -> str:
        """For people: where the videos are to be found."""
        return self.url or str(self.directory)

    def file(self, stem: str) -> tuple[Destination, str]:
        """For one video: the place and the object's name; `stem`.mp4 unless the URL ends in a name with .mp4."""
        place, _, last = (self.url or "").rpartition("/")
        if last.lower().endswith(".mp4") and not place.endswith(("/", ":")):
            return Destination(self.directory, place), last
        return self, f"{stem}.mp4"


def _local(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise ConfigError(f"{url!r}: a file URL has three slashes: file:///…", "to")
    return Path(unquote(parts.path))


def _checked(url: str) -> str:
    """Without what would make two names of one place."""
    scheme, _, rest = url.partition("://")
    parts = rest.rstrip("/").split("/")
    if any(char in url for char in "?#\\") or any(ord(char) < 0x21 for char in url):
        raise ConfigError(f"{url!r}: no spaces, queries or fragments, please", "to")
    if "@" in parts[0]:
        raise ConfigError("keys do not belong into a URL; the store's own variables hold them", "to")
    if any(part in ("", ".", "..") for part in parts[1:]) or (not parts[0] and scheme.lower() != "memory"):
        raise ConfigError(f"{url!r}: looks like {scheme}://bucket/prefix, each part with a name", "to")
    return f"{scheme.lower()}://{'/'.join(parts)}"


def _slug(url: str) -> str:
    plain = _NOT_PLAIN.sub("-", url.lower()).strip("-")[:_LONGEST_SLUG].strip("-")
    return f"{plain}-{blake2b(url.encode(), digest_size=4).hexdigest()}"
