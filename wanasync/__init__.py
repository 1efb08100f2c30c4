"""wanasync: prompts in, videos out; neither a paid task nor a finished video is ever lost.

>>> from wanasync import WanSession
>>> async with WanSession() as wan:  # doctest: +SKIP
...     video = await wan.generate("A cat playing piano", to="cat.mp4")

Names are imported when first used, so that `import wanasync` itself costs next to nothing and command lines can
show their help without loading an HTTP client.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wanasync.config import Config as Config
    from wanasync.edges.lists import RequestList as RequestList
    from wanasync.edges.settings import load_config as load_config
    from wanasync.engine.batch import Batch as Batch
    from wanasync.engine.batch import SharedBatch as SharedBatch
    from wanasync.engine.history import BatchHistory as BatchHistory
    from wanasync.engine.homes import PostgresJournal as PostgresJournal
    from wanasync.engine.loading import LoadedRows as LoadedRows
    from wanasync.engine.loading import SharedList as SharedList
    from wanasync.engine.session import Task as Task
    from wanasync.engine.session import WanSession as WanSession
    from wanasync.engine.shared_gate import SharedLimit as SharedLimit
    from wanasync.errors import APIConnectionError as APIConnectionError
    from wanasync.errors import APIError as APIError
    from wanasync.errors import APITimeoutError as APITimeoutError
    from wanasync.errors import AuthenticationError as AuthenticationError
    from wanasync.errors import BadRequestError as BadRequestError
    from wanasync.errors import BudgetExceededError as BudgetExceededError
    from wanasync.errors import CallbackError as CallbackError
    from wanasync.errors import ConfigError as ConfigError
    from wanasync.errors import DownloadError as DownloadError
    from wanasync.errors import InsufficientCreditError as InsufficientCreditError
    from wanasync.errors import JournalError as JournalError
    from wanasync.errors import LinkExpiredError as LinkExpiredError
    from wanasync.errors import ListError as ListError
    from wanasync.errors import NotFoundError as NotFoundError
    from wanasync.errors import PermissionDeniedError as PermissionDeniedError
    from wanasync.errors import RateLimitError as RateLimitError
    from wanasync.errors import RequestValidationError as RequestValidationError
    from wanasync.errors import ResponseFormatError as ResponseFormatError
    from wanasync.errors import ServerError as ServerError
    from wanasync.errors import SessionError as SessionError
    from wanasync.errors import SubmissionUnknownError as SubmissionUnknownError
    from wanasync.errors import TaskError as TaskError
    from wanasync.errors import TaskFailedError as TaskFailedError
    from wanasync.errors import TaskTimeoutError as TaskTimeoutError
    from wanasync.errors import WanError as WanError
    from wanasync.events import Event as Event
    from wanasync.models import BatchItem as BatchItem
    from wanasync.models import BatchProgress as BatchProgress
    from wanasync.models import BatchStatus as BatchStatus
    from wanasync.models import Credits as Credits
    from wanasync.models import Delivery as Delivery
    from wanasync.models import DownloadStatistics as DownloadStatistics
    from wanasync.models import Forecast as Forecast
    from wanasync.models import GateStatistics as GateStatistics
    from wanasync.models import ItemChanges as ItemChanges
    from wanasync.models import ItemStatus as ItemStatus
    from wanasync.models import Limits as Limits
    from wanasync.models import ListProblem as ListProblem
    from wanasync.models import Outcome as Outcome
    from wanasync.models import OutcomeState as OutcomeState
    from wanasync.models import PaceSample as PaceSample
    from wanasync.models import PollerStatistics as PollerStatistics
    from wanasync.models import SavedVideo as SavedVideo
    from wanasync.models import Statistics as Statistics
    from wanasync.models import TaskFailure as TaskFailure
    from wanasync.models import TaskSnapshot as TaskSnapshot
    from wanasync.models import TaskStatus as TaskStatus
    from wanasync.models import VideoRequest as VideoRequest
    from wanasync.rules.callbacks import CallbackCodec as CallbackCodec
    from wanasync.rules.destination import Destination as Destination
    from wanasync.rules.ledger import Terms as Terms
    from wanasync.rules.templates import NameTemplate as NameTemplate

__version__ = "0.1.0"

_HOMES = {
    "wanasync.config": ("Config",),
    "wanasync.edges.lists": ("RequestList",),
    "wanasync.edges.settings": ("load_config",),
    "wanasync.engine.batch": ("Batch", "SharedBatch"),
    "wanasync.engine.history": ("BatchHistory",),
    "wanasync.engine.homes": ("PostgresJournal",),
    "wanasync.engine.loading": ("LoadedRows", "SharedList"),
    "wanasync.engine.session": ("Task", "WanSession"),
    "wanasync.engine.shared_gate": ("SharedLimit",),
    "wanasync.errors": (
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
    ),
    "wanasync.events": ("Event",),
    "wanasync.models": (
        "BatchItem",
        "BatchProgress",
        "BatchStatus",
        "Forecast",
        "Credits",
        "Delivery",
        "DownloadStatistics",
        "GateStatistics",
        "ItemChanges",
        "ItemStatus",
        "Limits",
        "ListProblem",
        "Outcome",
        "OutcomeState",
        "PaceSample",
        "PollerStatistics",
        "SavedVideo",
        "Statistics",
        "TaskFailure",
        "TaskSnapshot",
        "TaskStatus",
        "VideoRequest",
    ),
    "wanasync.rules.callbacks": ("CallbackCodec",),
    "wanasync.rules.destination": ("Destination",),
    "wanasync.rules.ledger": ("Terms",),
    "wanasync.rules.templates": ("NameTemplate",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted([*_HOME_OF, "__version__"])


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
