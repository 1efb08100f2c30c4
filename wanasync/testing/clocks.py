"""Virtual time: an event loop whose clock stands still while anything happens and else jumps to the next timer.

An hour of waiting passes in milliseconds and comes out the same on every run. Real sockets on loopback work, since
the loop still asks the operating system; only its waiting is skipped.

    @virtual_time
    async def test_a_task_is_given_up_after_an_hour() -> None: ...

When may the clock jump? Jumping too early would let a timeout fire while its answer is on the way, so what can
still produce an event in real time is counted where it can be, and given a moment of real time where it can't:

- *counted*: `run_in_executor` and `asyncio.to_thread`, even when the await on them was cancelled; every future made by
  `asyncio.wrap_future`, which is how the answers of another thread are awaited; whatever runs within `busy()`.
  While one of these is open the clock stands still and the loop waits in real time.
- *given a moment*: bytes between two sockets of the process. The kernel hands them over within the sending call or a
  few microseconds later, so with open sockets the loop looks twice, 50 µs apart. With other threads alive it looks for
  a millisecond, and for as long as those threads use the processor (a server answering in its own thread).

What can't be seen is another *process*, or a thread that sleeps and then calls `call_soon_threadsafe`: hold the clock
with `busy()` around such a wait.

A test that would hang fails instead: nothing scheduled and nothing that could wake the loop raises
`VirtualTimeError`, which names the waiting tasks; so does counted work that stays silent for `patience` real
seconds, and a virtual clock that runs past `horizon` (timers that keep rescheduling each other).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import os
import selectors
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, ParamSpec, TypeVar, TypeVarTuple, Unpack

__all__ = ["START", "VirtualTimeError", "VirtualTimeLoop", "busy", "now", "run", "virtual_time"]

START = 1_800_000_000.0
"""Unix time at which every virtual loop starts (15 January 2027, 08:00 UTC)."""

_LOOP_START = 1_000.0
_SOCKET_PAUSE = 50e-6
_THREAD_PAUSE = 1e-3
_BUSY_PAUSE = 2e-3
_THREADS_LIMIT = 1.0
_IDLE_CPU = 50e-6
_THREADS = "/proc/self/task"
_WRAP_FUTURE = asyncio.wrap_future.__code__

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_Events = list[tuple[selectors.SelectorKey, int]]


class VirtualTimeError(Exception):
    """The loop would wait for ever, or has run away."""


class _Selector(selectors.DefaultSelector):
    """Passes a wait on to the loop's `_wait`; looks without waiting are the operating system's."""

    wait: Callable[[float | None], _Events]

    def select(self, timeout: float | None = None) -> _Events:
        if timeout is not None and timeout <= 0:
            return self.look(0)
        return self.wait(timeout)

    def look(self, timeout: float) -> _Events:
        """Really wait, at most `timeout` real seconds."""
        return super().select(timeout)


class _Recorder:
    """An executor that keeps the future of what it was given, which the base loop hides."""

    future: concurrent.futures.Future[Any] | None = None

    def __init__(self, executor: concurrent.futures.Executor) -> None:
        self.executor = executor

    def submit(self, func: Callable[..., Any], *args: Any) -> concurrent.futures.Future[Any]:
        self.future = self.executor.submit(func, *args)
        return self.future


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A selector event loop on virtual time; the module's docstring tells when its clock jumps.

    `patience` is how many real seconds counted work, or sockets and threads that may still answer, can be silent
    before the loop gives up; `horizon` how many virtual seconds it may run. `jumps` counts the clock's jumps.
    """

    def __init__(self, *, patience: float = 10.0, horizon: float = 30 * 86_400.0) -> None:
        self._virtual_selector = _Selector()
        self._virtual_selector.wait = self._wait
        self._now = _LOOP_START
        self._patience = patience
        self._horizon = horizon
        self._executor = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="virtual-time")
        self._executors = weakref.WeakSet[concurrent.futures.Executor]([self._executor])
        self._work: set[asyncio.Future[Any] | concurrent.futures.Future[Any]] = set()
        self._holds = 0
        self._holds_lock = threading.Lock()
        self.jumps: int = 0
        super().__init__(self._virtual_selector)
        self.set_default_executor(self._executor)
        self._own_descriptors = len(self._virtual_selector.get_map())

    def time(self) -> float:
        return self._now

    def now(self) -> float:
        """Virtual unix time; can be called from any thread."""
        return START + (self._now - _LOOP_START)

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Hold the clock, e.g. around a thread's or another process's work; from any thread, any number at once."""
        with self._holds_lock:
            self._holds += 1
        try:
            yield
        finally:
            with self._holds_lock:
                self._holds -= 1

    def create_future(self) -> asyncio.Future[Any]:
        future = super().create_future()
        # The one trace of a cross-thread wait: only wrap_future ties an asyncio future to another thread's.
        if sys._getframe(1).f_code is _WRAP_FUTURE:
            self._work.add(future)
        return future

    def run_in_executor(
        self, executor: concurrent.futures.Executor | None, func: Callable[[Unpack[_Ts]], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        recorder = _Recorder(executor or self._executor)
        self._executors.add(recorder.executor)
        future: asyncio.Future[_T] = super().run_in_executor(recorder, func, *args)  # type: ignore[arg-type]
        # Also the thread's own future: when the await is cancelled, the thread goes on.
        if recorder.future is not None:
            self._work.add(recorder.future)
        return future

    async def shutdown_default_executor(self, *args: Any) -> None:
        # Its time limit is a timer on this loop, which must not be jumped to while the threads end.
        with self.busy():
            await super().shutdown_default_executor(*args)

    def _wait(self, timeout: float | None) -> _Events:
        events = self._virtual_selector.look(0) or self._settle() or self._outwait_work()
        if events:
            return events
        if timeout is None:
            return self._last_chance()
        self._now += timeout
        self.jumps += 1
        if self._now > _LOOP_START + self._horizon:
            raise VirtualTimeError(self._sentence(f"the virtual clock passed {self._horizon:g} s"))
        return []

    def _settle(self) -> _Events:
        """Give what can't be counted its moment."""
        if self._has_foreign_threads():
            return self._outwait_threads()
        if self._has_sockets():
            time.sleep(_SOCKET_PAUSE)  # also lets the kernel's own network thread run, where delivery is deferred to it
            return self._virtual_selector.look(0)
        return []

    def _has_sockets(self) -> bool:
        return len(self._virtual_selector.get_map()) > self._own_descriptors

    def _has_foreign_threads(self) -> bool:
        pooled = sum(len(getattr(executor, "_threads", ())) for executor in self._executors)
        return threading.active_count() - 1 > pooled

    def _outwait_threads(self) -> _Events:
        give_up = time.monotonic() + _THREADS_LIMIT
        while True:
            used = _cpu_of_other_threads()
            events = self._virtual_selector.look(_THREAD_PAUSE)
            idle = _cpu_of_other_threads() - used < _IDLE_CPU and not _any_thread_at_work()
            if events or idle or time.monotonic() > give_up:
                return events or self._virtual_selector.look(0)

    def _outwait_work(self) -> _Events:
        give_up = time.monotonic() + self._patience
        while self._is_busy():
            events = self._virtual_selector.look(_BUSY_PAUSE)
            if events:
                return events
            if time.monotonic() > give_up:
                raise VirtualTimeError(self._sentence(f"work in other threads is silent for {self._patience:g} s"))
        return self._virtual_selector.look(0)

    def _is_busy(self) -> bool:
        self._work = {future for future in self._work if not future.done()}
        return bool(self._work or self._holds)

    def _last_chance(self) -> _Events:
        """Nothing is scheduled: only another thread or a socket can wake the loop, if there are any."""
        waking = self._has_foreign_threads() or self._has_sockets()
        events = self._virtual_selector.look(self._patience if waking else 0.05)
        if not events:
            raise VirtualTimeError(self._sentence("nothing is scheduled and nothing happens: this would wait for ever"))
        return events

    def _sentence(self, problem: str) -> str:
        tasks = sorted(_where(task) for task in asyncio.all_tasks(self))
        return "\n  ".join([f"{problem}; waiting tasks:", *tasks])


def _cpu_of_other_threads() -> float:
    return time.process_time() - time.thread_time()


def _any_thread_at_work() -> bool:
    """Whether another thread is runnable or in a disk wait; where the system can't tell (no /proc), none is."""
    own = str(threading.get_native_id())
    try:
        others = [name for name in os.listdir(_THREADS) if name != own]
    except OSError:
        return False
    return any(_thread_state(name) in "RD" for name in others)


def _thread_state(name: str) -> str:
    try:
        with open(f"{_THREADS}/{name}/stat", "rb") as file:
            return chr(file.read().rpartition(b") ")[2][0])
    except (OSError, IndexError):
        return "X"  # it has just ended


def _where(task: asyncio.Task[Any]) -> str:
    stack = task.get_stack(limit=1)
    if not stack:
        return task.get_name()
    code = stack[0].f_code
    return f"{task.get_name()} in {code.co_qualname} ({code.co_filename}:{stack[0].f_lineno})"


def _running_loop() -> VirtualTimeLoop:
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualTimeLoop):
        raise VirtualTimeError(f"this needs a VirtualTimeLoop (see run, virtual_time); running is {loop!r}")
    return loop


def now() -> float:
    """Unix time on the running virtual loop: `START` when it began."""
    return _running_loop().now()


def busy() -> contextlib.AbstractContextManager[None]:
    """Hold the running loop's clock; from another thread use the loop's own `busy`."""
    return _running_loop().busy()


def run(main: Coroutine[Any, Any, _T], *, patience: float = 10.0, horizon: float = 30 * 86_400.0) -> _T:
    """`asyncio.run` on virtual time; raises `VirtualTimeError` instead of hanging."""
    make_loop = functools.partial(VirtualTimeLoop, patience=patience, horizon=horizon)
    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(main)


def virtual_time(test: Callable[_P, Awaitable[_T]]) -> Callable[_P, _T]:
    """Make an async test function a plain one that runs on virtual time.

    Plain fixtures, those of `wanasync.testing` and `hypothesis.given` (outside) work; async fixtures of a pytest plugin
    run on that plugin's loop and don't mix with it.
    """

    @functools.wraps(test)
    def on_virtual_time(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        async def main() -> _T:
            return await test(*args, **kwargs)

        return _prepared[-1].run(main()) if _prepared else run(main())

    on_virtual_time.__dict__[_MARK] = True
    return on_virtual_time


_MARK = "_runs_on_virtual_time"
_prepared: list[asyncio.Runner] = []


def is_virtual(test: object) -> bool:
    """Whether `virtual_time` made it."""
    return hasattr(test, _MARK)


@contextlib.contextmanager
def prepared(runner: asyncio.Runner) -> Iterator[None]:
    """Have tests run by this runner meanwhile, on whose loop their fixtures live."""
    _prepared.append(runner)
    try:
        yield
    finally:
        _prepared.remove(runner)
