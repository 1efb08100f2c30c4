"""What an emulated provider is like: every option in one place."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import attrs
from attrs import define, field

from wanasync.emulator.limiters import Hint, Limiter
from wanasync.emulator.timing import Durations, Progress, Uniform, linear, timing
from wanasync.emulator.trouble import Trouble
from wanasync.emulator.validation import MODELS, ModelRules
from wanasync.emulator.videos import TINY_CLIP
from wanasync.errors import ConfigError

__all__ = ["PRICES", "Settings"]

PRICES: Mapping[str, float] = {"480p": 0.5, "720p": 1.0, "1080p": 1.5}
"""Credits per second of video. The document gives one example (5 credits) and that lower quality costs less."""


def _hint(hint: Hint | str | float) -> Hint:
    if isinstance(hint, Hint):
        return hint
    try:
        return Hint(hint) if isinstance(hint, str) else Hint("text", seconds=float(hint))
    except ValueError as error:
        raise ConfigError(str(error), "hint") from error


def _positive(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not value > 0:
        raise ConfigError(f"{attribute.name} must be above 0, not {value!r}", attribute.name)


def _one_of(*allowed: object) -> Callable[[object, attrs.Attribute[Any], Any], None]:
    def check(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value not in allowed:
            choices = ", ".join(str(choice) for choice in allowed)
            raise ConfigError(f"{attribute.name} must be one of {choices}, not {value!r}", attribute.name)

    return check


@define(kw_only=True, slots=False, eq=False)
class Settings:
    """Options of an `Emulator`. All times are seconds of its own clock, money is credits.

    Account: `api_key` is the one key that is let in; `credit` what the account holds; `models` what there is
    (`validation.MODELS`), `no_access` the models this key may not use (403); `prices` credits per second by quality.

    Pace: `limiter` limits submissions and `poll_limiter` queries (None: no limit); `hint` says how a 429 tells when to
    come back: "text", "header", "date", "both", "none", a fixed number of seconds told as text, or a `Hint`;
    `refused_counts` lets a refused submission use up the limit too.

    Time: `speed` makes the clock run so many times faster than the loop's, from `epoch` (unix seconds, default
    now); `durations` is how long tasks take: seconds, (low, high), or a callable that draws, such as `LogNormal`;
    `estimated_time` what the provider announces (default: their median); `queue_time` how long a task stays pending at
    most; `progress` the curve it shows; `latency` how long a submission takes to be processed.

    Replies: `errors` is "integer" (the provider's document) or "string" (newer hosts); `idempotency`, `batch_query` and
    `task_list` say whether the host knows these. `tasks_expire` is the age at which a task is forgotten (404).

    Videos: `videos` is "tiny" (a ready-made clip) or "real" (of the asked size and length, with the prompt drawn in;
    needs the extra `wanasync[emulator]`), kept in `cache_dir`, made by `render_workers`. `clip` replaces the ready-made
    clip, `clip_bytes` pads it to a size. Links live for `link_lifetime`, from the end of the task, or from each query
    with `fresh_links`; after that the host answers with status `expired_reply`. `bandwidth` caps one download, in
    bytes per second.

    Callbacks: `callbacks=False` sends none; `local_callbacks` lets callback URLs be http or internal, for tests;
    `callback_ssl` is the context for throw-away authorities; `callback_hosts` maps host names to addresses, so that a
    public-looking https URL reaches a local server.

    Trouble: `trouble` is what goes wrong. `seed` fixes all that is random: task ids, durations, trouble.

    Where: `host`, `port` (API) and `video_port` (video host); 0 takes a free port. With `tls` both speak https. Idle
    connections are closed after `keepalive` seconds of the loop's clock.
    """

    api_key: str = field(default="wan-emulator-key", repr=False)
    credit: float = 1_000_000.0
    models: Mapping[str, ModelRules] = field(default=MODELS, repr=False)
    no_access: Collection[str] = ()
    prices: Mapping[str, float] = PRICES

    limiter: Limiter | None = None
    poll_limiter: Limiter | None = None
    hint: Hint = field(default=Hint(), converter=_hint)
    refused_counts: bool = False

    speed: float = field(default=1.0, validator=_positive)
    epoch: float | None = None
    durations: Durations = field(default=Uniform(60.0, 180.0), converter=timing)
    estimated_time: int | None = None
    queue_time: float = 2.0
    progress: Progress = linear
    latency: float = 0.0

    errors: str = field(default="integer", validator=_one_of("integer", "string"))
    idempotency: bool = True
    batch_query: bool = True
    task_list: bool = True
    tasks_expire: float | None = None

    videos: str = field(default="tiny", validator=_one_of("tiny", "real"))
    cache_dir: Path | None = None
    render_workers: int = field(default=1, validator=_positive)
    clip: bytes = field(default=TINY_CLIP, repr=False)
    clip_bytes: int | None = None
    link_lifetime: float = field(default=24 * 3600.0, validator=_positive)
    fresh_links: bool = False
    expired_reply: int = field(default=403, validator=_one_of(403, 404, 410))
    bandwidth: float | None = None

    callbacks: bool = True
    local_callbacks: bool = False
    callback_ssl: ssl.SSLContext | None = field(default=None, repr=False)
    callback_hosts: Mapping[str, str] = field(factory=dict)

    trouble: Trouble = field(factory=Trouble)
    seed: int = 0

    host: str = "127.0.0.1"
    port: int = 0
    video_port: int = 0
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    keepalive: float = 75.0
