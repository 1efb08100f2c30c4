"""A certificate authority of the tests' own, which nobody else trusts."""

from __future__ import annotations

import functools
import ssl

import trustme

__all__ = ["server_context", "trusting_context"]


@functools.cache
def _authority() -> trustme.CA:
    return trustme.CA()


@functools.cache
def server_context() -> ssl.SSLContext:
    """For a server on 127.0.0.1 or localhost."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _authority().issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@functools.cache
def trusting_context() -> ssl.SSLContext:
    """For a client that trusts the authority."""
    context = ssl.create_default_context()
    _authority().configure_trust(context)
    return context
