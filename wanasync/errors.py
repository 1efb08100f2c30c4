"""Every error that wanasync raises.

    WanError
    ├── ConfigError                      a setting is missing or makes no sense
    ├── ListError                        a list of requests can't be read, or has bad lines
    ├── RequestValidationError           a request breaks a rule of its model (also a ValueError)
    ├── APIConnectionError               the provider was not reached; nothing was sent
    │   └── APITimeoutError              … because it took too long
    ├── APIError                         the provider answered with an error
    │   ├── BadRequestError              400, 404 for a model, 413, 422
    │   ├── AuthenticationError          401
    │   ├── InsufficientCreditError      402
    │   ├── PermissionDeniedError        403
    │   ├── NotFoundError                404, 410
    │   ├── RateLimitError               429
    │   └── ServerError                  5xx
    ├── ResponseFormatError              a reply that can't be understood
    ├── SubmissionUnknownError           sent, but the reply was lost: may be billed
    ├── TaskError                        about one task; carries its id
    │   ├── TaskFailedError              the provider could not make the video
    │   ├── TaskTimeoutError             we stopped waiting; the task goes on (also a TimeoutError)
    │   └── LinkExpiredError             the video was made, its link died and can't be renewed
    ├── DownloadError                    the video could not be fetched or written; its link is kept
    ├── BudgetExceededError              the next submission could pass the budget
    ├── SessionError                     a session used before it is opened, after it is closed or from another loop
    ├── JournalError                     the journal can't be opened, read or written
    └── CallbackError                    a callback delivery was refused

Each is a plain attrs class with positional fields, so that it pickles and crosses process borders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from wanasync.models import ListProblem, TaskFailure, TaskSnapshot

__all__ = [
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "BudgetExceededError",
    "CallbackError",
    "ConfigError",
    "DownloadError",
    "InsufficientCreditError",
    "JournalError",
    "LinkExpiredError",
    "ListError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "RequestValidationError",
    "ResponseFormatError",
    "ServerError",
    "SessionError",
    "SubmissionUnknownError",
    "TaskError",
    "TaskFailedError",
    "TaskTimeoutError",
    "WanError",
]


def _unsigned(link: str | None) -> str:
    """How a link is shown where an error is logged by its repr: who has the query may fetch the video."""
    return repr(link and link.partition("?")[0])


class WanError(Exception):
    """Base of all errors of wanasync. `str()` is one sentence fit for a user."""


def _shown(value: object) -> str:
    try:
        return repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, an object nested without end
        return f"<{type(value).__name__}>"


@define(eq=False, slots=False)
class ConfigError(WanError):
    """A setting is missing, malformed or contradicts another one.

    `message` says how to mend it; `setting` names it as the user would write it.
    """

    message: str
    setting: str | None = None

    def __str__(self) -> str:
        return self.message


@define(eq=False, slots=False)
class ListError(WanError):
    """A list of requests can't be read, or some of its lines are no requests. Nothing was sent.

    `problems` are the first of the bad lines' problems, `count` is how many there are in all.
    """

    message: str
    problems: tuple[ListProblem, ...] = ()
    count: int = 0

    def __str__(self) -> str:
        return self.message


@define(eq=False, slots=False)
class RequestValidationError(WanError, ValueError):
    """A request breaks a rule of its model's document. Raised before anything is sent.

    `field` is the request's field, `value` what was given, `reason` the rule, `allowed` the values that would
    have passed (empty where they can't be listed).
    """

    field: str
    value: object
    reason: str
    allowed: tuple[object, ...] = ()

    def __str__(self) -> str:
        shown = _shown(self.value)
        if len(shown) > 80:
            shown = f"{shown[:77]}..."
        sentence = f"{self.field}={shown}: {self.reason}"
        if self.allowed:
            sentence += f" (allowed: {', '.join(str(value) for value in self.allowed)})"
        return sentence


@define(eq=False, slots=False)
class APIConnectionError(WanError):
    """The provider was not reached, or the connection broke on a call that is safe to repeat.

    For a submission it means that nothing was sent: no money can have been spent.
    """

    message: str

    def __str__(self) -> str:
        return self.message


@define(eq=False, slots=False)
class APITimeoutError(APIConnectionError):
    """Connecting, or the next bytes of a reply, took longer than configured."""


@define(eq=False, slots=False)
class APIError(WanError):
    """The provider answered with an error.

    `status` is the HTTP status; `code` the provider's own code, an integer in one generation of its API and a
    word in the other; `type`, `param` and `suggestion` as sent; `retry_after` the wait it asked for in seconds,
    from a header or from its text; `body` the start of the body, cleaned of control characters and keys.
    """

    message: str
    status: int
    code: str | int | None = None
    type: str | None = None
    param: str | None = None
    suggestion: str | None = None
    request_id: str | None = None
    retry_after: float | None = None
    body: str = ""

    def __str__(self) -> str:
        code = f", {self.code}" if self.code not in (None, self.status) else ""
        sentence = f"{self.message} (HTTP {self.status}{code})"
        if self.param:
            sentence += f" [{self.param}]"
        if self.suggestion:
            sentence += f": {self.suggestion}"
        return sentence


@define(eq=False, slots=False)
class BadRequestError(APIError):
    """400, 413, 422, and 404 where it speaks of the request: this request can never pass as it is."""


@define(eq=False, slots=False)
class AuthenticationError(APIError):
    """401: the API key is missing, wrong or expired."""


@define(eq=False, slots=False)
class InsufficientCreditError(APIError):
    """402: the account has no credit left."""


@define(eq=False, slots=False)
class PermissionDeniedError(APIError):
    """403: the key may not use this model or see this task."""


@define(eq=False, slots=False)
class NotFoundError(APIError):
    """404 or 410: no such model, task or endpoint, or no longer."""


@define(eq=False, slots=False)
class RateLimitError(APIError):
    """429: too many requests, or too many tasks at once."""


@define(eq=False, slots=False)
class ServerError(APIError):
    """500–599. On a submission the outcome is unknown, see `SubmissionUnknownError`."""


@define(eq=False, slots=False)
class ResponseFormatError(WanError):
    """A reply that can't be understood: not JSON, cut short, too large or of the wrong types.

    `reason` names the place (`$.progress: …`); `body` is the start of what was received, cleaned.
    """

    reason: str
    status: int | None = None
    body: str = ""

    def __str__(self) -> str:
        of = f" of HTTP {self.status}" if self.status is not None else ""
        return f"the reply{of} can't be understood: {self.reason}"


@define(eq=False, slots=False)
class SubmissionUnknownError(WanError):
    """A submission was sent and its reply was lost: the task may exist and be billed.

    It is never sent again by itself. `idempotency_key` went with the submission: a host that honours it answers
    a repetition with the first task. `reason` says what happened to the reply. `candidates` are tasks in the
    provider's list that it may have made, among which can't be told.
    """

    reason: str
    idempotency_key: str
    status: int | None = None
    body: str = ""
    candidates: tuple[str, ...] = ()

    def __str__(self) -> str:
        sentence = (
            f"the submission was sent, but what became of it is unknown ({self.reason}); it may be billed, "
            f"so it was not sent again (idempotency key {self.idempotency_key})"
        )
        if self.candidates:
            sentence += f"; tasks of that time in the provider's list: {', '.join(self.candidates)}"
        return sentence


@define(eq=False, slots=False)
class TaskError(WanError):
    """Something about one task. `task_id` is what `WanSession.attach` takes to go on with it."""

    message: str
    task_id: str

    def __str__(self) -> str:
        return f"task {self.task_id}: {self.message}"


@define(eq=False, slots=False)
class TaskFailedError(TaskError):
    """The task ended without a video. Failed tasks are not charged; trying again is a new, paid task."""

    failure: TaskFailure | None = None


@define(eq=False, slots=False)
class TaskTimeoutError(TaskError, TimeoutError):
    """We stopped waiting; the task goes on at the provider. `snapshot` is the last that was seen of it."""

    snapshot: TaskSnapshot | None = None


@define(eq=False, slots=False)
class LinkExpiredError(TaskError):
    """The video's link is dead and a fresh query gave no living one."""

    link: str | None = field(default=None, repr=_unsigned)


@define(eq=False, slots=False)
class DownloadError(WanError):
    """A finished video could not be fetched or written. Nothing stands under `path`; `link` still holds it."""

    message: str
    task_id: str | None = None
    link: str | None = field(default=None, repr=_unsigned)
    path: str | None = None

    def __str__(self) -> str:
        return self.message


@define(eq=False, slots=False)
class BudgetExceededError(WanError):
    """The next submission could pass the budget. All figures are credits."""

    budget: float
    reserved: float
    needed: float

    def __str__(self) -> str:
        needs = f"needs about {self.needed:g} credits" if self.needed else "costs an unknown amount"
        return f"the next submission {needs}; {self.reserved:g} of the budget of {self.budget:g} are spent or reserved"


@define(eq=False, slots=False)
class JournalError(WanError):
    """The journal of a batch can't be opened, read or written. `path` is where it lives."""

    message: str
    path: str | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


@define(eq=False, slots=False)
class SessionError(WanError):
    """A session was used before it was opened, after it was closed, or from another event loop than its own."""

    message: str

    def __str__(self) -> str:
        return self.message


@define(eq=False, slots=False)
class CallbackError(WanError):
    """A callback delivery was refused: not ours, too late, too large or unreadable."""

    message: str

    def __str__(self) -> str:
        return self.message
