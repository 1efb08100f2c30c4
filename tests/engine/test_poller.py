from __future__ import annotations

import asyncio
import contextlib
import gc
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from random import Random
from typing import Any

import pytest
from attrs import define, evolve, field
from hypothesis import given, settings
from hypothesis import strategies as st

from wanasync.config import Config
from wanasync.engine.poller import BATCH_REST, BATCH_SIZE, Poller
from wanasync.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ResponseFormatError,
    ServerError,
    SessionError,
    TaskError,
    WanError,
)
from wanasync.models import TaskSnapshot, TaskStatus
from wanasync.rules.polling import PROBES
from wanasync.testing import START, now, run, virtual_time

LINK = "https://example.com/video.mp4"
CONFIG = Config(polls_per_second=100.0)

REFUSED_KEY = AuthenticationError("invalid key", 401)
THROTTLED = RateLimitError("slow down", 429, retry_after=60.0)
NOT_FOUND = NotFoundError("task not found", 404)
FORBIDDEN = PermissionDeniedError("not yours", 403)
BROKEN = ServerError("bad gateway", 502)
UNREACHABLE = APIConnectionError("connection refused")
PASSING_TROUBLE: list[WanError] = [
    BROKEN,
    UNREACHABLE,
    APITimeoutError("no answer"),
    ResponseFormatError("$: not JSON", 200, "<html>"),
    ServerError("maintenance", 503, retry_after=30.0),
    RateLimitError("slow down", 429),
    THROTTLED,
    APIError("payment required", 402),
    FORBIDDEN,
    BadRequestError("no", 400),
    NOT_FOUND,
    REFUSED_KEY,
]


@define
class Trouble:
    """What looks meet between two times (seconds since the start); `task_id` None is everybody's."""

    error: BaseException
    begin: float = 0.0
    end: float = float("inf")
    task_id: str | None = None
    times: int = 10**9

    def meets(self, task_id: str, at: float) -> bool:
        if self.task_id not in (None, task_id) or not self.begin <= at < self.end or self.times <= 0:
            return False
        self.times -= 1
        return True


@define
class Provider:
    """Tasks with a known end, asked as the session asks them. A reply is made, then travels for `way_back` seconds."""

    latency: float = 0.05
    way_back: float = 0.0
    progress: int | None = None
    created: float | None = None
    ends: dict[str, float] = field(factory=dict)
    troubles: list[Trouble] = field(factory=list)
    batch_troubles: list[Trouble] = field(factory=list)
    without_links_until: float = 0.0
    unknown_to_batch: frozenset[str] = frozenset()
    looks: list[tuple[float, str]] = field(factory=list)
    batches: list[tuple[float, tuple[str, ...]]] = field(factory=list)
    under_way: list[str] = field(factory=list)
    most_under_way: int = 0
    asked_twice_at_once: bool = False

    def task(self, task_id: str, seconds: float) -> str:
        self.ends[task_id] = elapsed() + seconds
        return task_id

    def at(self, task_id: str) -> list[float]:
        """When that task was asked for by itself."""
        return [at for at, asked in self.looks if asked == task_id]

    def snapshot(self, task_id: str) -> TaskSnapshot:
        left = self.ends[task_id] - elapsed()
        if left > 0:
            status = TaskStatus.PROCESSING
            return TaskSnapshot(task_id, status, self.progress, created=self.created, said_status="processing")
        links = (LINK,) if elapsed() >= self.without_links_until else ()
        return TaskSnapshot(task_id, TaskStatus.COMPLETED, 100, links, said_status="completed")

    async def ask(self, task_id: str) -> TaskSnapshot:
        self.looks.append((elapsed(), task_id))
        async with self._wire([task_id]):
            self._raise(self.troubles, task_id)
            snapshot = self.snapshot(task_id)
            await asyncio.sleep(self.way_back)
            return snapshot

    async def ask_many(self, task_ids: Sequence[str]) -> list[TaskSnapshot]:
        self.batches.append((elapsed(), tuple(task_ids)))
        async with self._wire(task_ids):
            self._raise(self.batch_troubles, "batch")
            return [self.snapshot(task_id) for task_id in task_ids if task_id not in self.unknown_to_batch]

    @contextlib.asynccontextmanager
    async def _wire(self, task_ids: Sequence[str]) -> AsyncIterator[None]:
        self.asked_twice_at_once |= not set(task_ids).isdisjoint(self.under_way)
        self.under_way += task_ids
        self.most_under_way = max(self.most_under_way, len(self.under_way))
        try:
            await asyncio.sleep(self.latency)
            yield
        finally:
            for task_id in task_ids:
                self.under_way.remove(task_id)

    def _raise(self, troubles: Iterable[Trouble], task_id: str) -> None:
        for trouble in troubles:
            if trouble.meets(task_id, elapsed()):
                raise trouble.error


@define
class Ear:
    """A listener that keeps what it heard, and when."""

    heard: list[tuple[float, TaskSnapshot | WanError]] = field(factory=list)
    ended: asyncio.Event = field(factory=asyncio.Event)
    awaited: int = 1

    def __call__(self, news: TaskSnapshot | WanError) -> None:
        self.heard.append((elapsed(), news))
        if isinstance(news, WanError) or news.is_final:
            self.awaited -= 1
            if self.awaited <= 0:
                self.ended.set()

    @property
    def news(self) -> list[TaskSnapshot | WanError]:
        return [news for _, news in self.heard]

    @property
    def statuses(self) -> list[str]:
        return [news.status.value if isinstance(news, TaskSnapshot) else type(news).__name__ for news in self.news]


def elapsed() -> float:
    return now() - START


@contextlib.asynccontextmanager
async def polling(
    provider: Provider, *, batch: bool = False, config: Config = CONFIG, **more: Any
) -> AsyncIterator[Poller]:
    many = provider.ask_many if batch else None
    poller = Poller(provider.ask, many, config, clock=now, rng=Random(1), **more)
    try:
        yield poller
    finally:
        await poller.close()


def follow(
    poller: Poller, task_id: str, ear: Callable[[TaskSnapshot | WanError], None], estimate: float = 120.0
) -> None:
    poller.follow(task_id, ear, submitted_at=now(), estimated_time=estimate)


@contextlib.contextmanager
def reported() -> Iterator[list[dict[str, Any]]]:
    """What goes to the loop's exception handler meanwhile."""
    reports: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, report: reports.append(report))
    yield reports
    loop.set_exception_handler(None)


# --- following


@virtual_time
async def test_the_end_of_a_task_is_noticed_soon_with_few_looks() -> None:
    provider, ear = Provider(), Ear()
    async with polling(provider) as poller:
        follow(poller, provider.task("a", 130), ear)
        await ear.ended.wait()
    assert ear.statuses == ["processing", "completed"]
    assert 130 <= elapsed() < 150
    assert 2 <= len(provider.looks) < 12
    assert provider.looks[0][0] > 40


@virtual_time
@pytest.mark.parametrize("nonsense", [0.0, -1.0, 1e9])
async def test_an_estimate_that_makes_no_sense_keeps_no_short_task_waiting(nonsense: float) -> None:
    provider, ear = Provider(), Ear()
    async with polling(provider) as poller:
        follow(poller, provider.task("a", 3), ear, nonsense)
        await ear.ended.wait()
    assert elapsed() < 12


@virtual_time
async def test_each_change_is_told_once_to_each_listener_and_observed_once() -> None:
    provider, one, other = Provider(), Ear(), Ear()
    observed: list[TaskSnapshot] = []
    async with polling(provider, observe=observed.append) as poller:
        follow(poller, provider.task("a", 130), one)
        follow(poller, "a", other)
        assert poller.statistics().following == 1
        await one.ended.wait()
        assert poller.statistics().following == 0
        assert poller.statistics().finished == 1
    assert one.statuses == other.statuses == ["processing", "completed"]
    assert observed == one.news


@virtual_time
async def test_without_listeners_a_task_is_no_longer_asked_for() -> None:
    provider, one, other = Provider(), Ear(), Ear()
    async with polling(provider) as poller:
        follow(poller, provider.task("a", 1000), one)
        follow(poller, "a", other)
        poller.unfollow("a", one)
        await asyncio.sleep(150)
        assert not one.news
        assert other.news
        poller.unfollow("a", one)
        poller.unfollow("b", one)
        poller.unfollow("a", other)
        asked = len(provider.looks)
        await asyncio.sleep(1000)
    assert len(provider.looks) == asked


@virtual_time
async def test_a_task_can_be_followed_again_while_its_old_look_is_on_the_wire() -> None:
    provider, one, other = Provider(latency=5), Ear(), Ear()
    async with polling(provider) as poller:
        poller.follow(provider.task("a", 2), one, submitted_at=None, estimated_time=None)
        await asyncio.sleep(1)
        poller.unfollow("a", one)
        poller.follow("a", other, submitted_at=None, estimated_time=None)
        await other.ended.wait()
    assert not one.news
    assert other.statuses == ["completed"]


@virtual_time
async def test_a_task_of_unknown_age_is_looked_at_at_once() -> None:
    provider, ear = Provider(), Ear()
    async with polling(provider) as poller:
        poller.follow(provider.task("a", -5), ear, submitted_at=None, estimated_time=None)
        await ear.ended.wait()
        assert poller.statistics().expected_seconds is None
    assert elapsed() < 1


@virtual_time
async def test_a_task_that_was_found_is_looked_at_at_once() -> None:
    provider, ear = Provider(), Ear()
    async with polling(provider) as poller:
        submitted_at = now() - 10
        poller.follow(provider.task("a", -5), ear, submitted_at=submitted_at, estimated_time=None, at_once=True)
        await ear.ended.wait()
    assert elapsed() < 1


@virtual_time
async def test_an_attached_task_is_as_old_as_the_provider_says() -> None:
    """So that a long-running task isn't asked for as one that has just begun."""
    provider, ear = Provider(created=START - 7200.0), Ear()
    async with polling(provider) as poller:
        poller.follow(provider.task("a", 5000), ear, submitted_at=None, estimated_time=120.0)
        await asyncio.sleep(3000)
    assert len(provider.looks) < 8


@virtual_time
async def test_tasks_of_an_earlier_run_are_looked_at_oldest_first_at_the_given_pace() -> None:
    provider, ear = Provider(), Ear(awaited=100)
    async with polling(provider, config=Config(polls_per_second=5.0)) as poller:
        ages = list(range(1000, 2000, 10))
        Random(1).shuffle(ages)
        for age in ages:
            poller.follow(provider.task(f"{age}", -1), ear, submitted_at=now() - age, estimated_time=120.0)
        await ear.ended.wait()
    asked = [int(task_id) for _, task_id in provider.looks]
    # Nearly: what is learned meanwhile moves those that are still in line.
    assert all(abs(age - ideal) <= 150 for age, ideal in zip(asked, sorted(ages, reverse=True), strict=True))
    assert 100 / 5 - 1 <= elapsed() + 1 <= 100 / 5 + 2


@virtual_time
async def test_nonsense_dates_of_submission_are_survived() -> None:
    provider, ear = Provider(), Ear(awaited=3)
    async with polling(provider) as poller:
        for name, at in (("zero", 0.0), ("future", now() + 1e6), ("old", now() - 1e8)):
            poller.follow(provider.task(name, 1), ear, submitted_at=at, estimated_time=-1.0)
        await ear.ended.wait()
    assert elapsed() < 120


@virtual_time
async def test_a_wall_clock_that_is_set_moves_nothing() -> None:
    provider, ear, shift = Provider(), Ear(), [0.0]
    poller = Poller(provider.ask, None, CONFIG, clock=lambda: now() + shift[0], rng=Random(1))
    follow(poller, provider.task("a", 130), ear)
    await asyncio.sleep(60)
    shift[0] = -1e6
    await ear.ended.wait()
    assert elapsed() < 150
    await poller.close()


@virtual_time
async def test_durations_are_learned_from_what_was_followed() -> None:
    provider, ear = Provider(), Ear(awaited=60)
    async with polling(provider) as poller:
        for number in range(60):
            follow(poller, provider.task(f"{number}", 300), ear)
            await asyncio.sleep(20)
        await ear.ended.wait()
        expected = poller.statistics().expected_seconds
    assert expected == pytest.approx(300, rel=0.1)
    assert len(provider.at("59")) < len(provider.at("0")) / 2


@virtual_time
async def test_a_task_that_never_ends_is_still_looked_at_now_and_then() -> None:
    provider, ear = Provider(), Ear()
    async with polling(provider) as poller:
        follow(poller, provider.task("a", 100 * 3600), ear)
        await asyncio.sleep(24 * 3600)
        day = [at for at in provider.at("a") if at > 3600]
    assert len(day) == pytest.approx(23 * 6, abs=10)


# --- looks that fail


@pytest.mark.parametrize(
    "error", PASSING_TROUBLE, ids=lambda error: f"{type(error).__name__}-{getattr(error, 'status', '')}"
)
def test_a_failed_look_is_never_taken_for_a_failed_task(error: WanError) -> None:
    async def main() -> None:
        provider, ear = Provider(troubles=[Trouble(error, times=1)]), Ear()
        async with polling(provider) as poller:
            follow(poller, provider.task("a", 100), ear)
            await ear.ended.wait()
            assert poller.statistics().polls_failed == 1
        assert ear.statuses[-1] == "completed"
        assert elapsed() < 240

    run(main())


@virtual_time
async def test_failed_looks_are_repeated_soon_and_then_less_often() -> None:
    provider, ear = Provider(troubles=[Trouble(ResponseFormatError("$: HTML"), task_id="a")]), Ear()
    async with polling(provider) as poller:
        follow(poller, provider.task("a", 1), ear)
        for number in range(200):
            follow(poller, provider.task(f"other {number}", 5 * number), ear)
        await asyncio.sleep(1800)
    gaps = [later - earlier for earlier, later in zip(provider.at("a"), provider.at("a")[1:], strict=False)]
    assert gaps[0] < 2
    assert max(gaps) > 20
    assert 1800 / 60 < len(gaps) < 120


@virtual_time
async def test_an_hours_outage_is_waited_out_with_few_requests() -> None:
    provider, ear = Provider(troubles=[Trouble(UNREACHABLE, 60, 3660)]), Ear(awaited=1000)
    async with polling(provider) as poller:
        for number in range(1000):
            follow(poller, provider.task(f"{number}", 120), ear)
        await ear.ended.wait()
        assert poller.statistics().polls_failed < 200
    assert set(ear.statuses) <= {"processing", "completed"}
    assert elapsed() < 3660 + 120


@virtual_time
async def test_a_task_that_can_never_be_read_is_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    unreadable = ResponseFormatError("$.status: not a text")
    provider, ear = Provider(troubles=[Trouble(unreadable, task_id="a")]), Ear()
    with caplog.at_level("WARNING", "wanasync.poll"):
        async with polling(provider) as poller:
            follow(poller, provider.task("a", 1), ear)
            for number in range(60):
                follow(poller, provider.task(f"other {number}", 60 * number), ear)
            await asyncio.sleep(3600)
            assert poller.statistics().polls_failed == len(provider.at("a"))
    told = [record.getMessage() for record in caplog.records]
    assert 6 <= len(told) <= 12
    assert all("task a: " in line and "$.status: not a text" in line for line in told)


@virtual_time
async def test_one_failed_look_is_not_worth_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    provider, ear = Provider(troubles=[Trouble(BROKEN, times=1)]), Ear()
    async with polling(provider) as poller:
        follow(poller, provider.task("a", 50), ear)
        await ear.ended.wait()
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@virtual_time
async def test_an_outage_is_logged_in_a_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    provider, ear = Provider(troubles=[Trouble(UNREACHABLE, 60, 1260)]), Ear(awaited=500)
    async with polling(provider) as poller:
        for number in range(500):
            follow(poller, provider.task(f"{number}", 120), ear)
        await ear.ended.wait()
    told = [record.getMessage() for record in caplog.records if record.name == "wanasync.poll"]
    assert 2 <= len(told) <= 5
    assert all("connection refused" in line for line in told)


@virtual_time
async def test_an_error_that_is_none_of_ours_is_reported_and_survived() -> None:
    provider, ear = Provider(troubles=[Trouble(LookupError("bug"), times=1)]), Ear()
    with reported() as reports:
        async with polling(provider) as poller:
            follow(poller, provider.task("a", 50), ear)
            await ear.ended.wait()
    assert [str(report["exception"]) for report in reports] == ["bug"]
    assert ear.statuses[-1] == "completed"


@virtual_time
async def test_a_query_that_is_cancelled_under_the_poller_is_repeated() -> None:
    provider, ear = Provider(troubles=[Trouble(asyncio.CancelledError(), times=1)]), Ear()
    async with polling(provider) as poller:
        follow(poller, provider.task("a", 50), ear)
        await ear.ended.wait()
    assert ear.statuses[-1] == "completed"
    assert elapsed() < 150


# --- refusals


@virtual_time
async def test_a_throttled_look_pauses_all_looks_for_as_long_as_it_says() -> None:
    provider, ear = Provider(troubles=[Trouble(THROTTLED, times=1)]), Ear(awaited=50)
    async with polling(provider) as poller:
        for number in range(50):
            poller.follow(provider.task(f"{number}", -1), ear, submitted_at=None, estimated_time=None)
        await asyncio.sleep(10)
        assert 50 < poller.statistics().paused_for < 60
        await ear.ended.wait()
    before = [at for at, _ in provider.looks if at < 1]
    after = [at for at, _ in provider.looks if at > 1]
    # Those on the wire come back; then nothing for a minute, and one alone to see whether the pause was enough.
    assert len(before) <= CONFIG.max_polls_in_flight
    assert min(after) >= 60
    assert len([at for at in after if at < min(after) + provider.latency / 2]) == 1


@virtual_time
async def test_many_throttled_looks_at_once_are_one_pause() -> None:
    provider, ear = Provider(troubles=[Trouble(THROTTLED, 0, 1)]), Ear(awaited=50)
    async with polling(provider) as poller:
        for number in range(50):
            poller.follow(provider.task(f"{number}", -1), ear, submitted_at=None, estimated_time=None)
        await ear.ended.wait()
    assert 60 <= elapsed() < 90


@virtual_time
async def test_a_refused_key_is_told_to_all_listeners_when_it_lasts() -> None:
    provider, ears = Provider(troubles=[Trouble(REFUSED_KEY)]), [Ear() for _ in range(30)]
    async with polling(provider) as poller:
        for number, ear in enumerate(ears):
            follow(poller, provider.task(f"{number}", 100), ear)
        await asyncio.gather(*(ear.ended.wait() for ear in ears))
        assert poller.statistics().following == 0
    assert all(ear.news == [REFUSED_KEY] for ear in ears)
    assert len(provider.looks) < 3 * CONFIG.max_polls_in_flight


@virtual_time
async def test_following_can_begin_anew_after_a_refused_key() -> None:
    provider, ear, other = Provider(troubles=[Trouble(REFUSED_KEY, 0, 200)]), Ear(), Ear()
    async with polling(provider) as poller:
        follow(poller, provider.task("a", 100), ear)
        await ear.ended.wait()
        await asyncio.sleep(200)
        follow(poller, "a", other)
        await other.ended.wait()
    assert other.statuses[-1] == "completed"


@virtual_time
async def test_a_task_not_found_for_long_is_lost() -> None:
    provider, lost, other = Provider(troubles=[Trouble(NOT_FOUND, task_id="a")]), Ear(), Ear()
    async with polling(provider) as poller:
        follow(poller, provider.task("a", 100), lost)
        follow(poller, provider.task("b", 1000), other)
        await lost.ended.wait()
        assert elapsed() > 600
        await other.ended.wait()
    assert len(lost.news) == 1
    error = lost.news[0]
    assert isinstance(error, TaskError)
    assert error.task_id == "a"
    assert 3 <= len(provider.at("a")) < 15
    assert other.statuses[-1] == "completed"


@virtual_time
async def test_a_fresh_task_that_is_unknown_for_a_while_is_not_lost() -> None:
    provider, ear = Provider(troubles=[Trouble(NOT_FOUND, 0, 200)]), Ear()
    async with polling(provider) as poller:
        follow(poller, provider.task("a", 300), ear)
        await ear.ended.wait()
    assert ear.statuses == ["processing", "completed"]


@pytest.mark.parametrize("error", [FORBIDDEN, BadRequestError("malformed id", 422)], ids=["403", "422"])
def test_a_task_that_is_refused_for_long_while_others_are_shown_is_given_up(error: APIError) -> None:
    async def main() -> None:
        provider, refused, other = Provider(troubles=[Trouble(error, task_id="a")]), Ear(), Ear()
        async with polling(provider) as poller:
            follow(poller, provider.task("a", 100), refused)
            follow(poller, provider.task("b", 5000), other)
            await refused.ended.wait()
            assert poller.statistics().following == 1
        assert elapsed() > 600
        told = refused.news[-1]
        assert isinstance(told, TaskError)
        assert told.task_id == "a"
        assert told.__cause__ is error

    run(main())


@virtual_time
async def test_a_firewall_that_refuses_everything_for_long_ends_all_without_blaming_a_task() -> None:
    provider, ear = Provider(troubles=[Trouble(FORBIDDEN)]), Ear(awaited=20)
    async with polling(provider) as poller:
        for number in range(20):
            follow(poller, provider.task(f"{number}", 100), ear)
        await ear.ended.wait()
    assert ear.news == [FORBIDDEN] * 20
    assert elapsed() > 600


@virtual_time
async def test_a_firewall_that_refuses_for_some_minutes_is_waited_out() -> None:
    provider, ear = Provider(troubles=[Trouble(FORBIDDEN, 0, 400)]), Ear(awaited=20)
    async with polling(provider) as poller:
        for number in range(20):
            follow(poller, provider.task(f"{number}", 100), ear)
        await ear.ended.wait()
    assert set(ear.statuses) == {"completed"}


@virtual_time
async def test_a_task_completed_without_links_is_told_when_they_come() -> None:
    provider, ear = Provider(without_links_until=160), Ear()
    async with polling(provider) as poller:
        follow(poller, provider.task("a", 100), ear)
        await ear.ended.wait()
    assert ear.statuses == ["processing", "completed"]
    assert 160 <= elapsed() < 180


@virtual_time
async def test_a_task_completed_without_links_for_good_ends_with_an_error() -> None:
    provider, ear = Provider(without_links_until=1e9), Ear()
    async with polling(provider) as poller:
        follow(poller, provider.task("a", 100), ear)
        await ear.ended.wait()
        assert poller.statistics().expected_seconds is None
    assert isinstance(ear.news[-1], TaskError)
    assert 100 + CONFIG.results_grace <= elapsed() < 100 + CONFIG.results_grace + 60


# --- pace


@virtual_time
async def test_no_more_looks_are_under_way_than_configured() -> None:
    provider, ear = Provider(latency=3), Ear(awaited=60)
    async with polling(provider, config=evolve(CONFIG, max_polls_in_flight=5)) as poller:
        for number in range(60):
            poller.follow(provider.task(f"{number}", -1), ear, submitted_at=None, estimated_time=None)
        await ear.ended.wait()
    assert provider.most_under_way == 5


@virtual_time
async def test_looks_keep_to_the_configured_rate_and_get_dearer_when_they_would_exceed_it() -> None:
    provider, ear = Provider(), Ear(awaited=300)
    async with polling(provider, config=Config(polls_per_second=2.0)) as poller:
        for number in range(300):
            follow(poller, provider.task(f"{number}", 300 + number % 10), ear)
        await ear.ended.wait()
    seconds = [int(at) for at, _ in provider.looks]
    assert max(seconds.count(second) for second in set(seconds)) <= 4
    # 770 where the price stays as it is.
    assert len(provider.looks) < 650


def test_throttled_looks_make_looks_dearer() -> None:
    async def looks_after(error: WanError) -> int:
        provider, ear = Provider(troubles=[Trouble(error, times=6)]), Ear()
        async with polling(provider) as poller:
            follow(poller, provider.task("a", 2000), ear)
            await asyncio.sleep(1000)
        return len([at for at, _ in provider.looks if at > 150])

    plain = run(looks_after(ServerError("oops", 503, retry_after=1.0)))
    assert run(looks_after(RateLimitError("slow down", 429, retry_after=1.0))) < 0.75 * plain


@virtual_time
async def test_thousands_are_followed_without_a_task_each() -> None:
    provider, ear = Provider(), Ear()
    async with polling(provider) as poller:
        for number in range(2000):
            follow(poller, provider.task(f"{number}", 1000), ear)
        await asyncio.sleep(100)
        assert poller.statistics().polls > 1000
        assert len(asyncio.all_tasks()) <= CONFIG.max_polls_in_flight + 2


def test_a_followed_task_takes_little_memory() -> None:
    tasks = 2000

    class Holder:
        def hear(self, news: TaskSnapshot | WanError) -> None:
            pass

    async def ask(task_id: str) -> TaskSnapshot:
        return TaskSnapshot(task_id, TaskStatus.PROCESSING, 50)

    async def main() -> tuple[float, float]:
        holder = Holder()
        poller = Poller(ask, None, Config(polls_per_second=1e6), clock=now, rng=Random(1))
        ids = [f"task-unified-{number:032d}" for number in range(tasks)]
        tracemalloc.start()
        for task_id in ids:
            # As a batch does: a bound method is a new object each time it is looked up.
            follow(poller, task_id, holder.hear)
            await asyncio.sleep(1e-6)
        waiting = tracemalloc.get_traced_memory()[0] / tasks
        await asyncio.sleep(75)
        assert poller.statistics().polls >= tasks
        gc.collect()
        looked_at = tracemalloc.get_traced_memory()[0] / tasks
        tracemalloc.stop()
        await poller.close()
        return waiting, looked_at

    waiting, looked_at = run(main())
    assert waiting <= 330
    assert looked_at <= 430


# --- batch query


@virtual_time
async def test_a_batch_query_serves_many_tasks_at_once() -> None:
    provider, ear = Provider(), Ear(awaited=300)
    async with polling(provider, batch=True) as poller:
        for number in range(300):
            follow(poller, provider.task(f"{number}", 120 + number % 20), ear)
            await asyncio.sleep(0.5)
        await ear.ended.wait()
        statistics = poller.statistics()
    assert set(ear.statuses) <= {"processing", "completed"}
    assert statistics.batch_polls == len(provider.batches)
    assert statistics.polls < 300 / 2
    assert all(2 <= len(ids) <= BATCH_SIZE for _, ids in provider.batches)
    assert all(len(set(ids)) == len(ids) for _, ids in provider.batches)


@pytest.mark.parametrize("error", [NOT_FOUND, APIError("no", 405), ServerError("no", 501)], ids=["404", "405", "501"])
def test_a_host_without_batch_query_is_asked_for_it_once(error: WanError) -> None:
    async def main() -> None:
        provider, ear = Provider(batch_troubles=[Trouble(error)]), Ear(awaited=40)
        async with polling(provider, batch=True) as poller:
            for number in range(40):
                follow(poller, provider.task(f"{number}", 100), ear)
            await ear.ended.wait()
        assert len(provider.batches) == 1
        assert set(ear.statuses) <= {"processing", "completed"}
        assert elapsed() < 200

    run(main())


@pytest.mark.parametrize(
    "error", [ServerError("oops", 500), ResponseFormatError("$: no data"), FORBIDDEN], ids=["500", "format", "403"]
)
def test_a_batch_query_that_fails_is_left_alone_for_a_while(error: WanError) -> None:
    async def main() -> None:
        provider, ear = Provider(batch_troubles=[Trouble(error)]), Ear(awaited=40)
        async with polling(provider, batch=True) as poller:
            for number in range(40):
                follow(poller, provider.task(f"{number}", 100 + 30 * number), ear)
            await ear.ended.wait()
        assert set(ear.statuses) <= {"processing", "completed"}
        assert len(provider.batches) <= elapsed() / BATCH_REST + 1

    run(main())


@virtual_time
async def test_a_throttled_batch_query_pauses_looks_and_goes_on() -> None:
    provider, ear = Provider(batch_troubles=[Trouble(THROTTLED, times=1)]), Ear(awaited=40)
    async with polling(provider, batch=True) as poller:
        for number in range(40):
            poller.follow(provider.task(f"{number}", -1), ear, submitted_at=None, estimated_time=None)
        await ear.ended.wait()
    assert len(provider.batches) == 2
    assert not provider.looks
    assert 60 <= elapsed() < 65


@virtual_time
async def test_a_task_absent_from_a_batch_reply_is_asked_for_by_itself_from_then_on() -> None:
    provider, ear = Provider(unknown_to_batch=frozenset({"7"})), Ear(awaited=20)
    async with polling(provider, batch=True) as poller:
        for number in range(20):
            follow(poller, provider.task(f"{number}", 200), ear)
        await ear.ended.wait()
    assert len(provider.at("7")) > 3
    assert len([ids for _, ids in provider.batches if "7" in ids]) == 1
    assert set(ear.statuses) <= {"processing", "completed"}
    assert elapsed() < 230


@virtual_time
async def test_a_batch_query_that_knows_nothing_is_not_asked_again_soon() -> None:
    provider = Provider(unknown_to_batch=frozenset(f"{number}" for number in range(10)))
    ear = Ear(awaited=10)
    async with polling(provider, batch=True) as poller:
        for number in range(10):
            follow(poller, provider.task(f"{number}", 150), ear)
        await ear.ended.wait()
    assert len(provider.batches) == 1


@virtual_time
async def test_a_single_task_is_asked_for_by_itself() -> None:
    provider, ear = Provider(), Ear()
    async with polling(provider, batch=True) as poller:
        follow(poller, provider.task("a", 100), ear)
        await ear.ended.wait()
    assert not provider.batches


# --- callbacks


@virtual_time
async def test_a_callback_brings_the_confirming_query_about_at_once() -> None:
    provider, ear = Provider(), Ear()
    async with polling(provider, callbacks=True) as poller:
        follow(poller, provider.task("a", 20), ear)
        await asyncio.sleep(20)
        poller.deliver(provider.snapshot("a"))
        poller.deliver(provider.snapshot("a"))
        await ear.ended.wait()
    assert elapsed() == pytest.approx(20.05)
    assert provider.at("a") == [20]
    assert ear.statuses == ["completed"]


@virtual_time
async def test_a_callback_for_a_task_that_is_not_followed_yet_is_remembered() -> None:
    """It can overtake the reply to the submission."""
    provider, ear = Provider(), Ear()
    provider.task("a", 20)
    async with polling(provider, callbacks=True) as poller:
        await asyncio.sleep(20)
        poller.hint("a")
        await asyncio.sleep(5)
        poller.follow("a", ear, submitted_at=now() - 25, estimated_time=120.0)
        await ear.ended.wait()
    assert elapsed() == pytest.approx(25.05)


@virtual_time
async def test_few_callbacks_for_tasks_that_nobody_follows_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wanasync.engine.poller.EARLY_HINTS", 10)
    provider, ear = Provider(), Ear()
    provider.task("a", 20)
    async with polling(provider, callbacks=True) as poller:
        await asyncio.sleep(20)
        for task_id in ("a", *map(str, range(10))):
            poller.hint(task_id)
        poller.follow("a", ear, submitted_at=now() - 20, estimated_time=120.0)
        await asyncio.sleep(50)
        assert not ear.ended.is_set()


@virtual_time
async def test_a_forged_callback_is_never_believed() -> None:
    provider, ear = Provider(), Ear()
    forged = TaskSnapshot("a", TaskStatus.FAILED, said_status="failed")
    async with polling(provider) as poller:
        follow(poller, provider.task("a", 130), ear)
        await asyncio.sleep(10)
        poller.deliver(forged)
        poller.deliver(evolve(forged, id="unknown"))
        poller.deliver(evolve(forged, status=TaskStatus.PROCESSING))
        await ear.ended.wait()
    assert ear.statuses == ["processing", "completed"]
    assert len(provider.looks) < 20


@virtual_time
async def test_a_flood_of_forged_callbacks_brings_few_queries_about() -> None:
    provider, ear = Provider(), Ear()
    async with polling(provider) as poller:
        follow(poller, provider.task("a", 130), ear)
        for _ in range(100):
            poller.deliver(TaskSnapshot("a", TaskStatus.FAILED))
            await asyncio.sleep(0.2)
    assert len(provider.looks) <= 5


@virtual_time
async def test_a_confirming_query_that_fails_is_repeated_soon() -> None:
    provider, ear = Provider(troubles=[Trouble(BROKEN, times=3)]), Ear()
    async with polling(provider, callbacks=True) as poller:
        follow(poller, provider.task("a", 5), ear)
        await asyncio.sleep(5)
        poller.deliver(provider.snapshot("a"))
        await ear.ended.wait()
    assert elapsed() < 15


@virtual_time
async def test_a_callback_that_is_ahead_of_the_query_is_confirmed_within_seconds() -> None:
    """The query is answered by a replica that lags behind."""
    provider, ear = Provider(), Ear()
    async with polling(provider) as poller:
        follow(poller, provider.task("a", 23), ear)
        await asyncio.sleep(20)
        poller.deliver(TaskSnapshot("a", TaskStatus.COMPLETED, 100, (LINK,)))
        await ear.ended.wait()
    assert elapsed() < 30


@virtual_time
async def test_a_callback_that_comes_while_a_look_is_on_the_wire_is_not_lost() -> None:
    provider, ear = Provider(latency=0.1, way_back=1.0), Ear()
    async with polling(provider) as poller:
        poller.follow(provider.task("a", 0.5), ear, submitted_at=None, estimated_time=None)
        await asyncio.sleep(0.5)
        assert provider.under_way
        poller.deliver(TaskSnapshot("a", TaskStatus.COMPLETED, 100, (LINK,)))
        await ear.ended.wait()
    assert elapsed() < 10
    assert not provider.asked_twice_at_once


@virtual_time
async def test_with_proved_callbacks_a_task_costs_one_look() -> None:
    provider, ear = Provider(), Ear(awaited=200)
    async with polling(provider, callbacks=True) as poller:
        for number in range(200):
            follow(poller, provider.task(f"{number}", 110 + number % 20), ear)
            await asyncio.sleep(1)
            for task_id, end in provider.ends.items():
                if -1 <= end - elapsed() < 0:
                    poller.deliver(provider.snapshot(task_id))
        while not ear.ended.is_set():
            await asyncio.sleep(1)
            for task_id, end in provider.ends.items():
                if -1 <= end - elapsed() < 0:
                    poller.deliver(provider.snapshot(task_id))
    assert len(provider.looks) <= 1.02 * 200


@virtual_time
async def test_without_the_promised_callbacks_looks_still_find_the_end() -> None:
    provider, ear = Provider(), Ear()
    async with polling(provider, callbacks=True) as poller:
        follow(poller, provider.task("a", 100), ear)
        await ear.ended.wait()
    assert elapsed() < 200


# --- listeners


@virtual_time
async def test_a_listener_that_raises_harms_nobody() -> None:
    provider, ear = Provider(), Ear()

    def broken(_: object) -> None:
        raise LookupError("listener's bug")

    with reported() as reports:
        async with polling(provider, observe=broken) as poller:
            follow(poller, provider.task("a", 130), broken)
            follow(poller, "a", ear)
            await ear.ended.wait()
    assert ear.statuses == ["processing", "completed"]
    assert {str(report["exception"]) for report in reports} == {"listener's bug"}


@virtual_time
async def test_a_listener_may_stop_and_begin_following_while_it_is_called() -> None:
    provider, ear = Provider(), Ear()
    async with polling(provider) as poller:

        def once(news: TaskSnapshot | WanError) -> None:
            poller.unfollow("a", once)
            follow(poller, provider.task("b", 50), ear)

        follow(poller, provider.task("a", 130), once)
        await ear.ended.wait()
        assert poller.statistics().following == 0
    assert ear.statuses[-1] == "completed"


# --- closing


@virtual_time
async def test_an_estimate_far_off_is_found_out_by_the_first_tasks() -> None:
    provider, ear = Provider(), Ear(awaited=30)
    async with polling(provider) as poller:
        for number in range(30):
            poller.follow(provider.task(f"{number}", 60), ear, submitted_at=now(), estimated_time=3600)
            await asyncio.sleep(1)
        await ear.ended.wait()
    assert elapsed() < 300


@virtual_time
async def test_a_long_estimate_that_holds_costs_few_looks_more() -> None:
    provider, ear = Provider(), Ear(awaited=30)
    async with polling(provider) as poller:
        for number in range(30):
            poller.follow(provider.task(f"{number}", 900), ear, submitted_at=now(), estimated_time=900)
        await asyncio.sleep(380)
        assert len({task_id for _, task_id in provider.looks}) <= PROBES
        await ear.ended.wait()


@virtual_time
async def test_closing_ends_looks_on_the_wire_and_tells_listeners() -> None:
    provider, ear = Provider(latency=10), Ear()
    poller = Poller(provider.ask, None, CONFIG, clock=now, rng=Random(1))
    for number in range(50):
        poller.follow(provider.task(f"{number}", -1), ear, submitted_at=None, estimated_time=None)
    await asyncio.sleep(5)
    assert len(provider.under_way) == CONFIG.max_polls_in_flight
    await poller.close()
    assert not provider.under_way
    assert len(asyncio.all_tasks()) == 1
    await asyncio.sleep(100)
    assert [type(news) for _, news in ear.heard] == [SessionError] * 50
    await poller.close()
    assert len(ear.heard) == 50
    with pytest.raises(SessionError):
        follow(poller, "a", ear)
    poller.deliver(provider.snapshot("1"))
    poller.unfollow("1", ear)


@virtual_time
async def test_closing_without_ever_following_is_nothing() -> None:
    async with polling(Provider()) as poller:
        assert poller.statistics().following == 0


@virtual_time
async def test_a_cancelled_close_has_closed_all_the_same() -> None:
    provider, ear = Provider(latency=10), Ear()
    poller = Poller(provider.ask, None, CONFIG, clock=now, rng=Random(1))
    poller.follow(provider.task("a", -1), ear, submitted_at=None, estimated_time=None)
    await asyncio.sleep(5)
    closing = asyncio.ensure_future(poller.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await poller.close()
    assert not provider.under_way
    assert [type(news) for _, news in ear.heard] == [SessionError]


@pytest.mark.parametrize("when", [0.0, 0.01, 45.0, 71.02, 120.0])
def test_closing_at_any_moment_leaves_nothing_behind(when: float) -> None:
    async def main() -> None:
        provider, ear = Provider(), Ear()
        poller = Poller(provider.ask, provider.ask_many, CONFIG, clock=now, rng=Random(1))
        for number in range(20):
            follow(poller, provider.task(f"{number}", 100), ear)
        await asyncio.sleep(when)
        await poller.close()
        heard = len(ear.news)
        await asyncio.sleep(100)
        assert len(ear.news) == heard
        assert len(asyncio.all_tasks()) == 1

    run(main())


# --- everything at once


errors = st.sampled_from([error for error in PASSING_TROUBLE if error is not REFUSED_KEY])
troubles = st.builds(
    Trouble,
    error=errors,
    begin=st.floats(0, 200),
    end=st.floats(0, 400),
    task_id=st.sampled_from([None, "0", "1", "2", "batch"]),
    times=st.integers(1, 5),
)


@given(
    durations=st.lists(st.floats(0.1, 400), min_size=1, max_size=12),
    faults=st.lists(troubles, max_size=6),
    batch_faults=st.lists(troubles, max_size=3),
    batch=st.booleans(),
    callbacks=st.booleans(),
    latency=st.sampled_from([0.0, 0.05, 8.0]),
)
@settings(max_examples=60, deadline=None)
def test_each_task_ends_exactly_once_whatever_happens(
    durations: list[float],
    faults: list[Trouble],
    batch_faults: list[Trouble],
    batch: bool,
    callbacks: bool,
    latency: float,
) -> None:
    async def main() -> None:
        provider = Provider(
            latency, troubles=[evolve(t) for t in faults], batch_troubles=[evolve(t) for t in batch_faults]
        )
        ears = [Ear() for _ in durations]
        loop = asyncio.get_running_loop()
        async with polling(provider, batch=batch, callbacks=callbacks) as poller:
            for number, (ear, duration) in enumerate(zip(ears, durations, strict=True)):
                follow(poller, provider.task(f"{number}", duration), ear)
                if number % 2:
                    claim = TaskSnapshot(f"{number}", TaskStatus.COMPLETED, 100, (LINK,))
                    loop.call_later(duration, poller.deliver, claim)
                await asyncio.sleep(1)
            async with asyncio.timeout(7200):
                await asyncio.gather(*(ear.ended.wait() for ear in ears))
            await asyncio.sleep(2000)
            assert poller.statistics().following == 0
        assert not provider.asked_twice_at_once
        for ear in ears:
            assert ear.statuses[-1] == "completed"
            assert ear.statuses.count("completed") == 1
            assert set(ear.statuses) <= {"processing", "completed"}

    run(main())
