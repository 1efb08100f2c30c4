from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wanasync.emulator.refusals import Refusal
from wanasync.emulator.validation import MODELS, Wish, check_callback_url, parse_json, read_submission

T = TypeVar("T")
WISH = {"model": "wan2.5-text-to-video", "prompt": "A cat playing piano"}
CALLBACK = "https://app.example.com/hooks/wan/token"


def refused(body: object) -> Refusal:
    with pytest.raises(Refusal) as caught:
        read_submission(body)
    return caught.value


def test_what_is_left_out_has_the_documents_defaults() -> None:
    assert read_submission(WISH) == Wish("wan2.5-text-to-video", "A cat playing piano", "720p", "16:9", 5, None)


def test_everything_may_be_given_and_more() -> None:
    body = WISH | {
        "quality": "1080p",
        "aspect_ratio": "4:3",
        "duration": 10,
        "prompt_extend": False,
        "callback_url": CALLBACK,
        "seed": 7,
    }
    assert read_submission(body) == Wish("wan2.5-text-to-video", "A cat playing piano", "1080p", "4:3", 10, CALLBACK)


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("model", None),
        ("model", 5),
        ("prompt", None),
        ("prompt", ["a", "cat"]),
        ("prompt", "x" * 2001),
        ("prompt", "half a pair: \ud83d"),
        ("quality", "4k"),
        ("quality", 720),
        ("quality", None),
        ("aspect_ratio", "21:9"),
        ("duration", 6),
        ("duration", "5"),
        ("duration", True),
        ("duration", 5.5),
        ("duration", None),
        ("prompt_extend", "true"),
        ("prompt_extend", None),
        ("callback_url", None),
        ("callback_url", ""),
        ("callback_url", "http://app.example.com/hook"),
        ("callback_url", "https://app.example.com/" + "x" * 2048),
    ],
)
def test_a_wrong_value_names_its_parameter(param: str, value: object) -> None:
    refusal = refused(WISH | {param: value})
    assert (refusal.kind, refusal.param) == ("bad_request", param)


@pytest.mark.parametrize("param", ["model", "prompt"])
def test_what_is_required_must_be_there(param: str) -> None:
    refusal = refused({name: value for name, value in WISH.items() if name != param})
    assert (refusal.kind, refusal.param) == ("bad_request", param)


@pytest.mark.parametrize("shape", ["4:3", "3:4"])
def test_some_shapes_start_at_720p(shape: str) -> None:
    assert refused(WISH | {"quality": "480p", "aspect_ratio": shape}).param == "aspect_ratio"
    assert read_submission(WISH | {"quality": "720p", "aspect_ratio": shape}).aspect_ratio == shape


def test_2000_characters_are_not_too_many_whatever_they_weigh() -> None:
    assert len(read_submission(WISH | {"prompt": "猫" * 2000}).prompt) == 2000


def test_an_unknown_model_is_another_refusal_with_a_suggestion() -> None:
    refusal = refused(WISH | {"model": "wan9"})
    assert (refusal.kind, refusal.param, refusal.suggestion) == ("no_model", "model", "wan2.5-text-to-video")


def test_the_sibling_needs_an_image() -> None:
    sibling = WISH | {"model": "wan2.5-image-to-video"}
    assert read_submission(sibling | {"image_urls": ["https://x.example/a.png"]}).model == "wan2.5-image-to-video"
    for images in (None, [], "https://x.example/a.png", [5], ["file:///etc/passwd"]):
        assert refused(sibling | {"image_urls": images}).param == "image_urls"
    assert refused(sibling).param == "image_urls"


@pytest.mark.parametrize("body", [[], "text", 5, None, True])
def test_a_body_must_be_an_object(body: object) -> None:
    assert refused(body).kind == "bad_request"


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"{'a': 1}", b'{"a": NaN}', b'{"a": Infinity}', b"\xff\xfe", b"[" * 100_000, b"1" * 5000],
)
def test_what_is_not_json_is_refused(raw: bytes) -> None:
    with pytest.raises(Refusal):
        parse_json(raw)


INTERNAL = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "0",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[fd00::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:10.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "localhost",
    "LOCALHOST.",
    "app.localhost",
    "printer.local",
    "db.internal",
    "127.0.0.1.",
    "127。0。0。1",
    "①②⑦.⓪.⓪.①",
    "%31%32%37.0.0.1",
    # Numbers that are no address.
    "127.0.0.08",
    "256.1.1.1",
    "8.8.8.8.8",
    "x.8",
    "4294967296",
]


@pytest.mark.parametrize("host", INTERNAL)
def test_a_callback_never_goes_to_an_internal_address(host: str) -> None:
    with pytest.raises(Refusal) as caught:
        check_callback_url(f"https://{host}/hook")
    assert caught.value.param == "callback_url"
    check_callback_url(f"https://{host}/hook", local=True)


@pytest.mark.parametrize(
    "host",
    [
        "app.example.com",
        "8.8.8.8",
        "172.32.0.1",
        "[2606:4700::1111]",
        "[::ffff:8.8.8.8]",
        "münchen.example",
        "1.2.3.4.5.example",
    ],
)
def test_a_callback_may_go_anywhere_else(host: str) -> None:
    check_callback_url(f"https://{host}:8443/hook?token=x")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x.example/",
        "//x.example/",
        "https://",
        "https:///path",
        "https://[::1",
        "https://x.example:99999/",
        "https://x.example/a b",
    ],
)
def test_what_is_not_a_url_is_refused_even_for_tests(url: str) -> None:
    with pytest.raises(Refusal):
        check_callback_url(url, local=True)


def attempt(check: Callable[[Any], T], value: object) -> T | Refusal:
    try:
        return check(value)
    except Refusal as refusal:
        return refusal


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    ["model", "prompt", "quality", "aspect_ratio", "duration", "prompt_extend", "callback_url", "image_urls"]
)


@given(st.dictionaries(names, values | st.sampled_from([*MODELS, "720p", "16:9", 5, True, CALLBACK])))
@settings(max_examples=150, deadline=None)
def test_any_body_is_taken_or_refused_with_a_parameter(body: dict[str, Any]) -> None:
    outcome = attempt(read_submission, body)
    if isinstance(outcome, Refusal):
        assert outcome.param in body or outcome.param in ("model", "prompt", "image_urls")
    else:
        assert outcome.aspect_ratio in MODELS[outcome.model].shapes[outcome.quality]


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_callback_url_is_taken_or_refused(rest: str) -> None:
    refusal = attempt(check_callback_url, f"https://{rest}")
    assert refusal is None or refusal.param == "callback_url"
