"""Makes a video file from a title card: one libav filter graph for the pictures, libx264 for the file.

Scaling, blending and encoding run in C with the GIL released; Python only draws the small moving parts. So two
threads keep two cores busy, and the event loop beside them goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
from attrs import frozen
from av.filter import Graph
from av.filter.context import FilterContext

from wanasync.emulator.fonts import FontLibrary
from wanasync.emulator.title_card import MARK, Backdrop, Layout, Ticker, draw_words
from wanasync.emulator.typesetting import can_shape

if TYPE_CHECKING:
    from wanasync.emulator.videos import VideoSpec

# Soft colours under still type cost x264 little: `ultrafast` looks as good as slower presets and takes a third of
# the time of `veryfast`. One thread a video: the studio makes several at once.
ENCODER = {
    "preset": "ultrafast",
    "crf": "19",
    "threads": "1",
    "x264-params": "colorprim=bt709:transfer=bt709:colormatrix=bt709",
}


class RenderStopped(Exception):  # noqa: N818 (it is no error: somebody asked for it)
    """`stopped()` said so in the middle of a video."""


def make_film(spec: VideoSpec, path: Path, library: FontLibrary, stopped: Callable[[], bool] = lambda: False) -> None:
    """Write `spec` as H.264 in MP4 to `path`, the index in front of the pictures so that it plays while it loads."""
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        container.metadata["title"] = spec.prompt[:200].encode("utf-8", "replace").decode()
        container.metadata["comment"] = f"A placeholder made by the {MARK}, not a generated video"
        stream = container.add_stream("libx264", rate=spec.fps, options=ENCODER)
        stream.width, stream.height, stream.pix_fmt = spec.width, spec.height, "yuv420p"
        for frame in _frames(spec, library):
            if stopped():
                raise RenderStopped
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _frames(spec: VideoSpec, library: FontLibrary) -> Iterator[av.VideoFrame]:
    layout = Layout(spec.width, spec.height)
    words, unshown = draw_words(layout, spec.prompt, spec.label, library)
    lacking = "no font" if can_shape() else "no font or no FriBiDi"
    caption = f"{lacking} here for: {', '.join(unshown)}" if unshown else spec.model
    ticker = Ticker(layout, spec.seconds, caption, library)
    backdrop = Backdrop(spec.prompt, spec.width, spec.height)
    mixer = _Mixer.build(spec, backdrop.size, ticker)
    mixer.words.push(_frame(words.tobytes(), words.size, "rgba", 0, spec.fps))
    mixer.words.push(None)
    for number in range(spec.frames):
        second = number / spec.fps
        mixer.backdrop.push(_frame(backdrop.at(second), backdrop.size, "rgb0", number, spec.fps))
        mixer.ticker.push(
            _frame(ticker.at((number + 1) / spec.fps).tobytes(), ticker.box.size, "rgba", number, spec.fps)
        )
        mixed = mixer.mixed.pull()
        assert isinstance(mixed, av.VideoFrame)  # noqa: S101 (a graph of pictures gives pictures)
        mixed.pts, mixed.time_base = number, Fraction(1, spec.fps)
        yield mixed


def _frame(pixels: bytes, size: tuple[int, int], form: str, number: int, fps: int) -> av.VideoFrame:
    frame = av.VideoFrame(*size, form)
    plane = frame.planes[0]
    plane.update(_padded(pixels, size[0] * 4, plane.line_size))
    frame.pts, frame.time_base = number, Fraction(1, fps)
    return frame


def _padded(pixels: bytes, row: int, line_size: int) -> bytes:
    """libav wants rows of a round length."""
    if row == line_size:
        return pixels
    return b"".join(pixels[at : at + row].ljust(line_size, b"\0") for at in range(0, len(pixels), row))


@frozen
class _Mixer:
    """backdrop → scaled up → under the words → under the ticker → mixed."""

    graph: Graph
    backdrop: FilterContext
    words: FilterContext
    ticker: FilterContext
    mixed: FilterContext

    @classmethod
    def build(cls, spec: VideoSpec, small: tuple[int, int], ticker: Ticker) -> _Mixer:
        graph = Graph()
        source = "video_size={}x{}:pix_fmt={}:time_base=1/{}:pixel_aspect=1/1".format
        backdrop = graph.add("buffer", source(*small, "rgb0", spec.fps))
        words = graph.add("buffer", source(spec.width, spec.height, "rgba", spec.fps))
        strip = graph.add("buffer", source(*ticker.box.size, "rgba", spec.fps))
        scaled = _chain(
            backdrop,
            graph.add("scale", f"{spec.width}:{spec.height}:flags=bicubic:out_color_matrix=bt709:out_range=tv"),
            graph.add("format", "yuv420p"),
        )
        titled = graph.add("overlay", "0:0:eof_action=repeat:format=yuv420")
        timed = graph.add("overlay", f"{ticker.box.left}:{ticker.box.top}:format=yuv420")
        mixed = graph.add("buffersink")
        scaled.link_to(titled, 0, 0)
        _chain(words, graph.add("format", "yuva420p")).link_to(titled, 0, 1)
        titled.link_to(timed, 0, 0)
        _chain(strip, graph.add("format", "yuva420p")).link_to(timed, 0, 1)
        timed.link_to(mixed)
        graph.configure()
        return cls(graph, backdrop, words, strip, mixed)


def _chain(first: FilterContext, *others: FilterContext) -> FilterContext:
    for other in others:
        first.link_to(other)
        first = other
    return first
