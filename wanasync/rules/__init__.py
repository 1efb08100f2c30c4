"""Decisions, in sync code: no I/O, no clock and no randomness of their own (the time and rng are passed in)."""
