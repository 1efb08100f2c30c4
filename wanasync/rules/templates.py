"""Names of videos after a pattern of the user's: ``{index:06d}-{slug}.mp4``."""

from __future__ import annotations

import re
import string
from datetime import UTC, datetime
from typing import Any

from attrs import field, frozen

from wanasync.errors import ConfigError, RequestValidationError
from wanasync.models import VideoRequest
from wanasync.rules import catalog
from wanasync.rules.naming import SUFFIX, safe_stem, slug, wanted_name

__all__ = ["FIELDS", "NameTemplate"]

FIELDS = {
    "index": "the item's place in the list, from 0",
    "number": "the same, from 1",
    "id": "the item's id, or the one made from its content",
    "slug": "the prompt's words, joined by dashes",
    "quality": "such as 720p",
    "aspect_ratio": "such as 16x9",
    "duration": "seconds",
    "model": "the model's name",
    "date": "the day the item was first read, in UTC: 2026-01-31",
}
"""What a template may name, and what that becomes."""

_NUMBERS = ("index", "number")
_SPEC = re.compile(r"[<>^]?(0?[1-9][0-9]?)?(\.[1-9][0-9]?)?[ds]?", re.ASCII)
"""Widths and lengths of two digits: a name has no room for more."""

_SAMPLE = VideoRequest("a name")


def _checked(_: object, __: object, template: str) -> None:
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"the name {template!r} can't be read: {error}", "name") from error
    for _literal, name, spec, conversion in parsed:
        if name is None:
            continue
        if name not in FIELDS:
            raise ConfigError(f"{{{name}}} is no field of a name; there are {', '.join(FIELDS)}", "name")
        wrong = conversion or not _SPEC.fullmatch(spec or "") or ((spec or "")[-1:] == "d" and name not in _NUMBERS)
        if wrong:
            raise ConfigError(f"{{{name}:{spec}}}: widths look like {{index:06d}}, lengths like {{slug:.20}}", "name")


@frozen
class NameTemplate:
    """How the videos of a batch are named, such as ``"{date}/{index:06d}-{slug:.30}.mp4"``.

    Fields are index, number, id, slug, quality, aspect_ratio, duration, model and date; `/` makes folders. What a
    field brings is made safe; the whole is refused where it isn't a name below the batch's directory. Two items of a
    list must not come to one name, which `{index}`, `{number}` or `{id}` sees to. Raises `ConfigError`.
    """

    template: str = field(validator=_checked)

    def __attrs_post_init__(self) -> None:
        try:
            self.name(_SAMPLE, 0, "id", 0.0)
        except (RequestValidationError, ValueError) as error:
            raise ConfigError(f"the name {self.template!r} won't do: {error}", "name") from error

    def name(self, request: VideoRequest, index: int, item_id: str, at: float) -> str:
        """The name of one item's video; `at` is unix seconds. Raises `RequestValidationError` where it can't be had."""
        default = catalog.defaults(request.model).get
        fields: dict[str, Any] = {
            "index": index,
            "number": index + 1,
            "id": safe_stem(item_id, "item"),
            "slug": slug(request.prompt) or "video",
            "quality": _said(request.quality or default("quality")),
            "aspect_ratio": _said(request.aspect_ratio or default("aspect_ratio")).replace("-", "x"),
            "duration": _said(request.duration or default("duration")),
            "model": _said(request.model),
            "date": datetime.fromtimestamp(at, UTC).date().isoformat(),
        }
        name = self.template.format_map(fields)
        return wanted_name(name if name.lower().endswith(SUFFIX) else name + SUFFIX)


def _said(value: object) -> str:
    return "any" if value is None else safe_stem(str(value), "any")
