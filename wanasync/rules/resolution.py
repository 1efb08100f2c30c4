"""Finding the tasks of lost submissions: by callback, or in the provider's list of recent tasks.

A callback names its task, under a URL that nobody but the provider was given: that is taken for true unless something
speaks against it, see `objection`.

The list tells when a task was created and for which model, but not its prompt, so a match is a conclusion, and the
money makes it a serious one: a task of another program with the same key, taken for ours, would put the wrong video
under an item's name. So a task is taken for a lost submission's only where everything else is excluded:

- it was created while that submission was on the wire, by the provider's clock, whose distance to ours is measured
  on the tasks that are known to be ours (without any such, nothing is concluded);
- it is the only stranger of its model in that time, and the time is no other lost submission's;
- for `QUIET` seconds around it the list shows no stranger that is not explained in the same way: a key that others use
  too shows some. And the list reaches back that far.

Whatever falls short stays unknown, and the candidates are told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attrs import Factory, frozen

from wanasync.models import TaskSnapshot

__all__ = ["QUIET", "Listed", "Lost", "Resolution", "Unanswered", "objection", "reach", "resolve"]

QUIET = 600.0
"""Seconds before and after, in which a stranger would show that the key is not ours alone."""
TICK = 2.0
"""The provider tells whole seconds; and the calls of two seconds may cross on their way."""
LATE = 10.0
"""A proxy that loses patience leaves the provider at work: for so long after that, the task may still be created."""
GUESS = 60.0
"""How far clocks may be apart where that was not measured; for telling candidates, not for concluding."""


@frozen
class Lost:
    """A submission without a reply: it went out at `sent`, and was given up at `gone` (unix seconds, our clock)."""

    key: str
    model: str
    sent: float
    gone: float


@frozen
class Listed:
    """A task in the provider's list. `created` is by its clock; `submitted_at` is by ours, None for strangers."""

    task_id: str
    model: str | None
    created: float
    is_ours: bool = False
    submitted_at: float | None = None


@frozen
class Resolution:
    """What the list tells: the task of each submission that was found, and the candidates for the others, by key."""

    found: Mapping[str, str] = Factory(dict)
    candidates: Mapping[str, tuple[str, ...]] = Factory(dict)


@frozen
class _Window:
    """When a lost submission's task can have been created, by the provider's clock."""

    lost: Lost
    start: float
    end: float

    def holds(self, task: Listed) -> bool:
        return self.start <= task.created <= self.end

    def suits(self, task: Listed) -> bool:
        return self.holds(task) and task.model in (None, self.lost.model)

    def is_near(self, task: Listed) -> bool:
        return self.start - QUIET <= task.created <= self.end + QUIET


@frozen
class Unanswered:
    """A submission whose task is looked for by callback; what isn't known of it speaks against nothing.

    `sent` is when it went out at the earliest, in unix seconds by our clock.
    """

    key: str
    model: str | None = None
    sent: float | None = None


def objection(unanswered: Unanswered, found: TaskSnapshot, *, is_taken: bool) -> str | None:
    """What speaks against the task that was called back for a submission being its own; None where nothing does.

    Prompts aren't compared: the provider rewrites them, and shows the one or the other.
    """
    if is_taken:
        return "it is another submission's"
    if None not in (unanswered.model, found.model) and unanswered.model != found.model:
        return f"it is a task for {found.model}, not for {unanswered.model}"
    if unanswered.sent is not None and found.created is not None and found.created < unanswered.sent - GUESS:
        return f"it was made {unanswered.sent - found.created:.0f} s before that was sent"
    return None


def reach(lost: Iterable[Lost]) -> float:
    """How far back the list has to be read, in unix seconds; generous, since clocks differ."""
    return min((one.sent for one in lost), default=0.0) - 2 * QUIET


def resolve(lost: Sequence[Lost], listed: Sequence[Listed], *, since: float | None) -> Resolution:
    """Match lost submissions with the list. `since` is how far back the list reaches, None for all there is."""
    measured = _clock_distance(listed)
    low, high = measured or (-GUESS, GUESS)
    windows = [_Window(one, one.sent + low - TICK, one.gone + high + TICK + LATE) for one in lost]
    strangers = [task for task in listed if not task.is_ours]
    suiting = {window.lost.key: [task for task in strangers if window.suits(task)] for window in windows}
    sole = {
        window.lost.key: suiting[window.lost.key][0]
        for window in windows
        if len(suiting[window.lost.key]) == 1 and _is_only_window_of(window, suiting[window.lost.key][0], windows)
    }
    explained = {task.task_id for task in sole.values()}
    found = {
        window.lost.key: sole[window.lost.key].task_id
        for window in windows
        if window.lost.key in sole
        and measured
        and (since is None or since <= window.start - QUIET)
        and all(task.task_id in explained for task in strangers if window.is_near(task))
    }
    told = {key: tuple(task.task_id for task in tasks) for key, tasks in suiting.items() if tasks and key not in found}
    return Resolution(found, told)


def _clock_distance(listed: Sequence[Listed]) -> tuple[float, float] | None:
    """Least and greatest of what the provider's `created` is after our sending, over the tasks that are ours."""
    distances = [task.created - task.submitted_at for task in listed if task.is_ours and task.submitted_at is not None]
    return (min(distances), max(distances)) if distances else None


def _is_only_window_of(window: _Window, task: Listed, windows: Sequence[_Window]) -> bool:
    return not any(other.holds(task) for other in windows if other is not window)
