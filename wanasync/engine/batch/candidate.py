"""An item on its way to the gate, and how its submission is written down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_never

from attrs import Factory, define, field

from wanasync.edges.journal.contract import BatchJournal
from wanasync.engine.batch.run import STOPS_THE_LANE
from wanasync.engine.submitter import NeverSent, SubmitResult
from wanasync.models import VideoRequest
from wanasync.rules.lifecycle import ItemEvent
from wanasync.rules.records import ItemRecord
from wanasync.rules.replies import Accepted, Refused, Throttled, Unknown

__all__ = ["Candidate", "JournalLog"]


@define(eq=False)
class Candidate:
    """An item on its way to the gate; `record` is its row as it stands."""

    record: ItemRecord
    request: VideoRequest = field(default=Factory(lambda self: self.record.request, takes_self=True))
    lost_replies: int = 0
    is_held: bool = False
    """Its price is held against the budget."""
    is_told: bool = False
    """Listeners were told that it begins."""
    waited: float = 0.0
    """Seconds at the gate, the last time."""
    first_sent: float | None = None
    """When its submission went out first, by its row or in this run: it is to be the same whenever it is sent again."""


@define
class JournalLog:
    """Writes an item's submission down around its POST; `record` is the row as it stands, `result` what came of it."""

    _journal: BatchJournal
    record: ItemRecord
    _clock: Callable[[], float]
    result: SubmitResult | None = None

    async def intent(self) -> None:
        self.record = await self._journal.claim(self.record, submitted_at=self._clock())

    async def answered(self, result: SubmitResult) -> None:
        self.result = result
        event, changes = journal_event(result)
        self.record = await self._journal.record(self.record.key, event, **changes)


def journal_event(result: SubmitResult) -> tuple[ItemEvent, dict[str, Any]]:
    """What a submission's result means for its item's row."""
    match result:
        case Accepted(snapshot=snapshot):
            return ItemEvent.ACCEPTED, {
                "task_id": snapshot.id,
                "credits_reserved": snapshot.credits_reserved,
                "estimated_time": snapshot.estimated_time,
            }
        case Throttled() | NeverSent():
            return ItemEvent.NOT_TAKEN, {}
        case Refused(error=error) if isinstance(error, STOPS_THE_LANE):
            return ItemEvent.NOT_TAKEN, {}
        case Refused(error=error):
            return ItemEvent.REFUSED, {"error_code": str(error.code or error.status), "error_message": error.message}
        case Unknown(reason=reason):
            return ItemEvent.REPLY_LOST, {"error_message": reason}
        case _:
            assert_never(result)
