"""What the documentation draws and tells by itself follows the code. Sphinx isn't needed for it."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from tests.docs.pages import ROOT
from wanasync.rules.lifecycle import TRANSITIONS, ItemEvent, ItemState


@pytest.fixture
def extensions(monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = ROOT / "docs" / "_ext"
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def picture(extensions: Path) -> ModuleType:
    import lifecycle

    return lifecycle


@pytest.fixture
def commands(extensions: Path) -> ModuleType:
    import cli_reference

    return cli_reference


def texts(svg: str) -> list[str]:
    return ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter() if text.tag.endswith("}text")]  # noqa: S314


def test_the_picture_shows_each_state_and_each_way(picture: ModuleType) -> None:
    drawn = picture.drawing()
    assert set(ItemState) <= set(texts(drawn))
    ways = {(state, then) for (state, _), then in TRANSITIONS.items() if state is not then}
    assert drawn.count('class="way"') == len(ways)


def test_the_picture_names_what_leads_from_state_to_state(picture: ModuleType) -> None:
    labels = texts(picture.drawing())
    assert "reply lostinterrupted" in labels
    assert "file lost" in labels


def test_a_new_way_through_another_state_is_not_drawn_over_it(
    picture: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    skipping = {**TRANSITIONS, (ItemState.PLANNED, ItemEvent.ACCEPTED): ItemState.ACCEPTED}
    monkeypatch.setattr(picture, "TRANSITIONS", skipping)
    with pytest.raises(ValueError, match="give it a bend"):
        picture.drawing()


def test_a_new_state_needs_a_place(picture: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "PLACES", {s: p for s, p in picture.PLACES.items() if s is not ItemState.SAVED})
    with pytest.raises(KeyError):
        picture.drawing()


def test_the_table_has_a_row_for_each_transition(picture: ModuleType) -> None:
    assert len(picture.table().splitlines()) == 2 + len(TRANSITIONS)


def test_each_command_and_flag_is_in_the_reference(commands: ModuleType) -> None:
    text = commands.reference()
    for name, command in commands.commands():
        section = text.split(f"## `{name}`\n")[1].split("\n## ")[0]
        flags = {flag for option in command.params if option.param_type_name == "option" for flag in option.opts}
        assert flags <= set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", section)), name
