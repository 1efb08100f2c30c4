"""Bodies to test against. Each says in `provenance` where its shape comes from; none came from the live service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["load"]


def load(name: str) -> dict[str, Any]:
    sample = json.loads(Path(__file__).with_name(f"{name}.json").read_text("utf-8"))
    assert isinstance(sample, dict)
    assert sample["provenance"]
    return sample
