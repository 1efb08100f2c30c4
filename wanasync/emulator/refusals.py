"""The provider's error replies, in both generations of its API.

The integer generation is the provider's document; the one with words as codes, and all that the document leaves out
(402, 409, 413), are from the public pages and client code of the same API family.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define, frozen

__all__ = ["KINDS", "Refusal", "error_body"]


@frozen
class _Kind:
    status: int
    message: str
    type: str
    word: str
    word_type: str
    suggestion: str | None = None


KINDS: Mapping[str, _Kind] = {
    "bad_request": _Kind(
        400, "Invalid request format", "invalid_request_error", "invalid_request", "invalid_request_error"
    ),
    "bad_task_id": _Kind(
        400, "Invalid task ID format", "invalid_request_error", "invalid_task_id", "invalid_request_error"
    ),
    "unauthorized": _Kind(
        401, "Invalid authentication credentials", "authentication_error", "unauthorized", "authentication_error"
    ),
    "no_credit": _Kind(
        402,
        "Insufficient quota",
        "insufficient_quota_error",
        "insufficient_quota",
        "insufficient_quota",
        suggestion="top up the account",
    ),
    "no_access": _Kind(
        403, "Access denied for this model", "permission_error", "model_access_denied", "invalid_request_error"
    ),
    "no_model": _Kind(404, "Specified model not found", "not_found_error", "model_not_found", "invalid_request_error"),
    "no_task": _Kind(404, "Task not found or expired", "not_found_error", "task_not_found", "invalid_request_error"),
    "no_endpoint": _Kind(404, "No such endpoint", "not_found_error", "not_found", "invalid_request_error"),
    "wrong_method": _Kind(
        405, "Method not allowed", "invalid_request_error", "method_not_allowed", "invalid_request_error"
    ),
    "idempotency_conflict": _Kind(
        409,
        "The idempotency key was used with another request",
        "invalid_request_error",
        "idempotency_conflict",
        "invalid_request_error",
    ),
    "paid_outcome_unknown": _Kind(
        409,
        "A request with this idempotency key is still running",
        "invalid_request_error",
        "paid_outcome_unknown",
        "invalid_request_error",
    ),
    "too_large": _Kind(
        413, "Request body too large", "request_too_large_error", "request_too_large", "invalid_request_error"
    ),
    "throttled": _Kind(429, "Rate limit exceeded", "rate_limit_error", "rate_limit_exceeded", "evo_api_error"),
    "internal": _Kind(
        500, "Internal server error", "internal_server_error", "internal_error", "api_error", "try again later"
    ),
    "bad_gateway": _Kind(502, "Bad gateway", "upstream_error", "upstream_error", "api_error", "try again later"),
    "unavailable": _Kind(
        503,
        "Service temporarily unavailable",
        "service_unavailable_error",
        "service_unavailable",
        "api_error",
        "retry after 30 seconds",
    ),
}

# Only newer hosts know idempotency at all, and they say it in words.
_ALWAYS_IN_WORDS = ("idempotency_conflict", "paid_outcome_unknown")


@define(eq=False, slots=False)
class Refusal(Exception):  # noqa: N818 - an answer, not an error of the emulator
    """The emulator's provider says no. `kind` is a key of `KINDS`; the rest overrides what stands there."""

    kind: str
    message: str | None = None
    param: str | None = None
    suggestion: str | None = None
    headers: Mapping[str, str] = {}

    @property
    def status(self) -> int:
        return KINDS[self.kind].status


def error_body(refusal: Refusal, generation: str) -> dict[str, Any]:
    """The JSON of a refusal. `generation` is "integer" (the provider's document) or "string"."""
    kind = KINDS[refusal.kind]
    words = generation == "string"
    error: dict[str, Any] = {
        "code": kind.word if words or refusal.kind in _ALWAYS_IN_WORDS else kind.status,
        "message": refusal.message or kind.message,
        "type": kind.word_type if words else kind.type,
    }
    if refusal.param:
        error["param"] = refusal.param
    suggestion = refusal.suggestion or kind.suggestion
    # The newer generation has no such field in its documents; a wait that must be told as text goes there anyway.
    if suggestion and (not words or refusal.suggestion):
        error["fallback_suggestion"] = suggestion
    return {"error": error}
