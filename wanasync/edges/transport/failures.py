"""What aiohttp's errors mean: whether anything was sent, and what a user is told."""

from __future__ import annotations

import asyncio
import ssl

import aiohttp
from attrs import define
from multidict import CIMultiDict, CIMultiDictProxy

from wanasync.edges.transport.connecting import NotConnectedError
from wanasync.errors import APIConnectionError, APITimeoutError

__all__ = [
    "ReplyLostError",
    "broken",
    "forget_headers",
    "is_unsendable",
    "origin_of",
    "unreachable",
    "was_never_sent",
]


@define(eq=False, slots=False)
class ReplyLostError(APIConnectionError):
    """A submission may have reached the provider, and its reply was lost."""


def forget_headers(error: BaseException | None) -> None:
    """aiohttp keeps the request's headers, with the key and a proxy's password, in errors about unreadable replies.
    They are not in the error's sentence, but they would be in its repr, and so in many an error report."""
    while error is not None:
        if isinstance(error, aiohttp.ClientResponseError):
            told, none = error.request_info, CIMultiDictProxy(CIMultiDict[str]())
            error.request_info = aiohttp.RequestInfo(told.url, told.method, none, told.real_url)
            error.args = (error.request_info, error.history)
        error = error.__cause__


def origin_of(error: BaseException) -> BaseException:
    """What a connection attempt failed of, out of the wrapping of our connector and of aiohttp's."""
    if isinstance(error, NotConnectedError) and error.__cause__ is not None:
        return origin_of(error.__cause__)
    return error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error


def is_unsendable(error: Exception) -> bool:
    """An address that aiohttp refuses before it does anything."""
    return isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError)


def was_never_sent(error: Exception) -> bool:
    """Everything here is raised in aiohttp's connectors only, before the request is written."""
    return isinstance(
        error,
        NotConnectedError
        | aiohttp.ClientConnectorError
        | aiohttp.ClientConnectorCertificateError
        | aiohttp.ConnectionTimeoutError
        | aiohttp.ServerFingerprintMismatch
        | aiohttp.ClientHttpProxyError,
    )


def unreachable(error: Exception, host: str, connect_timeout: float) -> APIConnectionError:
    origin = origin_of(error)
    if isinstance(origin, asyncio.TimeoutError):
        return APITimeoutError(f"{host} could not be reached within {connect_timeout:g} s")
    return APIConnectionError(f"{host} can't be reached: {_cause(origin)}")


def _cause(origin: BaseException) -> str:
    if isinstance(origin, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({origin.verify_message})"
    if isinstance(origin, ssl.SSLError):
        return f"no TLS connection ({origin.reason or origin})"
    if isinstance(origin, aiohttp.ClientHttpProxyError):
        return f"the proxy refused (HTTP {origin.status})"
    if isinstance(origin, OSError):
        return origin.strerror or str(origin) or type(origin).__name__
    return str(origin) or type(origin).__name__


def broken(error: Exception, what: str) -> APIConnectionError:
    if isinstance(error, asyncio.TimeoutError):
        return APITimeoutError(f"{what} stopped coming")
    return APIConnectionError(f"{what} was cut off ({type(error).__name__})")
