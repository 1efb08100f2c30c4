"""A certificate authority of the tests' own, which nobody else trusts."""

from __future__ import annotations

import functools
import ssl

import trustme

__all__ = ["PUBLIC_HOST", "server_context", "trusting_context"]

PUBLIC_HOST = "hooks.example.com"
"""For those who want a public name; `Emulator(callback_hosts={PUBLIC_HOST: "127.0.0.1"})` finds it here."""


@functools.cache
def _authority() -> trustme.CA:
    return trustme.CA()


@functools.cache
def server_context() -> ssl.SSLContext:
    """For a server on 127.0.0.1, localhost or `PUBLIC_HOST`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _authority().issue_cert("127.0.0.1", "localhost", PUBLIC_HOST).configure_cert(context)
    return context


@functools.cache
def trusting_context() -> ssl.SSLContext:
    """For a client that trusts the authority."""
    context = ssl.create_default_context()
    _authority().configure_trust(context)
    return context
