"""Waits at a gate that can be called off."""

from __future__ import annotations

import asyncio

from wanasync.engine.gate import AnyGate, Ticket

__all__ = ["Admissions"]


class Admissions:
    """Who waits at the gate for one session, or one batch."""

    def __init__(self, gate: AnyGate) -> None:
        self._gate = gate
        self._waiting: set[asyncio.Future[Ticket]] = set()

    async def admit(self, *, interactive: bool = False) -> Ticket | None:
        """A ticket from the gate; None when the wait was called off."""
        admission = asyncio.ensure_future(self._gate.admit(interactive=interactive))
        self._waiting.add(admission)
        try:
            ticket = await admission
        except asyncio.CancelledError:
            self._give_back(admission)
            if admission in self._waiting or _being_cancelled():
                raise
            return None
        else:
            if admission in self._waiting:
                return ticket
            # Called off in the very turn in which it came.
            self._gate.release(ticket)
            return None
        finally:
            self._waiting.discard(admission)

    def call_off(self) -> None:
        """Let nobody wait any longer; whoever comes later may."""
        waiting, self._waiting = self._waiting, set()
        for admission in waiting:
            admission.cancel()

    def _give_back(self, admission: asyncio.Future[Ticket]) -> None:
        if admission.done() and not admission.cancelled() and admission.exception() is None:
            self._gate.release(admission.result())


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and bool(task.cancelling())
