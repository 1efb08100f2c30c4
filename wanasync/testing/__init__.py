"""Aids for testing programs built on wanasync."""

from __future__ import annotations

from wanasync.testing.virtual_time import START, VirtualTimeError, VirtualTimeLoop, busy, now, run, virtual_time

__all__ = ["START", "VirtualTimeError", "VirtualTimeLoop", "busy", "now", "run", "virtual_time"]
