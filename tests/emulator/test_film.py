from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageStat

from tests.helpers.films import boxes, difference, watch
from wanasync.emulator.film import RenderStopped, make_film
from wanasync.emulator.fonts import FontLibrary, installed_fonts
from wanasync.emulator.title_card import Backdrop, Layout, Ticker, draw_words
from wanasync.emulator.videos import VideoSpec

SHAPES = {"16:9": (384, 216), "9:16": (216, 384), "1:1": (240, 240), "4:3": (320, 240), "3:4": (240, 320)}
BARE = FontLibrary(())


def spec(prompt: str = "A cat plays piano", *, width: int = 256, height: int = 144, seconds: float = 0.5) -> VideoSpec:
    return VideoSpec(prompt, width, height, seconds, fps=8)


def made(folder: Path, wanted: VideoSpec, library: FontLibrary | None = None) -> Path:
    path = folder / "film.mp4"
    make_film(wanted, path, library or installed_fonts())
    return path


def ink(layout: Layout, prompt: str) -> Image.Image:
    """Where the words are: white for full ink, black elsewhere."""
    words, _ = draw_words(layout, prompt, "label", installed_fonts())
    return words.convert("L")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_film_has_the_size_and_length_asked_for(tmp_path: Path, shape: str) -> None:
    width, height = SHAPES[shape]
    film = watch(made(tmp_path, VideoSpec("A cat plays piano", width, height, 1.5, fps=24)))
    assert (film.codec, film.pixels) == ("h264", "yuv420p")
    assert film.size == (width, height)
    assert len(film.pictures) == 36
    assert film.seconds == 1.5


def test_a_film_plays_while_it_loads(tmp_path: Path) -> None:
    order = boxes(made(tmp_path, spec()).read_bytes())
    assert order[0] == "ftyp"
    assert order.index("moov") < order.index("mdat")


def test_its_colours_drift_all_the_time(tmp_path: Path) -> None:
    pictures = watch(made(tmp_path, spec(seconds=3))).pictures
    upper = [picture.crop((0, 30, 256, 60)) for picture in pictures]  # neither mark nor title nor clock
    assert all(difference(one, other) > 0.05 for one, other in zip(upper, upper[4:], strict=False))
    assert difference(upper[0], upper[-1]) > 2


def test_the_progress_line_fills(tmp_path: Path) -> None:
    layout = Layout(640, 360)
    ticker = Ticker(layout, 5, "caption", installed_fonts())
    light = [ImageStat.Stat(ticker.at(second).getchannel("A")).sum[0] for second in (0, 1, 2.5, 4, 5)]
    assert light == sorted(light)
    assert light[-1] > light[0] * 1.5


def test_the_prompt_is_drawn_in(tmp_path: Path) -> None:
    layout = Layout(640, 360)
    letters = ink(layout, "A cat plays piano").point([0] * 250 + [255] * 6)
    picture = watch(made(tmp_path, spec(width=640, height=360))).pictures[1].convert("L")
    box = layout.title
    area = (box.left, box.top, box.right, box.bottom)
    on_letters = ImageStat.Stat(picture.crop(area), mask=letters.crop(area)).mean[0]
    elsewhere = ImageStat.Stat(picture.crop(area), mask=letters.crop(area).point([255] + [0] * 255)).mean[0]
    assert on_letters > 215
    assert elsewhere < 130


def test_different_prompts_show_different_words_and_colours(tmp_path: Path) -> None:
    layout = Layout(640, 360)
    assert difference(ink(layout, "A cat plays piano"), ink(layout, "A dog reads news")) > 5
    assert Backdrop("A cat", 640, 360).at(0) != Backdrop("A dog", 640, 360).at(0)


@pytest.mark.parametrize("prompt", ["雨の夜の東京", "قافلة جمال", "मोर", "고양이", "Северное", "🚀"])
def test_other_scripts_look_different_with_and_without_a_font(prompt: str) -> None:
    layout = Layout(640, 360)
    with_font, unshown = draw_words(layout, prompt, "", installed_fonts())
    without, named = draw_words(layout, prompt, "", BARE)
    assert unshown == ()
    assert len(named) == 1
    assert difference(with_font.convert("L"), without.convert("L")) > 2


def test_each_film_says_that_it_comes_from_the_emulator() -> None:
    layout = Layout(640, 360)
    top = ink(layout, "x").crop((0, 0, 320, layout.title.top))
    assert top.getbbox() is not None
    assert ImageStat.Stat(top).extrema[0][1] > 200


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "   \n\t ",
        "x",
        "word " * 400,
        "あ" * 2000,
        "one\ntwo\r\n\r\nthree",
        "\x00\x07\x1b[31m\x7f\u202e\u2066",
        "half \ud83d pair",
        "قطة",
        "(שלום) 12.5%",
        "👩🏽‍🚀🇯🇵❤️1️⃣",
        "\u0301\u200d\ufe0f",
        "\U0010fffe\ue000",
    ],
)
@pytest.mark.parametrize("library", [None, BARE], ids=["fonts", "bare"])
def test_any_prompt_makes_a_film(tmp_path: Path, prompt: str, library: FontLibrary | None) -> None:
    film = watch(made(tmp_path, spec(prompt, seconds=0.25), library))
    assert len(film.pictures) == 2


@pytest.mark.parametrize("size", [(16, 16), (18, 400), (1024, 16), (540, 302)])
def test_odd_sizes_are_kept(tmp_path: Path, size: tuple[int, int]) -> None:
    film = watch(made(tmp_path, spec(width=size[0], height=size[1], seconds=0.25)))
    assert film.size == size


def test_the_title_goes_with_the_file(tmp_path: Path) -> None:
    assert watch(made(tmp_path, spec("猫 \ud83d"))).title == "猫 ?"


def test_the_same_spec_gives_the_same_bytes(tmp_path: Path) -> None:
    assert made(tmp_path, spec()).read_bytes() == made(tmp_path, spec()).read_bytes()


def test_making_can_be_stopped(tmp_path: Path) -> None:
    asked = iter([False, False, True])
    with pytest.raises(RenderStopped):
        make_film(spec(seconds=60), tmp_path / "film.mp4", BARE, stopped=lambda: next(asked))
