"""Both generations of error bodies are those of the samples."""

from __future__ import annotations

import pytest

from wanasync.emulator.refusals import KINDS, Refusal, error_body


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("generation", ["integer", "string"])
def test_every_refusal_has_a_body_in_both_generations(kind: str, generation: str) -> None:
    error = error_body(Refusal(kind), generation)["error"]
    assert error["message"]
    assert error["type"]
    in_words = generation == "string" or kind in ("idempotency_conflict", "paid_outcome_unknown")
    assert isinstance(error["code"], str) is in_words
    if not in_words:
        assert error["code"] == Refusal(kind).status


def test_what_a_refusal_says_itself_comes_first() -> None:
    body = error_body(Refusal("throttled", "Slow down", "model", "retry after 7 seconds"), "integer")
    assert body == {
        "error": {
            "code": 429,
            "message": "Slow down",
            "type": "rate_limit_error",
            "param": "model",
            "fallback_suggestion": "retry after 7 seconds",
        }
    }


def test_the_newer_generation_suggests_nothing_by_itself() -> None:
    assert "fallback_suggestion" not in error_body(Refusal("unavailable"), "string")["error"]
    assert "fallback_suggestion" in error_body(Refusal("unavailable"), "integer")["error"]
