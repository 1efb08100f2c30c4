"""The provider's side of the API without HTTP: what it accepts, what it answers, what it charges. Synchronous."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from email.utils import formatdate
from random import Random
from typing import Any

from attrs import define, field, frozen

from wanasync.emulator.bodies import list_item, submission_body, task_body
from wanasync.emulator.limiters import Hint, Limiter
from wanasync.emulator.links import Links
from wanasync.emulator.refusals import Refusal
from wanasync.emulator.settings import Settings
from wanasync.emulator.tasks import Task, TaskBook
from wanasync.emulator.timing import estimate
from wanasync.emulator.trouble import Dice, Fault
from wanasync.emulator.validation import IDEMPOTENCY_KEY, Wish, parse_json, read_submission

__all__ = ["Answer", "Provider"]

BATCH_LIMIT = 50
PAGE_LIMIT = 100
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


@frozen
class Answer:
    """A reply of the API: HTTP status, JSON, headers beyond the usual; the task it is about, for the ledger."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = {}
    task_id: str | None = None


@define
class _Claim:
    """An idempotency key and what it was used for. `task_id` is None while the submission is still running."""

    digest: bytes
    task_id: str | None = None


@define(eq=False)
class Provider:
    """Holds the tasks of one emulator. `now` is its clock in unix seconds; refusals are raised as `Refusal`.

    `on_task` is called with each new task.
    """

    settings: Settings
    book: TaskBook
    dice: Dice
    rng: Random
    links: Links
    now: Callable[[], float]
    link_base: Callable[[], str]
    on_task: Callable[[Task], None]
    _claims: dict[str, _Claim] = field(factory=dict, init=False)

    # --- submitting

    def check(self, raw: bytes) -> tuple[Mapping[str, Any], Wish]:
        """Validate a submission; the request as sent, and what it means."""
        body = parse_json(raw)
        settings = self.settings
        wish = read_submission(body, models=settings.models, local_callbacks=settings.local_callbacks)
        if wish.model in settings.no_access:
            raise Refusal("no_access", param="model")
        return body, wish

    def claim(self, key: str | None, request: Mapping[str, Any]) -> Answer | None:
        """Take an idempotency key; the first task's answer where it was used before for the same request.

        Raises `Refusal` where it was used for another request, or the first use is still running. A key that was taken
        is given back with `unclaim` unless `submit` succeeds: a refusal leaves it free.
        """
        if key is None or not self.settings.idempotency:
            return None
        if not IDEMPOTENCY_KEY.fullmatch(key):
            raise Refusal("bad_request", "Invalid idempotency key", "Idempotency-Key")
        digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).digest()
        claim = self._claims.get(key)
        if claim is None:
            self._claims[key] = _Claim(digest)
            return None
        if claim.digest != digest:
            raise Refusal("idempotency_conflict")
        if claim.task_id is None:
            raise Refusal("paid_outcome_unknown")
        return self._replay(self.find(claim.task_id))

    def unclaim(self, key: str | None) -> None:
        """Give back a key whose submission came to nothing."""
        if key is not None:
            self._claims.pop(key, None)

    def submit(self, request: Mapping[str, Any], wish: Wish, key: str | None) -> Answer:
        """Accept a checked submission and reserve its credits, or raise `Refusal` (402, 429)."""
        price = self.settings.prices[wish.quality] * wish.seconds
        if self.credit_left < price:
            raise Refusal("no_credit")
        self.admit(self.settings.limiter, counts=self.settings.refused_counts)
        task = self._task(request, wish, key, price)
        self.book.add(task)
        if key is not None and key in self._claims:
            self._claims[key].task_id = task.id
        self.on_task(task)
        return Answer(200, self._submission(task), task_id=task.id)

    def admit(self, limiter: Limiter | None, *, counts: bool = False) -> None:
        """Pass a limiter or raise the 429."""
        if limiter is None:
            return
        now = self.now()
        wait = limiter.wait(now, self.book)
        if wait <= 0 or counts:
            limiter.take(now)
        if wait > 0:
            raise throttled(self.settings.hint, wait, now)

    def _task(self, request: Mapping[str, Any], wish: Wish, key: str | None, price: float) -> Task:
        now = self.now()
        takes = max(0.0, self.settings.durations(self.rng))
        quirks = self.dice.draw_all("task")
        outcome, failure = _fate(quirks)
        stuck = any(quirk.name == "stuck" for quirk in quirks)
        end = math.inf if stuck else now + takes
        return Task(
            id=f"task-unified-{int(now)}-{''.join(self.rng.choices(_ALPHABET, k=8))}",
            wish=wish,
            request=request,
            idempotency_key=key,
            created=now,
            starts=now + min(self.settings.queue_time, takes / 10),
            planned_end=now + takes,
            credits=price,
            outcome=outcome,
            failure=failure,
            quirks=quirks,
            # A real video's end is known once it is rendered.
            ends=None if self.settings.videos == "real" and outcome == "completed" and not stuck else end,
        )

    # --- asking

    def query(self, task_id: str) -> Answer:
        self.admit(self.settings.poll_limiter)
        if not task_id.startswith("task-unified-"):
            raise Refusal("bad_task_id", param="task_id")
        return Answer(200, self.describe(self.find(task_id)), task_id=task_id)

    def batch(self, raw: bytes) -> Answer:
        """Many tasks at once; unknown ids are left out."""
        self.admit(self.settings.poll_limiter)
        body = parse_json(raw)
        ids = body.get("task_ids") if isinstance(body, dict) else None
        if not isinstance(ids, list) or not all(isinstance(task_id, str) for task_id in ids):
            raise Refusal("bad_request", "task_ids must be a list of strings", "task_ids")
        if not 0 < len(ids) <= BATCH_LIMIT:
            raise Refusal("bad_request", f"task_ids must hold 1 to {BATCH_LIMIT} ids", "task_ids")
        known = (task for task_id in dict.fromkeys(ids) if (task := self.known(task_id)) is not None)
        return Answer(200, {"data": [self.describe(task) for task in known]})

    def tasks(self, query: Mapping[str, str]) -> Answer:
        """Recent tasks, newest first, a page at a time."""
        page, size = _whole(query, "page", 1), min(_whole(query, "page_size", 20), PAGE_LIMIT)
        now, curve = self.now(), self.settings.progress
        wanted = [task for task in self.book.newest_first() if _matches(task, query, now)]
        found = wanted if self.settings.tasks_expire is None else [task for task in wanted if self._lives(task, now)]
        shown = found[(page - 1) * size : page * size]
        data = [list_item(task, now, curve) for task in shown]
        return Answer(200, {"data": data, "total": len(found), "page": page, "page_size": size})

    def credits(self) -> Answer:
        self.book.settle(self.now())
        used = self.book.credits_used
        user = {"remaining_credits": self.credit_left, "used_credits": used}
        data = {"token": user | {"unlimited_credits": False}, "user": user}
        return Answer(200, {"data": data, "message": "", "success": True})

    @property
    def credit_left(self) -> float:
        """Credits that are neither used nor reserved."""
        self.book.settle(self.now())
        return self.settings.credit - self.book.credits_used - self.book.credits_reserved

    # --- tasks

    def find(self, task_id: str) -> Task:
        task = self.known(task_id)
        if task is None:
            raise Refusal("no_task", param="task_id")
        return task

    def known(self, task_id: str) -> Task | None:
        task = self.book.get(task_id)
        return task if task is not None and self._lives(task, self.now()) else None

    def describe(self, task: Task) -> dict[str, Any]:
        """The body of a query of this task, now."""
        return task_body(task, self.now(), self.settings.progress, self.link(task))

    def link(self, task: Task) -> str:
        """Where its video is, for as long as the settings say."""
        now = self.now()
        made = now if self.settings.fresh_links or task.ends is None or not task.ended(now) else task.ends
        return self.link_base() + self.links.path(task.id, made + self.settings.link_lifetime)

    def _lives(self, task: Task, now: float) -> bool:
        return self.settings.tasks_expire is None or now - task.created < self.settings.tasks_expire

    def _replay(self, task: Task) -> Answer:
        return Answer(200, self._submission(task), {"idempotency-replayed": "true"}, task.id)

    def _submission(self, task: Task) -> dict[str, Any]:
        settings = self.settings
        announced = estimate(settings.durations) if settings.estimated_time is None else settings.estimated_time
        return submission_body(task, self.now(), settings.progress, announced)


def throttled(hint: Hint, wait: float, now: float) -> Refusal:
    """The 429 for a client that has to wait `wait` seconds."""
    seconds = hint.told(wait)
    text = f"retry after {seconds} seconds" if hint.where in ("text", "both") else None
    headers: dict[str, str] = {}
    if hint.where in ("header", "both"):
        headers["Retry-After"] = str(seconds)
    if hint.where == "date":
        headers["Retry-After"] = formatdate(math.ceil(now) + seconds, usegmt=True)
    return Refusal("throttled", suggestion=text, headers=headers)


def _fate(quirks: tuple[Fault, ...]) -> tuple[str, str | None]:
    for quirk in quirks:
        if quirk.name in ("failed", "failed_without_error"):
            return "failed", quirk.word("service_error")
        if quirk.name == "cancelled":
            return "cancelled", "request_cancelled"
    return "completed", None


def _matches(task: Task, query: Mapping[str, str], now: float) -> bool:
    # Asked of tens of thousands of tasks at a time, so the common case comes first.
    if not query:
        return True
    status, model = query.get("status"), query.get("model")
    fits = (status is None or task.status(now) == status) and (model is None or task.wish.model == model)
    return fits and query.get("type", "video") == "video"


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 9 and int(text) > 0):
        raise Refusal("bad_request", f"{name} must be a whole number of at least 1", name)
    return int(text)
