from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanasync import ConfigError, NameTemplate, RequestValidationError, VideoRequest
from wanasync.rules.naming import is_inside
from wanasync.rules.templates import FIELDS

NOON = 1_700_000_000.0


def named(template: str, request: VideoRequest | None = None, item_id: str = "cat/1") -> str:
    return NameTemplate(template).name(request or VideoRequest("A cat, playing piano!"), 6, item_id, NOON)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{index:06d}-{slug}-{id}.mp4", "000006-a-cat-playing-piano-cat-1.mp4"),
        ("{number}", "7.mp4"),
        ("{date}/{quality}/{aspect_ratio}/{duration}s/{slug:.5}.mp4", "2023-11-14/720p/16x9/5s/a-cat.mp4"),
        ("{model}/{id}.MP4", "wan2.5-text-to-video/cat-1.MP4"),
        ("{{x}}-{index}", "{x}-6.mp4"),
    ],
)
def test_fields_become_what_they_stand_for(template: str, name: str) -> None:
    assert named(template) == name


def test_settings_that_were_given_are_named() -> None:
    request = VideoRequest("x", quality="1080p", aspect_ratio="3:4", duration=10)
    assert named("{quality}-{aspect_ratio}-{duration}", request) == "1080p-3x4-10.mp4"


def test_a_prompt_without_words_is_a_video() -> None:
    assert named("{slug}", VideoRequest("!!!")) == "video.mp4"


@pytest.mark.parametrize(
    "template",
    [
        "{nonsense}",
        "{}",
        "{0}",
        "{id.__class__}",
        "{id[0]}",
        "{id!r}",
        "{index:999999999d}",
        "{slug:{index}}",
        "{slug:d}",
        "{index",
        "../{index}",
        "/{index}",
        "C:{index}",
        ".{index}",
        "a/./../{index}",
        "{index}/",
        "{index}\x00",
        "con/{index}",
        "",
        "x" * 200,
    ],
)
def test_a_template_that_can_not_be_is_refused_at_once(template: str) -> None:
    with pytest.raises(ConfigError):
        NameTemplate(template)


def test_a_name_too_long_is_refused_and_not_cut() -> None:
    template = NameTemplate("{slug}-{slug}-{slug}-{slug}")
    with pytest.raises(RequestValidationError, match="longer than"):
        template.name(VideoRequest("word " * 30), 0, "x", NOON)


@given(st.text(min_size=1, max_size=60).filter(str.strip), st.text(min_size=1, max_size=60))
def test_whatever_prompts_and_ids_hold_names_stay_in_the_directory(prompt: str, item_id: str) -> None:
    template = NameTemplate(
        "{date}/" + "-".join(f"{{{name}:.8}}" for name in FIELDS if name not in ("index", "number"))
    )
    try:
        request = VideoRequest(prompt)
    except RequestValidationError:
        return
    assert is_inside(template.name(request, 0, item_id, NOON))
