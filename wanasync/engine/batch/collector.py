"""Bringing finished videos home, and watching over their links."""

from __future__ import annotations

import asyncio
import errno
import logging

from wanasync.edges.download import Existing
from wanasync.edges.retrying import full_jitter
from wanasync.engine.batch.run import Run, paid_task
from wanasync.engine.saver import Saver, is_passing
from wanasync.errors import LinkExpiredError, WanError
from wanasync.models import Outcome, SavedVideo, TaskSnapshot, TaskStatus
from wanasync.rules.deadlines import Deadlines
from wanasync.rules.lifecycle import ItemEvent
from wanasync.rules.outcomes import outcome
from wanasync.rules.records import ItemRecord

__all__ = ["Collector"]

logger: logging.Logger = logging.getLogger("wanasync.batch")

RESAVE_BASE, RESAVE_CAP = 30.0, 600.0
"""Seconds between two rounds of a download's attempts."""
LONGEST_NAP = 300.0
"""Deadlines are by the wall's clock, which may be set while a nap is by the loop's."""


class Collector:
    """Keeps the deadlines of videos that wait to be saved."""

    def __init__(self, run: Run, saver: Saver) -> None:
        self._run = run
        self._saver = saver
        self._deadlines = Deadlines()

    async def save(self, record: ItemRecord) -> None:
        """Have the video of a finished task saved, and tell what came of it."""
        run = self._run
        run.tally.saving += 1
        now = run.clock()
        self._deadlines.add(record.key, record.link_deadline or now, now)
        run.poke()
        try:
            told = await self._saved(record)
        finally:
            run.tally.saving -= 1
            self._deadlines.remove(record.key)
        run.tell(told, record)

    async def _saved(self, record: ItemRecord) -> Outcome:
        """Fetch the video; while the network is at fault and the link alive, again and again."""
        run = self._run
        waits = full_jitter(RESAVE_BASE, RESAVE_CAP)
        while True:
            try:
                video = await self._fetched(record)
            except WanError as error:
                if not is_passing(error) or run.clock() >= (record.link_deadline or 0.0):
                    return await self._not_saved(record, error)
                logger.warning("task %s: %s; trying again later", record.task_id, error)
                await asyncio.sleep(next(waits))
                continue
            record = await run.journal.record(record.key, ItemEvent.SAVED, bytes=video.bytes, sha256=video.sha256)
            return outcome(record, run.directory, video=video)

    async def _fetched(self, record: ItemRecord) -> SavedVideo:
        run = self._run
        made = TaskSnapshot(
            paid_task(record), TaskStatus.COMPLETED, links=record.links, credits_used=record.credits_used
        )
        deadline = record.link_deadline or run.clock()
        # The journal gave this name to this item alone: a whole video under it is the one that a run saved which was
        # killed before it could write that down.
        target, slot = run.directory / record.file, run.outlet.slot(record)
        return await self._saver.save(made, target, deadline=deadline, existing=Existing.ADOPT, slot=slot)

    async def _not_saved(self, record: ItemRecord, error: WanError) -> Outcome:
        """A link found dead before its time may be a host's passing mood: the next run asks again."""
        run = self._run
        if isinstance(error, LinkExpiredError) and run.clock() >= (record.link_deadline or 0.0):
            record = await run.journal.record(record.key, ItemEvent.EXPIRED, error_message=error.message)
        if is_disk_full(error):
            run.stop("the disk is full", error)
        return outcome(record, run.directory, error=error)

    async def watch_links(self) -> None:
        """Warn of links that will die soon with their videos still waiting: the disk or the line is too slow."""
        run = self._run
        while True:
            await run.until(lambda: self._deadlines.next_at() is not None)
            for near in self._deadlines.crossed(run.clock()):
                logger.warning(
                    "%d finished videos are not saved, and their links die within %g h", near.count, near.left / 3600
                )
                run.teller.links_expiring(near)
            nearest = self._deadlines.next_at()
            if nearest is not None:
                await asyncio.sleep(min(max(nearest - run.clock(), 0.0), LONGEST_NAP))


def is_disk_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False
