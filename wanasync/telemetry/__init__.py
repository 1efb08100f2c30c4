"""Listeners that turn a session's events into metrics and traces.

    from wanasync.telemetry import OpenTelemetry, Prometheus

    WanSession(on_event=OpenTelemetry())                       # pip install 'wanasync[opentelemetry]'
    WanSession(on_event=[OpenTelemetry(), Prometheus(), mine]) # pip install 'wanasync[prometheus]'

One may serve any number of sessions. Neither ever sees the API key; neither records links, nor, unless asked to,
prompts. What is measured stands in `wanasync.telemetry.measures`. HTTP requests themselves are not measured here:
give an `aiohttp.TraceConfig` of your choice to `WanSession(trace_configs=…)` for that.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wanasync.telemetry.otel import OpenTelemetry as OpenTelemetry
    from wanasync.telemetry.prometheus import Prometheus as Prometheus

_HOME_OF = {"OpenTelemetry": "wanasync.telemetry.otel", "Prometheus": "wanasync.telemetry.prometheus"}
_EXTRA_OF = {"opentelemetry": "opentelemetry", "prometheus_client": "prometheus"}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(home), name)
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        raise ImportError(f"{name} needs its extra: pip install 'wanasync[{extra}]'") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
