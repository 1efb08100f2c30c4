from __future__ import annotations

from typing import Any

import pytest

from wanasync.emulator import Emulator, Hint, Settings, Uniform
from wanasync.errors import ConfigError


def test_short_forms_are_read() -> None:
    settings = Settings(hint="header", durations=5)
    assert settings.hint == Hint("header")
    assert settings.durations == Uniform(5, 5)
    assert Settings(hint=60).hint == Hint("text", seconds=60)


@pytest.mark.parametrize(
    "option",
    [
        {"speed": 0},
        {"hint": "pigeon"},
        {"errors": "roman"},
        {"videos": "huge"},
        {"expired_reply": 200},
        {"link_lifetime": -1},
        {"render_workers": 0},
    ],
)
def test_what_makes_no_sense_is_named(option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings(**option)
    assert caught.value.setting in option


def test_keys_are_not_shown() -> None:
    assert "secret-key" not in repr(Emulator(api_key="secret-key"))
