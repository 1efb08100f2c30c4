from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.test_addresses import internal_ipv4, spellings
from wanasync.errors import RequestValidationError
from wanasync.models import VideoRequest
from wanasync.rules.catalog import DEFAULT_MODEL, MODELS, check, defaults

IMAGE_MODEL = "wan2.5-image-to-video"
RATIOS_480P = {"16:9", "9:16", "1:1"}
RATIOS = {*RATIOS_480P, "4:3", "3:4"}


def refusal(**fields: Any) -> RequestValidationError:
    with pytest.raises(RequestValidationError) as caught:
        VideoRequest(**{"prompt": "A cat", **fields})
    return caught.value


def test_the_minimal_request_is_valid() -> None:
    assert VideoRequest("A cat playing piano").fields() == {"prompt": "A cat playing piano"}


def test_the_provider_s_defaults_are_told() -> None:
    expected = {"quality": "720p", "aspect_ratio": "16:9", "duration": 5, "prompt_extend": True}
    assert dict(defaults(DEFAULT_MODEL)) == expected


@pytest.mark.parametrize("name", MODELS)
def test_a_model_s_defaults_are_valid_values_of_it(name: str) -> None:
    images = ("https://example.com/a.png",) if MODELS[name].needs_image else ()
    request = VideoRequest("A cat", model=name, image_urls=images, **defaults(name))
    assert request.quality == "720p"


@pytest.mark.parametrize("quality", ["480p", "720p", "1080p", None])
def test_each_quality_has_the_documented_ratios(quality: str | None) -> None:
    allowed = RATIOS_480P if quality == "480p" else RATIOS
    for ratio in RATIOS:
        if ratio in allowed:
            assert VideoRequest("A cat", quality=quality, aspect_ratio=ratio).aspect_ratio == ratio
        else:
            error = refusal(quality=quality, aspect_ratio=ratio)
            assert error.field == "aspect_ratio"
            assert "720p or 1080p" in error.reason
            assert set(error.allowed) == allowed


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("quality", "4k", ("480p", "720p", "1080p")),
        ("quality", 720, ("480p", "720p", "1080p")),
        ("quality", ["720p"], ("480p", "720p", "1080p")),
        ("aspect_ratio", "21:9", ("16:9", "9:16", "1:1", "4:3", "3:4")),
        ("aspect_ratio", 1.78, ("16:9", "9:16", "1:1", "4:3", "3:4")),
        ("aspect_ratio", {"16": 9}, ("16:9", "9:16", "1:1", "4:3", "3:4")),
        ("duration", 7, (5, 10)),
        ("duration", "5", (5, 10)),
        ("duration", 5.0, (5, 10)),
        ("duration", True, (5, 10)),
        ("prompt_extend", 1, (True, False)),
        ("prompt_extend", "false", (True, False)),
        ("model", "wan9", (DEFAULT_MODEL, IMAGE_MODEL)),
        ("model", None, (DEFAULT_MODEL, IMAGE_MODEL)),
        ("model", ["wan"], (DEFAULT_MODEL, IMAGE_MODEL)),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(field: str, value: object, allowed: tuple[object, ...]) -> None:
    error = refusal(**{field: value})
    assert (error.field, error.value, error.allowed) == (field, value, allowed)
    assert all(str(choice) in str(error) for choice in allowed)


@pytest.mark.parametrize("prompt", ["", "   ", "\n\t", "\u3000", None, 5, b"cat", ["cat"], "half \ud83d a pair"])
def test_a_prompt_that_can_t_be_sent_is_refused(prompt: object) -> None:
    assert refusal(prompt=prompt).field == "prompt"


def test_a_prompt_is_counted_in_characters() -> None:
    assert VideoRequest("🐈" * 2000).prompt
    assert "2001 characters" in refusal(prompt="🐈" * 2001).reason


def test_a_prompt_is_required_even_without_the_record() -> None:
    with pytest.raises(RequestValidationError, match="required"):
        check(DEFAULT_MODEL, {}, {})


def test_a_field_that_no_request_has_is_refused() -> None:
    with pytest.raises(RequestValidationError, match="not a field"):
        check(DEFAULT_MODEL, {"prompt": "A cat", "colour": "red"}, {})


# Images


def test_an_image_model_takes_exactly_one_image() -> None:
    link = "https://example.com/a.png"
    assert VideoRequest("A cat", model=IMAGE_MODEL, image_urls=[link]).image_urls == (link,)
    assert "required" in refusal(model=IMAGE_MODEL).reason
    assert "holds 2 links" in refusal(model=IMAGE_MODEL, image_urls=(link, link)).reason


@pytest.mark.parametrize("link", [5, "", "cat.png", "file:///etc/passwd", "https://", "https://a b/c", "https://a:x/"])
def test_an_image_must_be_a_link(link: object) -> None:
    assert refusal(model=IMAGE_MODEL, image_urls=(link,)).field == "image_urls"


def test_image_urls_must_be_a_list() -> None:
    with pytest.raises(RequestValidationError, match="list"):
        check(IMAGE_MODEL, {"prompt": "A cat", "image_urls": "https://example.com/a.png"}, {})


def test_a_text_model_takes_no_image() -> None:
    assert refusal(image_urls=("https://example.com/a.png",)).field == "image_urls"


def test_an_image_model_takes_no_ratio() -> None:
    error = refusal(model=IMAGE_MODEL, image_urls=("https://example.com/a.png",), aspect_ratio="16:9")
    assert error.field == "aspect_ratio"
    assert error.allowed == ()


# Callbacks


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/wan/abc?x=1",
        "https://hooks.example.com:8443/wan",
        "HTTPS://Hooks.Example.Com/",
        "https://8.8.8.8/hook",
        "https://[2606:4700::1111]/hook",
        "https://xn--bcher-kva.example/hook",
    ],
)
def test_public_https_callbacks_pass(url: str) -> None:
    assert VideoRequest("A cat", callback_url=url).callback_url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "ftp://hooks.example.com/",
        "//hooks.example.com/",
        "hooks.example.com",
        "https://",
        "https:///path",
        "https://user@hooks.example.com/",
        "https://user:secret@hooks.example.com/",
        "https://@hooks.example.com/",
        "https://127.0.0.1@hooks.example.com/",
        "https://hooks.example.com:0/",
        "https://hooks.example.com:99999/",
        "https://hooks.example.com:port/",
        "https://hooks.example.com\\@127.0.0.1/",
        "https://hooks.example.com/a\\b",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/\n",
        "https://hooks.example.com/ü",
        "https://１２７.0.0.1/",
        "https://localhost/",
        "https://a.localhost./",
        "https://db.internal/",
        "https://[::1]/",
        "https://[::1/",
        "https://[fe80::1%25eth0]/",
        "https://127.0.0.1%2f.example.com/",
        f"https://hooks.example.com/{'a' * 2048}",
        b"https://hooks.example.com/",
        5,
    ],
)
def test_other_callbacks_are_refused(url: object) -> None:
    error = refusal(callback_url=url)
    assert (error.field, error.value) == ("callback_url", url)


def test_a_callback_may_have_2048_characters() -> None:
    start = "https://hooks.example.com/"
    longest = start + "a" * (2048 - len(start))
    assert VideoRequest("A cat", callback_url=longest).callback_url == longest
    assert "2049 characters" in refusal(callback_url=start + "a" * (2049 - len(start))).reason


@given(internal_ipv4(), st.sampled_from(["", ":443", ":8443"]))
def test_no_spelling_of_an_internal_callback_address_passes(address: Any, port: str) -> None:
    for host in spellings(address):
        shown = f"[{host}]" if ":" in host else host
        assert refusal(callback_url=f"https://{shown}{port}/hook").field == "callback_url"


# Further fields


def test_further_fields_are_kept_untouched() -> None:
    request = VideoRequest("A cat", extra={"seed": 7, "model_params": {"shot_type": "multi"}})
    assert request.extra == {"seed": 7, "model_params": {"shot_type": "multi"}}


@pytest.mark.parametrize("name", ["model", "prompt", "quality", "duration", "image_urls", "callback_url"])
def test_a_further_field_can_t_shadow_a_typed_one(name: str) -> None:
    error = refusal(extra={name: "x"})
    assert (error.field, error.value) == ("extra", name)


@pytest.mark.parametrize(
    "extra",
    [
        {"": 1},
        {5: 1},
        {"a": {5: 1}},
        {"a": float("nan")},
        {"a": [float("inf")]},
        {"a": "\ud800"},
        {"a": {1, 2}},
        {"a": b"bytes"},
        {"a": object()},
        {"a": 10**5000},
        "text",
    ],
)
def test_further_fields_that_can_t_be_written_as_json_are_refused(extra: object) -> None:
    assert refusal(extra=extra).field == "extra"


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


def test_further_fields_nested_without_end_are_refused() -> None:
    for levels in (64, 200, 5000, 100_000):
        assert refusal(extra={"a": nested(levels)}).field == "extra"
    assert VideoRequest("A cat", extra={"a": nested(63)}).extra
    loop: dict[str, object] = {}
    loop["a"] = loop
    assert refusal(extra=loop).field == "extra"


@given(
    st.dictionaries(
        st.sampled_from(["prompt", "quality", "aspect_ratio", "duration", "prompt_extend", "callback_url", "model"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=4,
        ),
    )
)
def test_any_values_are_judged_with_a_validation_error_or_pass(fields: dict[str, Any]) -> None:
    try:
        request = VideoRequest(**{"prompt": "A cat", **fields})
    except RequestValidationError as error:
        said = str(error)
        assert said.startswith(error.field)  # noqa: PT017 - either end of the request is fine, a third is not
    else:
        assert request.fields()["prompt"].strip()
