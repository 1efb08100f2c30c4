"""The models: what each one's document allows, with where that is written. A further model is one more entry.

Counting follows the documents' JSON schemas: a prompt's length is in characters (code points), although their prose
says "tokens".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn
from urllib.parse import SplitResult, urlsplit

from attrs import field, frozen

from wanasync.errors import RequestValidationError
from wanasync.rules.addresses import host_problem

__all__ = [
    "DEFAULT_MODEL",
    "MAX_URL_LENGTH",
    "MODELS",
    "ModelSpec",
    "check",
    "check_callback_url",
    "check_prompt",
    "defaults",
]

DEFAULT_MODEL = "wan2.5-text-to-video"

MAX_URL_LENGTH = 2048
"""Of a callback URL, in characters; from the provider's document."""

_LANDSCAPE_PORTRAIT_SQUARE = ("16:9", "9:16", "1:1")
_ALL_RATIOS = (*_LANDSCAPE_PORTRAIT_SQUARE, "4:3", "3:4")


def _read_only(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(mapping))


@frozen
class ModelSpec:
    """What one model accepts.

    `aspect_ratios` holds the ratios of each quality; empty tuples where the model takes no ratio at all. `durations`
    are seconds. `image_counts` says how many links `image_urls` may hold. `defaults` are the provider's own: what a
    field that is left out comes to. `source` says where the rules are written.
    """

    name: str
    source: str
    aspect_ratios: Mapping[str, tuple[str, ...]] = field(converter=_read_only)
    durations: tuple[int, ...]
    max_prompt_length: int
    image_counts: tuple[int, ...]
    defaults: Mapping[str, Any] = field(converter=_read_only)

    @property
    def qualities(self) -> tuple[str, ...]:
        return tuple(self.aspect_ratios)

    @property
    def needs_image(self) -> bool:
        return 0 not in self.image_counts


MODELS: Mapping[str, ModelSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            ModelSpec(
                name=DEFAULT_MODEL,
                source="the provider's document of POST /v1/videos/generations",
                aspect_ratios={"480p": _LANDSCAPE_PORTRAIT_SQUARE, "720p": _ALL_RATIOS, "1080p": _ALL_RATIOS},
                durations=(5, 10),
                max_prompt_length=2000,
                image_counts=(0,),
                defaults={"quality": "720p", "aspect_ratio": "16:9", "duration": 5, "prompt_extend": True},
            ),
            ModelSpec(
                name="wan2.5-image-to-video",
                # Older copies of the page say 1,000 characters; the newer ones, followed here, 2,000. It lists no
                # aspect ratio: the video takes the shape of its first frame. The qualities are inferred from the
                # page of its text sibling: what this host takes beyond them, or refuses of them, is not known.
                source="docs.evolink.ai, wan2.5-image-to-video; qualities inferred from wan2.5-text-to-video",
                aspect_ratios={"480p": (), "720p": (), "1080p": ()},
                durations=(5, 10),
                max_prompt_length=2000,
                image_counts=(1,),
                defaults={"quality": "720p", "duration": 5, "prompt_extend": True},
            ),
        )
    }
)


def defaults(model: str) -> Mapping[str, Any]:
    """The provider's defaults of `model`: what it takes a left-out field for. Raises `RequestValidationError`."""
    return _spec(model).defaults


def check(model: str, fields: Mapping[str, Any], extra: Mapping[str, Any]) -> None:
    """Hold a request against its model's document.

    `fields` are the typed fields that were given, `extra` the further API fields. Raises `RequestValidationError`
    for the first rule that is broken; nothing is ever corrected in silence.
    """
    spec = _spec(model)
    if "prompt" not in fields:
        _refuse("prompt", None, "is required")
    if spec.needs_image and "image_urls" not in fields:
        _refuse("image_urls", (), f"is required by {spec.name}, {_links(spec)} of them")
    for name, value in fields.items():
        rule = _RULES.get(name)
        if rule is None:
            _refuse(name, value, "is not a field of a request", tuple(_RULES))
        rule(spec, value, fields)
    if extra:
        _check_extra(extra)


def check_prompt(model: str, prompt: str) -> None:
    """Hold a prompt alone against its model's document: all that differs between the lines of many a list.

    Raises `RequestValidationError`.
    """
    _check_prompt(_spec(model), prompt, {})


def _spec(model: object) -> ModelSpec:
    spec = MODELS.get(model) if isinstance(model, str) else None
    if spec is None:
        _refuse("model", model, "is not a model known here", tuple(MODELS))
    return spec


def _refuse(name: str, value: object, reason: str, allowed: tuple[object, ...] = ()) -> NoReturn:
    raise RequestValidationError(name, value, reason, allowed)


def _check_prompt(spec: ModelSpec, value: Any, _: Mapping[str, Any]) -> None:
    if not isinstance(value, str):
        _refuse("prompt", value, "must be text")
    if not value.strip():
        _refuse("prompt", value, "must not be blank")
    if len(value) > spec.max_prompt_length:
        _refuse("prompt", value, f"has {len(value)} characters, at most {spec.max_prompt_length} are allowed")
    if not _is_encodable(value):
        _refuse("prompt", value, "holds half of a surrogate pair, which can't be sent")


def _is_encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_quality(spec: ModelSpec, value: Any, _: Mapping[str, Any]) -> None:
    if not isinstance(value, str) or value not in spec.aspect_ratios:
        _refuse("quality", value, "is not a quality of this model", spec.qualities)


def _check_aspect_ratio(spec: ModelSpec, value: Any, fields: Mapping[str, Any]) -> None:
    quality = fields.get("quality", spec.defaults["quality"])
    allowed = spec.aspect_ratios.get(quality, ()) if isinstance(quality, str) else ()
    if value in allowed:
        return
    elsewhere = [name for name, ratios in spec.aspect_ratios.items() if value in ratios]
    if elsewhere:
        _refuse("aspect_ratio", value, f"needs quality {' or '.join(elsewhere)}, not {quality}", allowed)
    if not any(spec.aspect_ratios.values()):
        _refuse("aspect_ratio", value, f"is not a field of {spec.name}: the video takes its image's shape")
    _refuse("aspect_ratio", value, "is not an aspect ratio of this model", allowed)


def _check_duration(spec: ModelSpec, value: Any, _: Mapping[str, Any]) -> None:
    # bool is an int to Python, and True would be sent as `true`; 5.0 would be sent as `5.0`.
    if not isinstance(value, int) or isinstance(value, bool) or value not in spec.durations:
        _refuse("duration", value, "must be a whole number of seconds of this model", spec.durations)


def _check_prompt_extend(_: ModelSpec, value: Any, __: Mapping[str, Any]) -> None:
    if not isinstance(value, bool):
        _refuse("prompt_extend", value, "must be true or false", (True, False))


def _check_image_urls(spec: ModelSpec, value: Any, _: Mapping[str, Any]) -> None:
    if not isinstance(value, tuple | list):
        _refuse("image_urls", value, "must be a list of links")
    if not any(spec.image_counts):
        _refuse("image_urls", value, f"is not a field of {spec.name}")
    if len(value) not in spec.image_counts:
        _refuse("image_urls", value, f"holds {len(value)} links, {spec.name} takes {_links(spec)}")
    for url in value:
        parts = _split_url("image_urls", url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            _refuse("image_urls", url, "must be an http or https link")


def _links(spec: ModelSpec) -> str:
    return " or ".join(str(count) for count in spec.image_counts)


def check_callback_url(value: Any) -> None:
    """Hold a callback URL against the provider's document. Raises `RequestValidationError`."""
    parts = _split_url("callback_url", value)
    if len(value) > MAX_URL_LENGTH:
        _refuse("callback_url", value, f"has {len(value)} characters, at most {MAX_URL_LENGTH} are allowed")
    if parts.scheme != "https":
        _refuse("callback_url", value, "must be an https address")
    if "@" in parts.netloc:
        _refuse("callback_url", value, "must not hold a user name or password")
    problem = host_problem(parts.hostname or "")
    if problem:
        _refuse("callback_url", value, f"{problem}; the provider calls back to public hosts only")


_PLAIN_URL = re.compile(r"[!-~]+", re.ASCII)


def _split_url(name: str, value: Any) -> SplitResult:
    """Split a URL that every parser reads alike: printable ASCII, no backslash, a port that is one."""
    if not isinstance(value, str):
        _refuse(name, value, "must be text")
    if not _PLAIN_URL.fullmatch(value) or "\\" in value:
        _refuse(name, value, "must be a URL in plain ASCII, without spaces, control characters or backslashes")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise RequestValidationError(name, value, f"is not a URL: {error}") from error
    if port == 0:
        _refuse(name, value, "has port 0")
    return parts


_RULES: Mapping[str, Callable[[ModelSpec, Any, Mapping[str, Any]], None]] = MappingProxyType(
    {
        "prompt": _check_prompt,
        "quality": _check_quality,
        "aspect_ratio": _check_aspect_ratio,
        "duration": _check_duration,
        "prompt_extend": _check_prompt_extend,
        "image_urls": _check_image_urls,
        "callback_url": lambda _, value, __: check_callback_url(value),
    }
)


def _check_extra(extra: Mapping[Any, Any]) -> None:
    for name in extra:
        if not isinstance(name, str) or not name:
            _refuse("extra", name, "must name its fields with text")
        if name == "model" or name in _RULES:
            _refuse("extra", name, f"must not repeat {name}: set the request's own field")
    _check_nested(extra, _DEEPEST)
    try:
        json.dumps(extra, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise RequestValidationError("extra", extra, f"can't be written as JSON: {error}") from error


_DEEPEST = 64


def _check_nested(value: Any, levels: int) -> None:
    if not isinstance(value, Mapping | list | tuple):
        return
    if levels == 0:
        _refuse("extra", "…", f"is nested more than {_DEEPEST} levels deep")
    # JSON would turn a key that is a number into text, and the request read back would be another one.
    if isinstance(value, Mapping) and not all(isinstance(key, str) for key in value):
        _refuse("extra", value, "must name its fields with text, nested ones too")
    for inner in value.values() if isinstance(value, Mapping) else value:
        _check_nested(inner, levels - 1)
