"""The flags that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "FLAG",
    "ApiKey",
    "AspectRatio",
    "BaseUrl",
    "Database",
    "Duration",
    "Emulated",
    "Json",
    "ListFormat",
    "ListSource",
    "MaxConcurrent",
    "MaxRpm",
    "Model",
    "NoPromptExtend",
    "OnUnknown",
    "Plain",
    "Quality",
    "Quiet",
    "RetryFailed",
    "State",
    "Table",
    "ToDirectory",
    "ToPlace",
    "Verbose",
    "VideosHere",
    "request_fields",
]

_PROVIDER = "Provider"
_REQUESTS = "Requests"
_SCREEN = "Output"

FLAG = ""
"""What stands behind an option that takes no value; newer typers say `<bool>` where nothing is said."""


def _one_of(*words: str) -> Callable[[str], list[str]]:
    """What the shell offers after an option. Other words are not refused here: what is allowed is the model's rule."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


Emulated = Annotated[
    bool,
    typer.Option(
        "--emulator",
        metavar=FLAG,
        help="Use an emulated provider: no key, no cost, real videos.",
        rich_help_panel=_PROVIDER,
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="Better set WAN_API_KEY: other users of this machine may see command lines.",
        rich_help_panel=_PROVIDER,
    ),
]
BaseUrl = Annotated[
    str | None, typer.Option(metavar="URL", help="The API's address (WAN_BASE_URL).", rich_help_panel=_PROVIDER)
]
OnUnknown = Annotated[
    str | None,
    typer.Option(
        metavar="hold|replay|resubmit",
        autocompletion=_one_of("hold", "replay", "resubmit"),
        help="Where a submission's reply is lost: hold it (default), ask again with the same key, or send it anew.",
        rich_help_panel=_PROVIDER,
    ),
]
MaxRpm = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Submissions a minute, where the limit is known.", rich_help_panel=_PROVIDER),
]
MaxConcurrent = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Unfinished tasks, where the limit is known.", rich_help_panel=_PROVIDER),
]

Quality = Annotated[
    str | None,
    typer.Option(
        metavar="480p|720p|1080p",
        autocompletion=_one_of("480p", "720p", "1080p"),
        rich_help_panel=_REQUESTS,
        help="Default 720p.",
    ),
]
AspectRatio = Annotated[
    str | None,
    typer.Option(
        metavar="W:H",
        autocompletion=_one_of("16:9", "9:16", "1:1", "4:3", "3:4"),
        rich_help_panel=_REQUESTS,
        help="16:9 (default), 9:16, 1:1, 4:3 or 3:4.",
    ),
]
Duration = Annotated[
    int | None,
    typer.Option(
        metavar="SECONDS",
        autocompletion=_one_of("5", "10"),
        rich_help_panel=_REQUESTS,
        help="5 (default) or 10.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        autocompletion=_one_of("wan2.5-text-to-video", "wan2.5-image-to-video"),
        rich_help_panel=_REQUESTS,
        help="wan2.5-text-to-video (default) or wan2.5-image-to-video.",
    ),
]
NoPromptExtend = Annotated[
    bool,
    typer.Option(
        "--no-prompt-extend", metavar=FLAG, rich_help_panel=_REQUESTS, help="Take prompts as they are, not elaborated."
    ),
]

Json = Annotated[
    bool, typer.Option("--json", metavar=FLAG, help="One JSON object a line on stdout.", rich_help_panel=_SCREEN)
]
Plain = Annotated[
    bool,
    typer.Option(
        "--plain", "--no-progress", metavar=FLAG, help="Plain lines, no live display.", rich_help_panel=_SCREEN
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", metavar=FLAG, help="Only errors.", rich_help_panel=_SCREEN)]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        metavar=FLAG,
        count=True,
        show_default=False,
        help="A line for each item.",
        rich_help_panel=_SCREEN,
    ),
]

ListSource = Annotated[str, typer.Argument(metavar="LIST", help="A .txt, .csv, .jsonl or .json list; - reads stdin.")]
ListFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="txt|csv|jsonl|json",
        autocompletion=_one_of("txt", "csv", "jsonl", "json"),
        help="The list's kind, if its name doesn't tell.",
    ),
]
Database = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Better set WAN_DATABASE_URL: other users of this machine see command lines."),
]
VideosHere = Annotated[
    Path | None,
    typer.Option("--to", "-o", metavar="DIR", help="Where a shared batch's videos are here, if not where it was told."),
]
RetryFailed = Annotated[
    int,
    typer.Option(
        min=0, metavar="N", help="Ask up to N further tasks of an item that failed by the provider's own fault."
    ),
]
ToDirectory = Annotated[Path, typer.Option("--to", "-o", metavar="DIR", help="Where the videos go.")]
ToPlace = Annotated[
    str,
    typer.Option("--to", "-o", metavar="DIR|URL", help="Where the videos go; also s3://bucket/prefix, gs://…, az://…."),
]
State = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="With a URL: where the journal is kept (default ./.wanasync-…, named after the URL)."
    ),
]
Table = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write a row for each item: .csv, .jsonl or .parquet.", rich_help_panel=_SCREEN),
]


def request_fields(
    quality: str | None, aspect_ratio: str | None, duration: int | None, model: str | None, no_prompt_extend: bool
) -> dict[str, Any]:
    """The fields of requests that were given as flags."""
    fields = {
        "quality": quality,
        "aspect_ratio": aspect_ratio,
        "duration": duration,
        "model": model,
        "prompt_extend": False if no_prompt_extend else None,
    }
    return {name: value for name, value in fields.items() if value is not None}
