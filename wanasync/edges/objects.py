"""Finished videos in an object store: S3, Google Cloud Storage, Azure, and those that speak like them.

A video comes here whole and checked, from this machine's disk (see `download`): so an upload that fails is repeated
without fetching the video again. What becomes of it is the store's own all or nothing: a small video is one request
that only succeeds where the name is free; a large one is uploaded in parts beside its name, and copied there, by the
store, where the name is free. Nobody's object is overwritten, and nothing stands half-written under a final name.

Each object tells whose it is: task and sha256 are written into its metadata, so that a run that was killed before it
could note its upload finds its own again. Credentials, regions and endpoints come from the store's usual variables
(AWS_…, GOOGLE_…, AZURE_…). The only home of obstore, imported where it is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import logging
import os
from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field, frozen

from wanasync.edges.download import TransferError
from wanasync.errors import ConfigError, DownloadError
from wanasync.models import SavedVideo
from wanasync.rules.text import clean_text

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig, S3Config

__all__ = ["Inventory", "Shelf", "Slot", "UploadError"]

logger: logging.Logger = logging.getLogger("wanasync.objects")

SINGLE = 2**24
"""Bytes up to which a video is one request, held in memory: there the store can refuse a name that is taken."""

PART, PARTS_AT_ONCE = 2**23, 2
"""Larger ones: the bytes of a part (S3 wants 5 MiB or more), and how many are on their way at once."""

_UPLOADS = ".wanasync/"
"""Where large videos are put together, below the batch's own place."""

_TASK, _SHA256 = "wanasync-task", "wanasync-sha256"

_RETRIES, _RETRY_SECONDS = 4, timedelta(seconds=60)
"""Of one request; whoever saves tries the whole again, with longer waits."""

_READ = 2**20

_ENDPOINTS = ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
"""Who names a store of their own without TLS has chosen so."""


@define(eq=False, slots=False)
class UploadError(TransferError):
    """The store could not be reached, or did not take the video; trying again may help. The video is kept here."""


@define
class Inventory:
    """Which objects a place holds, in 16 bytes each: a million names would be more than a batch may take."""

    _names: array[int] = field(factory=lambda: array("Q"))
    _sized: array[int] = field(factory=lambda: array("Q"))
    unfinished: int = 0
    """Large uploads that were never brought to their end."""

    def add(self, name: str, size: int) -> None:
        self.unfinished += name.startswith(_UPLOADS)
        self._names.append(_mark(name))
        self._sized.append(_mark(f"{size} {name}"))

    def close(self) -> Inventory:
        """All have been added."""
        self._names, self._sized = array("Q", sorted(self._names)), array("Q", sorted(self._sized))
        return self

    def has(self, name: str) -> bool:
        return _holds(self._names, _mark(name))

    def has_whole(self, name: str, size: int | None) -> bool:
        return _holds(self._sized, _mark(f"{size} {name}"))


def _mark(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "big")


def _holds(marks: array[int], mark: int) -> bool:
    place = bisect_left(marks, mark)
    return place < len(marks) and marks[place] == mark


class Shelf:
    """One place in an object store. `url` is its address, without a slash at its end."""

    def __init__(self, url: str, store: ObjectStore) -> None:
        self.url = url
        self._store = store

    @classmethod
    def open(cls, url: str) -> Shelf:
        """Nothing is asked yet. Raises `ConfigError` where the library is missing or the settings can't be right."""
        try:
            import obstore  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                f"{url} needs one more library ({error}): pip install 'wanasync[objects]'", "to"
            ) from error
        return cls(url, _memory(url) if url.startswith("memory:") else _connected(url))

    def slot(self, name: str) -> Slot:
        return Slot(self, name)

    async def inventory(self) -> Inventory | None:
        """What is there; None where the credentials may write but not list.

        Raises `ConfigError` where the place can't be reached: better known before anything is paid.
        """
        import obstore
        from obstore.exceptions import PermissionDeniedError

        inventory = Inventory()
        try:
            async for chunk in obstore.list(self._store, chunk_size=1000):
                for held in chunk:
                    inventory.add(held["path"], held["size"])
        except PermissionDeniedError as error:
            logger.warning(
                "%s may not be listed: objects that are gone or in the way are not noticed: %s", self.url, _words(error)
            )
            return None
        except (obstore.exceptions.BaseError, OSError, ValueError) as error:
            raise ConfigError(f"{self.url} can't be used: {_words(error)}", "to") from error
        if inventory.unfinished:
            logger.warning(
                "%s/%s holds %d uploads that were never finished; where no run is at work, they can be removed",
                self.url,
                _UPLOADS,
                inventory.unfinished,
            )
        return inventory.close()


@frozen
class Slot:
    """The name of one object."""

    shelf: Shelf
    name: str

    @property
    def url(self) -> str:
        return f"{self.shelf.url}/{self.name}"

    async def is_free(self) -> bool:
        """Raises `UploadError` and `DownloadError`, as `put`."""
        return await self.size() is None

    async def size(self) -> int | None:
        """Bytes of the object of this name; None where there is none. Raises as `is_free`."""
        with self._telling():
            held = await self._held()
        return None if held is None else int(held.meta["size"])

    async def find(self, task_id: str, path: Path) -> SavedVideo | None:
        """The video of this task, where the object says that it is that. `path` is where it would have come by."""
        with self._telling():
            held = await self._held()
        if held is None or held.attributes.get(_TASK) != _as_metadata(task_id) or _SHA256 not in held.attributes:
            return None
        # What the run that was killed after its upload had no time for.
        await asyncio.to_thread(path.unlink, missing_ok=True)
        return SavedVideo(path, held.meta["size"], held.attributes[_SHA256], task_id, url=self.url)

    async def put(self, video: SavedVideo) -> SavedVideo:
        """Upload a whole video that lies on disk; it is removed there afterwards.

        Raises `UploadError` where trying again may help, `DownloadError` where it won't: the name is taken by another
        object, or the store refuses. The file on disk stays then.
        """
        from obstore.exceptions import AlreadyExistsError

        with self._telling():
            try:
                await (self._put_whole(video) if video.bytes <= SINGLE else self._put_in_parts(video))
            except AlreadyExistsError as error:
                # Perhaps our own: a request that went through although its reply was lost is repeated below us.
                if not await self._is_same(video):
                    raise DownloadError(f"{self.url} exists already and is another object") from error
            await self._check(video)
        await asyncio.to_thread(video.path.unlink, missing_ok=True)
        return evolve(video, url=self.url)

    async def _put_whole(self, video: SavedVideo) -> None:
        import obstore

        content = await asyncio.to_thread(_content, video)
        await obstore.put_async(
            self.shelf._store, self.name, content, attributes=_attributes(video), mode="create", use_multipart=False
        )

    async def _put_in_parts(self, video: SavedVideo) -> None:
        import obstore

        store = self.shelf._store
        # Another attempt, in a later run too, replaces it.
        beside = f"{_UPLOADS}{_mark(f'{video.task_id} {self.name}'):016x}.part"
        await _Upload(video).run(store, beside)
        try:
            await obstore.copy_async(store, beside, self.name, overwrite=False)
        finally:
            with contextlib.suppress(obstore.exceptions.BaseError, OSError):
                await obstore.delete_async(store, beside)

    async def _check(self, video: SavedVideo) -> None:
        held = await self._held()
        size = None if held is None else held.meta["size"]
        if size != video.bytes:
            raise UploadError(f"{self.url} has {size} bytes instead of {video.bytes}")

    async def _is_same(self, video: SavedVideo) -> bool:
        held = await self._held()
        if held is None or held.meta["size"] != video.bytes:
            return False
        told = held.attributes.get(_SHA256)
        return (told or await self._sha256()) == video.sha256

    async def _sha256(self) -> str:
        """By its content: the copy that ends a large upload to S3 takes no metadata along."""
        import obstore

        found, digest = await obstore.get_async(self.shelf._store, self.name), hashlib.sha256()
        async for chunk in found.stream(min_chunk_size=_READ):
            await asyncio.to_thread(digest.update, chunk)
        return digest.hexdigest()

    async def _held(self) -> Any:
        import obstore

        try:
            return await obstore.get_async(self.shelf._store, self.name, options={"head": True})
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Errors of the library and its like become ours."""
        from obstore import exceptions

        try:
            yield
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, OSError, ValueError) as error:
            raise DownloadError(f"{self.url} can't be written: {_words(error)}", path=self.url) from error
        except exceptions.BaseError as error:
            raise UploadError(f"{self.url}: {_words(error)}", path=self.url) from error


class _Upload:
    """A video on its way in parts.

    The parts that came stay at the store, unseen and paid for by the month, where an upload is just dropped. So one
    that is cancelled is told so by its own content breaking off: then the library aborts it at the store.
    """

    def __init__(self, video: SavedVideo) -> None:
        self._video = video
        self._broken = False

    async def run(self, store: ObjectStore, name: str) -> None:
        import obstore

        async def upload() -> None:
            await obstore.put_async(
                store, name, self._content(), attributes=_attributes(self._video),
                use_multipart=True, chunk_size=PART, max_concurrency=PARTS_AT_ONCE,
            )  # fmt: skip

        task = asyncio.ensure_future(upload())
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            self._broken = True
            await asyncio.wait({task}, timeout=_RETRY_SECONDS.total_seconds())
            task.cancel()
            if task.done() and not task.cancelled():
                task.exception()  # it is the cancellation's own
            raise

    async def _content(self) -> AsyncIterator[bytes]:
        digest = hashlib.sha256()
        with await asyncio.to_thread(self._video.path.open, "rb") as file:
            while piece := await asyncio.to_thread(_read_on, file, digest):
                if self._broken:
                    raise OSError("the upload was cancelled")
                yield piece
        if self._broken or digest.hexdigest() != self._video.sha256:
            raise OSError(f"{self._video.path} has changed")


def _read_on(file: Any, digest: Any) -> bytes:
    piece: bytes = file.read(_READ)
    digest.update(piece)
    return piece


def _content(video: SavedVideo) -> bytes:
    content = video.path.read_bytes()
    if hashlib.sha256(content).hexdigest() != video.sha256:
        raise OSError(f"{video.path} has changed")
    return content


def _attributes(video: SavedVideo) -> dict[str, str]:
    return {"Content-Type": "video/mp4", _TASK: _as_metadata(video.task_id), _SHA256: video.sha256}


def _as_metadata(text: str) -> str:
    """Metadata travels in headers: printable ASCII, as the provider's ids are anyway."""
    if text.isascii() and text.isprintable() and len(text) <= 200:
        return text
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _words(error: BaseException) -> str:
    """What the library says, without its debugging picture; some of it is the store's own text."""
    return clean_text(str(error).partition("\n\nDebug source")[0], 300)


@functools.cache
def _memory(_url: str) -> ObjectStore:
    from obstore.store import MemoryStore

    return MemoryStore()


def _connected(url: str) -> ObjectStore:
    from obstore import exceptions
    from obstore.store import from_url

    plain = any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)
    client: ClientConfig = {"connect_timeout": "15s", "timeout": "300s", "default_content_type": "video/mp4"}
    if plain:
        client["allow_http"] = True
    retries: RetryConfig = {"max_retries": _RETRIES, "retry_timeout": _RETRY_SECONDS}
    try:
        if not url.startswith("s3"):
            return from_url(url, client_options=client, retry_config=retries)
        # What arrives is checked against this by the store; the others have ways of their own.
        config: S3Config = {"checksum_algorithm": "SHA256", "copy_if_not_exists": "multipart"}
        return from_url(url, config=config, client_options=client, retry_config=retries)
    except (exceptions.BaseError, ValueError, TypeError) as error:
        raise ConfigError(f"{url} can't be used: {_words(error)}", "to") from error
