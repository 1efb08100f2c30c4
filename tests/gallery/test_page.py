from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pytest

from tests.gallery.making import NASTY, NOW, STATES, make_batch
from wanasync import BatchHistory
from wanasync.gallery import page


class Reader(HTMLParser):
    """The page as a browser's parser sees it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.within = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.texts.append("")
        self.within = True

    def handle_endtag(self, tag: str) -> None:
        self.within = False

    def handle_data(self, data: str) -> None:
        if self.within:
            self.texts[-1] += data

    def text_of(self, tag: str, **attributes: str) -> str:
        found = zip(self.tags, self.texts, strict=True)
        return next(text for (name, has), text in found if name == tag and attributes.items() <= has.items())


async def rendered(directory: Path, *, live: bool = False) -> str:
    async with BatchHistory(directory) as history:
        return "".join([piece async for piece in page.render(history, now=NOW, live=live)])


async def test_each_item_is_in_the_page_whatever_became_of_it(tmp_path: Path) -> None:
    records = await make_batch(tmp_path)
    told = Reader(await rendered(tmp_path))
    items = json.loads(told.text_of("script", id="items"))
    assert [item["number"] for item in items] == [record.seq for record in records]
    assert {item["state"] for item in items} == set(STATES)
    about = json.loads(told.text_of("script", id="about"))
    assert about["status"]["saved"] == 1
    assert about["status"]["credits_reserved"] == 25.0


async def test_a_hostile_prompt_is_text_and_adds_no_element(tmp_path: Path) -> None:
    plain, nasty = tmp_path / "plain", tmp_path / "<script>alert(1)</script>".replace("/", "")
    await make_batch(plain, ["planned"])
    await make_batch(nasty, ["failed"], [NASTY])
    told = Reader(await rendered(nasty))
    assert [tag for tag, _ in told.tags] == [tag for tag, _ in Reader(await rendered(plain)).tags]
    (item,) = json.loads(told.text_of("script", id="items"))
    assert item["prompt"] == NASTY
    assert NASTY in item["error"] or item["error"].startswith("the provider would not")


@pytest.mark.parametrize("live", [False, True])
async def test_the_policy_lets_in_the_pages_own_script_and_style_only(tmp_path: Path, live: bool) -> None:
    await make_batch(tmp_path, ["planned"])
    told = Reader(await rendered(tmp_path, live=live))
    policy = next(has["content"] for _, has in told.tags if has.get("http-equiv") == "Content-Security-Policy") or ""
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    for tag, name, attributes in (("script", "script-src", {"type": "module"}), ("style", "style-src", {})):
        digest = hashlib.sha256(told.text_of(tag, **attributes).encode()).digest()
        assert rules[name] == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert rules["connect-src"] == ("'self'" if live else "'none'")


async def test_the_page_names_no_other_place(tmp_path: Path) -> None:
    await make_batch(tmp_path, ["planned"])
    addresses = set(re.findall(r"https?://[^\s'\"<>)]+", await rendered(tmp_path)))
    assert addresses == {"http://www.w3.org/2000/svg"}


def test_data_is_never_read_as_markup() -> None:
    for asset in (resources.files("wanasync.gallery") / "assets").iterdir():
        if asset.name.endswith(".js"):
            told = asset.read_text("utf-8")
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|Function\(", told)
            assert "</script" not in told
            assert "<!--" not in told


async def test_of_a_batch_too_large_for_a_page_those_in_trouble_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_batch(tmp_path, ["planned", "saved", "failed", "planned", "unknown", "planned"])
    monkeypatch.setattr(page, "MOST_ITEMS", 3)
    items = json.loads(Reader(await rendered(tmp_path)).text_of("script", id="items"))
    assert [item["state"] for item in items][:2] == ["failed", "unknown"]
    assert len(items) == 3


async def test_an_empty_batch_has_a_page(tmp_path: Path) -> None:
    await make_batch(tmp_path, [])
    assert json.loads(Reader(await rendered(tmp_path)).text_of("script", id="items")) == []
