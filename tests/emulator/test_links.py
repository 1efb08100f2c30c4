from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest

from wanasync.emulator.links import Links, LinkState

LINKS = Links(b"secret")
NOW = 1_800_000_000.0


def query(path: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(path).query))


def test_a_link_is_good_until_it_expires() -> None:
    path = LINKS.path("task-1", NOW + 60)
    assert urlsplit(path).path == "/videos/task-1.mp4"
    assert LINKS.check("task-1", query(path), NOW) is LinkState.GOOD
    assert LINKS.check("task-1", query(path), NOW + 60) is LinkState.EXPIRED


@pytest.mark.parametrize(
    "change",
    [{"Expires": "1900000000"}, {"Signature": "0" * 32}, {"Expires": "soon"}, {"Expires": ""}, {"Expires": "9" * 40}],
)
def test_a_changed_link_is_forged(change: dict[str, str]) -> None:
    path = LINKS.path("task-1", NOW + 60)
    assert LINKS.check("task-1", query(path) | change, NOW) is LinkState.FORGED


def test_a_link_of_another_task_or_emulator_is_forged() -> None:
    path = LINKS.path("task-1", NOW + 60)
    assert LINKS.check("task-2", query(path), NOW) is LinkState.FORGED
    assert Links(b"other").check("task-1", query(path), NOW) is LinkState.FORGED
    assert LINKS.check("task-1", {}, NOW) is LinkState.FORGED
