"""What goes wrong next: the emulator's faults in the words of a test."""

from __future__ import annotations

from wanasync.emulator import Emulator

__all__ = ["Faults"]


class Faults:
    """Faults for the next requests to an emulator, in the order in which they are asked for; then all is well again.

    Submissions, polls, downloads and tasks have a line of their own each. `times` is how many requests in a row.
    `script` takes any fault there is, see `wanasync.emulator.FAULTS`; rates are `emulator.trouble`'s business.
    """

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def script(self, lane: str, *faults: str) -> None:
        """`script("submit", "ok", "lost_reply")`: the next submission goes well, the reply of the one after is lost.

        Lanes are submit, query, batch, list, credits, download, task and callback. Raises ValueError for a fault that
        the lane doesn't have.
        """
        self._emulator.script_next(lane, *faults)

    # Submissions

    def throttle_submission(self, seconds: float = 5.0, *, times: int = 1) -> None:
        """Refused with a 429 that asks to wait for `seconds`: sent again later, paid once."""
        self.script("submit", *[f"throttled={seconds:g}"] * times)

    def lose_submission_reply(self, *, times: int = 1) -> None:
        """Accepted and paid for, and the reply lost: `SubmissionUnknownError`."""
        self.script("submit", *["lost_reply"] * times)

    def fail_submission(self, status: int = 500, *, times: int = 1) -> None:
        """Answered with an HTTP status and not paid for; which nobody can know of a 5xx."""
        self.script("submit", *[f"http_{status}"] * times)

    # Polls

    def fail_poll(self, status: int = 502, *, times: int = 1) -> None:
        """Looks at tasks fail, of one or many; the task itself is well."""
        for lane in ("query", "batch"):
            self.script(lane, *[f"http_{status}"] * times)

    # Tasks: the next ones that are accepted

    def fail_task(self, code: str = "service_error", *, times: int = 1) -> None:
        """Ends without a video, with the provider's error `code`: `TaskFailedError`."""
        self.script("task", *[f"failed={code}"] * times)

    def never_finish_task(self, *, times: int = 1) -> None:
        """Goes on for ever: what your timeouts are for."""
        self.script("task", *["stuck"] * times)

    # Downloads

    def cut_download(self, after: int = 100, *, times: int = 1) -> None:
        """The connection breaks after so many bytes; saving goes on from there."""
        self.script("download", *[f"cut={after}"] * times)

    def expire_link(self, *, times: int = 1) -> None:
        """The link is dead; a fresh one is asked for."""
        self.script("download", *["expired"] * times)

    def fail_download(self, status: int = 500, *, times: int = 1) -> None:
        """The video host answers with an HTTP status."""
        self.script("download", *[f"http_{status}"] * times)

    # Callbacks

    def lose_callback(self, *, times: int = 1) -> None:
        """A delivery never arrives; polling finds the end of its task."""
        self.script("callback", *["lost"] * times)
