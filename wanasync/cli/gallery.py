"""`wanasync report` and `wanasync gallery`: a batch as a page."""

from __future__ import annotations

import asyncio
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define

from wanasync import ConfigError, WanError
from wanasync.cli import exits
from wanasync.cli.interrupts import Interrupts
from wanasync.cli.screen import Screen

if TYPE_CHECKING:
    from wanasync.cli.batches import Target
    from wanasync.gallery import Gallery

__all__ = ["RunGallery", "report", "serve"]


async def report(target: Target, screen: Screen, *, overwrite: bool, open_it: bool) -> int:
    """Write the report and print its path."""
    from wanasync.gallery import write_report

    batch = await target.find()
    async with batch.history() as history:
        if not await asyncio.to_thread(history.directory.is_dir):
            raise ConfigError(f"there is no directory {history.directory} here: --to says where the videos are", "to")
        path = await write_report(history.directory, source=history, shared=batch.shared, overwrite=overwrite)
    screen.result(str(path))
    if open_it:
        await _open(path.resolve().as_uri())
    return exits.DONE


async def serve(target: Target, screen: Screen, interrupts: Interrupts, *, port: int, open_it: bool) -> int:
    """Serve the gallery until it is interrupted, which is its proper end."""
    from wanasync.gallery import Gallery

    batch = await target.find()
    async with (
        batch.history() as history,
        Gallery(history.directory, source=history, shared=batch.shared, port=port) as gallery,
    ):
        screen.result(gallery.url)
        screen.say("The address is for you alone: it opens the videos to whoever has it. Ctrl-C ends it.", "dim")
        if open_it:
            await _open(gallery.url)
        await _until_interrupted(interrupts)
    return exits.DONE


@define
class RunGallery:
    """A run's gallery. That a page can't be served or written is told, and never costs the run anything."""

    directory: Path
    command: str
    screen: Screen
    open_it: bool
    _gallery: Gallery | None = None

    async def begin(self) -> None:
        """Serve it, now that the run has its journal."""
        from wanasync.gallery import Gallery

        gallery = Gallery(self.directory, command=self.command)
        try:
            await gallery.__aenter__()
        except WanError as error:
            self.screen.complain(f"there is no gallery: {error}")
            return
        self._gallery = gallery
        self.screen.say(f"gallery  {gallery.url}")
        if self.open_it:
            await _open(gallery.url)

    async def end(self, interrupts: Interrupts) -> None:
        """Write the report; then stay, for somebody who sits at a terminal and looks at the page, until Ctrl-C."""
        if self._gallery is None:
            return
        try:
            await self._report()
            if not interrupts.asked and self.screen.live and sys.stdin.isatty():
                self.screen.say("the gallery stays open; Ctrl-C ends it", "dim")
                await _until_interrupted(interrupts)
        finally:
            await self._gallery.__aexit__(None, None, None)

    async def _report(self) -> None:
        from wanasync.gallery import write_report

        try:
            path = await write_report(self.directory, command=self.command)
            self.screen.say(f"report   {path}")
        except WanError as error:
            self.screen.complain(f"no report was written: {error}")


async def _until_interrupted(interrupts: Interrupts) -> None:
    ended = asyncio.Event()

    def end() -> bool:
        ended.set()
        return False

    interrupts.on_first = end
    await ended.wait()


async def _open(address: str) -> None:
    # A text browser would take the terminal, and some graphical ones are waited for.
    await asyncio.to_thread(webbrowser.open, address)
