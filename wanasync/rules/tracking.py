"""What a series of looks at one task amounts to.

Looks come from polls, batch polls and callbacks, in any order and more than once. The track tells which of them are
news, when the task is over, and when one that is paid for must be given up.
"""

from __future__ import annotations

from attrs import define, field, frozen

from wanasync.errors import TaskError, TaskFailedError, WanError
from wanasync.models import TaskSnapshot

__all__ = ["LOST_AFTER_LOOKS", "LOST_AFTER_SECONDS", "Look", "TaskTrack"]

LOST_AFTER_LOOKS = 3
LOST_AFTER_SECONDS = 600.0
"""A task is lost when it was not found this often in a row over at least this long: a fresh task may be unknown to a
replica for a while, and a gateway answers 404 for a moment when it is deployed."""


@frozen
class Look:
    """What one look brought.

    `news` is what the listener is to be told: a snapshot that differs from the last one told, or the error that ends
    the following; None for nothing new. After a `final` look nothing more will come.
    """

    news: TaskSnapshot | WanError | None = None
    final: bool = False


_NOTHING_NEW = Look()
_OVER = Look(final=True)


@define(eq=False, weakref_slot=False)
class TaskTrack:
    """The state of following one task. Small, since tens of thousands are followed at once: it keeps no snapshot.

    `since` is when the task can have completed at the earliest before the first look, in unix seconds: its submission,
    where that is known.
    """

    task_id: str
    since: float | None = None
    is_final: bool = field(default=False, init=False)
    _told: int | None = field(default=None, init=False)
    _completed_at: float | None = field(default=None, init=False)
    _missing: tuple[int, float] | None = field(default=None, init=False)
    """How often in a row it was not found, and since when."""

    def look(self, snapshot: TaskSnapshot, now: float, results_grace: float) -> Look:
        """Take in a look at the task; `now` is when it was asked for, or when a callback came, in unix seconds.

        `results_grace` is how many seconds a completed task may go without links.

        What comes after a final look is ignored. The snapshot's own id is not compared: whoever asked knows which
        task was meant, and a host that answers with its upstream's id must not cost the video.
        """
        if self.is_final:
            return _OVER
        self._missing = None
        if snapshot.status.is_final:
            return self._look_at_end(snapshot, now, results_grace)
        return self._look_on_the_way(snapshot, now)

    def missing(self, now: float) -> Look:
        """Take in that the provider does not know the task (404, 410). Other errors of a look say nothing about it."""
        if self.is_final:
            return _OVER
        times, since = self._missing or (0, now)
        self._missing = times + 1, since
        if times + 1 < LOST_AFTER_LOOKS or now - since < LOST_AFTER_SECONDS:
            return _NOTHING_NEW
        minutes = (now - since) / 60
        return self._give_up(
            TaskError(
                f"the provider does not know it (not found {times + 1} times over {minutes:.0f} minutes)",
                self.task_id,
            )
        )

    def link_deadline(self, snapshot: TaskSnapshot, now: float, link_lifetime: float) -> float:
        """When the links may die at the earliest, in unix seconds.

        Links live from generation, and all that is known of that is that it came after the last look that found the
        task unfinished. `created` is by the provider's clock, so it serves only where nothing of our own is known.
        """
        earliest = self.since if self.since is not None else snapshot.created
        return (now if earliest is None else min(earliest, now)) + link_lifetime

    def _look_on_the_way(self, snapshot: TaskSnapshot, now: float) -> Look:
        if self._completed_at is not None and now <= self._completed_at:
            # An older look, overtaken by the one that found the task completed.
            return _NOTHING_NEW
        self._completed_at = None
        if self.since is None or now > self.since:
            self.since = now
        # A hash instead of what it is made of: links and spellings of 50,000 tasks would be kept otherwise. Should
        # two ever collide, one change in between goes untold; the final look is told regardless.
        seen = hash((snapshot.status, snapshot.said_status, snapshot.progress, snapshot.links))
        if seen == self._told:
            return _NOTHING_NEW
        self._told = seen
        return Look(snapshot)

    def _look_at_end(self, snapshot: TaskSnapshot, now: float, results_grace: float) -> Look:
        if snapshot.is_final:
            self.is_final = True
            return Look(snapshot, final=True)
        # Completed without links: on one host they came some seconds later. Listeners are not told until then, since
        # to them a completed task is one that can be saved.
        if self._completed_at is None:
            self._completed_at = now
        if now - self._completed_at < results_grace:
            return _NOTHING_NEW
        return self._give_up(
            TaskFailedError(
                f"completed without results: no link came within {now - self._completed_at:.0f} s", self.task_id
            )
        )

    def _give_up(self, error: TaskError) -> Look:
        self.is_final = True
        return Look(error, final=True)
