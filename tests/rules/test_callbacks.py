from __future__ import annotations

import base64
import hmac
import json
import string
from typing import Any

import attrs
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from wanasync import CallbackCodec, CallbackError, ConfigError, Delivery, VideoRequest
from wanasync.rules import calls
from wanasync.rules.callbacks import DAY, LONGEST_TOKEN, check_reachable
from wanasync.rules.catalog import MAX_URL_LENGTH

URL = "https://app.example.com/hooks/wan"
SECRET = "correct horse battery"
NOW = 1_800_000_000.0
KEY = calls.idempotency_key("a batch", "an item")

keys = st.text(string.ascii_letters + string.digits + "._-", min_size=16, max_size=96)
times = st.floats(0, 4_000_000_000)


def codec(**options: Any) -> CallbackCodec:
    return CallbackCodec(**{"public_url": URL, "secrets": SECRET} | options)


@given(keys, times, st.floats(3600, 366 * DAY))
def test_a_token_names_its_key_until_it_expires(key: str, at: float, lifetime: float) -> None:
    made = codec(lifetime=lifetime)
    assume(at + lifetime + DAY < 2**32)
    token = made.token(key, at)
    assert len(token) <= LONGEST_TOKEN
    assert made.key(token, at) == key
    assert made.key(token, at + lifetime - 1) == key
    with pytest.raises(CallbackError, match="expired"):
        made.key(token, at + lifetime + DAY)


@given(st.text(max_size=200) | st.text(string.ascii_letters + string.digits + "_-", max_size=200))
@example("")
@example("A")
@example("=" * 40)
@example(base64.urlsafe_b64encode(b"\0" * 60).decode())
def test_whatever_else_comes_as_a_token_is_refused(token: str) -> None:
    with pytest.raises(CallbackError):
        codec().key(token, NOW)


@settings(max_examples=300)
@given(st.data())
def test_a_token_with_any_other_character_is_refused(data: st.DataObject) -> None:
    token = codec().token(KEY, NOW)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from(string.ascii_letters + string.digits + "-_="))
    assume(other != token[place])
    with pytest.raises(CallbackError):
        codec().key(token[:place] + other + token[place + 1 :], NOW)


def test_a_token_has_one_spelling() -> None:
    """Of 89 bytes, the last character's lower bits say nothing: three others would be read as the same."""
    token = codec().token(KEY, NOW)
    assert len(token) % 4 == 3
    for other in set(string.ascii_letters + string.digits + "-_") - {token[-1]}:
        with pytest.raises(CallbackError):
            codec().key(token[:-1] + other, NOW)


def test_a_token_is_what_it_was_in_earlier_versions() -> None:
    """Tokens are out while wanasync is brought up to date."""
    token = "AWtT7YB3YW4tMDEyMzQ1Njc4OWFiY2RlZhb6OeWkP9bUTDYdqkCDB20"
    assert codec().token("wan-0123456789abcdef", NOW) == token
    assert codec().key(token, NOW) == "wan-0123456789abcdef"


@given(st.integers(0, LONGEST_TOKEN))
def test_a_token_that_was_cut_is_refused(length: int) -> None:
    token = codec().token(KEY, NOW)
    assume(length < len(token))
    with pytest.raises(CallbackError):
        codec().key(token[:length], NOW)


@given(keys, keys, times)
def test_each_submission_has_a_url_of_its_own_which_stays_the_same_for_a_day(one: str, other: str, at: float) -> None:
    assume(one != other)
    made = codec()
    assert made.url(one, at) != made.url(other, at)
    assert made.url(one, at // DAY * DAY + 1) == made.url(one, at // DAY * DAY + DAY - 1)
    assert made.url(one, at) == f"{URL}/{made.token(one, at)}"


def test_another_secret_makes_other_tokens() -> None:
    token = codec(secrets="another secret, as long").token(KEY, NOW)
    with pytest.raises(CallbackError, match="not one of ours"):
        codec().key(token, NOW)


def test_a_secret_can_be_replaced_while_its_urls_are_out() -> None:
    old, new = codec(secrets=b"the old secret, 16+"), codec(secrets=("the new secret, 16+", b"the old secret, 16+"))
    assert new.key(old.token(KEY, NOW), NOW) == KEY
    assert new.key(new.token(KEY, NOW), NOW) == KEY
    with pytest.raises(CallbackError):
        old.key(new.token(KEY, NOW), NOW)


def test_every_secret_is_compared_whichever_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    real = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    made = codec(secrets=("the first secret, 16+", "the second secret, 16+", "the third secret, 16+"))
    made.key(made.token(KEY, NOW), NOW)
    assert len(compared) == 3


def test_a_url_passes_the_providers_rules_even_at_its_longest() -> None:
    room = MAX_URL_LENGTH - LONGEST_TOKEN - 1 - len(URL) - 1
    made = codec(public_url=f"{URL}/{'x' * room}")
    url = made.url("k" * 96, NOW)
    assert len(url) == MAX_URL_LENGTH
    assert VideoRequest("a cat", callback_url=url).callback_url == url


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("secrets", "too short"),
        ("secrets", b"fifteen bytes.."),
        ("secrets", ()),
        ("secrets", ("long enough, really", "short")),
        ("secrets", (16 * [1],)),
        ("public_url", None),
        ("public_url", ""),
        ("public_url", "app.example.com"),
        ("public_url", "http://app.example.com"),
        ("public_url", "https://10.0.0.1/hook"),
        ("public_url", "https://me@app.example.com"),
        ("public_url", "https://app.example.com/hook?x=1"),
        ("public_url", "https://app.example.com/#x"),
        ("public_url", "https://app.example.com:0/"),
        ("public_url", "https://[::1/"),
        ("public_url", "ftp://localhost/"),
        ("public_url", f"{URL}/{'x' * 2000}"),
        ("lifetime", 60),
        ("lifetime", float("nan")),
        ("lifetime", True),
        ("lifetime", "a week"),
    ],
)
def test_a_setting_that_can_not_work_is_refused(option: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        codec(**{option: value})
    assert str(value) not in str(caught.value) or option != "secrets" or not value


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/hook", "http://localhost/hook", "https://[::1]/hook"])
def test_this_machine_is_reachable_for_an_emulator_on_it_alone(url: str) -> None:
    made = codec(public_url=url)
    check_reachable(made.public_url, "http://127.0.0.1:1234/apiv1")
    with pytest.raises(ConfigError, match="public_url"):
        check_reachable(made.public_url, "https://ai.odkkk.com/apiv1")


def test_the_secret_is_not_shown() -> None:
    assert "horse" not in repr(codec())
    assert "horse" not in repr(attrs.fields_dict(CallbackCodec)["secrets"].default)


class TestBodies:
    def test_a_final_body_is_a_delivery(self) -> None:
        body = json.dumps({"id": "task-1", "status": "completed", "results": ["https://v.example.com/1.mp4"]})
        assert codec().delivery(KEY, body.encode(), NOW) == Delivery(KEY, "task-1", NOW)

    @pytest.mark.parametrize("status", ["failed", "cancelled", "SUCCEEDED", "moderated", "", None, 7])
    def test_whatever_is_not_said_to_go_on_is_looked_at(self, status: object) -> None:
        body = json.dumps({"id": "task-1", "status": status, "progress": "much"})
        assert codec().delivery(KEY, body.encode(), NOW) == Delivery(KEY, "task-1", NOW)

    @pytest.mark.parametrize("status", ["pending", "processing", "Running"])
    def test_what_goes_on_is_no_news(self, status: str) -> None:
        assert codec().delivery(KEY, json.dumps({"id": "task-1", "status": status}).encode(), NOW) is None

    @pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b'{"id": 7}', b'{"id": "a b"}', b"\xff", b"[" * 9999])
    def test_a_body_that_names_no_task_is_refused(self, body: bytes) -> None:
        with pytest.raises(CallbackError, match="understood"):
            codec().delivery(KEY, body, NOW)
