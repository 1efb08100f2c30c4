"""The life of an item, drawn from the table that the code goes by.

Only where each state stands is said here. A state without a place, or a way without a straight line where one is
needed, is an error, so that the picture can't fall behind the table.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from html import escape

from attrs import frozen

from wanasync.rules.lifecycle import PAID_STATES, TRANSITIONS, ItemEvent, ItemState

__all__ = ["PLACES", "drawing", "table", "ways"]

PLACES: Mapping[ItemState, tuple[int, int]] = {
    ItemState.PLANNED: (0, 1),
    ItemState.SUBMITTING: (1, 1),
    ItemState.ACCEPTED: (2, 1),
    ItemState.READY: (3, 1),
    ItemState.SAVED: (4, 1),
    ItemState.UNKNOWN: (1, 0),
    ItemState.RESUBMITTING: (2, 0),
    ItemState.REJECTED: (1, 2),
    ItemState.FAILED: (2, 2),
    ItemState.EXPIRED: (3, 2),
}
"""Column and row. The middle row is the way things should go."""

BENDS: Mapping[tuple[ItemState, ItemState], float] = {
    (ItemState.FAILED, ItemState.PLANNED): 260.0,
    (ItemState.SAVED, ItemState.ACCEPTED): -130.0,
}
"""How far to the left (pixels) of who walks it a way swings that would otherwise lead through other states."""

COLUMN, ROW = 208.0, 160.0
WIDTH, HEIGHT = 128.0, 40.0
MARGIN_X, MARGIN_Y = 70.0, 48.0


@frozen
class Point:
    x: float
    y: float

    def __str__(self) -> str:
        return f"{self.x:.1f} {self.y:.1f}"

    def towards(self, other: Point, distance: float) -> Point:
        whole = math.hypot(other.x - self.x, other.y - self.y)
        return Point(
            self.x + (other.x - self.x) * distance / whole,
            self.y + (other.y - self.y) * distance / whole,
        )


def ways() -> dict[tuple[ItemState, ItemState], list[ItemEvent]]:
    """From one state to another, and the events that lead there; without those that change nothing."""
    found: dict[tuple[ItemState, ItemState], list[ItemEvent]] = defaultdict(list)
    for (state, event), following in TRANSITIONS.items():
        if following is not state:
            found[state, following].append(event)
    return dict(found)


def drawing() -> str:
    """The picture as SVG, in colours that the page sets by class."""
    found = ways()
    width = 2 * MARGIN_X + 4 * COLUMN
    height = 2 * MARGIN_Y + 2 * ROW + 40
    arrows = [_way(pair, events, is_pair=(pair[1], pair[0]) in found) for pair, events in found.items()]
    lines = [line for line, _ in arrows]
    labels = [label for _, label in arrows]
    return "\n".join(
        [
            f'<svg class="lifecycle" viewBox="0 0 {width:g} {height:g}" role="img" '
            'aria-labelledby="lifecycle-title" xmlns="http://www.w3.org/2000/svg">',
            '<title id="lifecycle-title">States of an item, and the events that lead from one to another</title>',
            '<defs><marker id="lifecycle-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0 0 L8 4 L0 8 z" class="tip"/></marker></defs>',
            *lines,
            *labels,
            *(_state(state) for state in ItemState),
            "</svg>",
        ]
    )


def table() -> str:
    """The table itself, as Markdown."""
    lines = ["| in | when | then |", "|---|---|---|"]
    for (state, event), following in TRANSITIONS.items():
        then = "stays" if following is state else f"**{following}**"
        lines.append(f"| {state} | {event.replace('_', ' ')} | {then} |")
    return "\n".join(lines)


def _centre(state: ItemState) -> Point:
    column, row = PLACES[state]
    return Point(MARGIN_X + column * COLUMN, MARGIN_Y + row * ROW)


def _state(state: ItemState) -> str:
    centre = _centre(state)
    kind = "paid" if state in PAID_STATES else "free"
    return (
        f'<rect class="state {kind}" x="{centre.x - WIDTH / 2:g}" y="{centre.y - HEIGHT / 2:g}" '
        f'width="{WIDTH:g}" height="{HEIGHT:g}" rx="9"/>'
        f'<text class="name" x="{centre.x:g}" y="{centre.y:g}">{escape(state)}</text>'
    )


def _way(pair: tuple[ItemState, ItemState], events: list[ItemEvent], *, is_pair: bool) -> tuple[str, str]:
    start, end = _centre(pair[0]), _centre(pair[1])
    bend = BENDS.get(pair, 50.0 if is_pair else 0.0)
    if not bend:
        _check_free(pair)
    whole = math.hypot(end.x - start.x, end.y - start.y)
    across = Point((end.y - start.y) / whole, -(end.x - start.x) / whole)
    middle = Point((start.x + end.x) / 2 + across.x * bend, (start.y + end.y) / 2 + across.y * bend)
    leave, arrive = _at_border(start, middle), _at_border(end, middle)
    curve = f"M{leave} Q{middle} {arrive}"
    # Half-way along the curve, where a quadratic one is half as far out as its control point.
    at = Point(
        0.25 * leave.x + 0.5 * middle.x + 0.25 * arrive.x,
        0.25 * leave.y + 0.5 * middle.y + 0.25 * arrive.y,
    )
    return f'<path class="way" d="{curve}" marker-end="url(#lifecycle-tip)"/>', _label(at, events)


def _label(at: Point, events: list[ItemEvent]) -> str:
    words = [escape(event.replace("_", " ")) for event in events]
    top = at.y - 6.5 * (len(words) - 1)
    rows = [f'<tspan x="{at.x:.1f}" y="{top + 13 * row:.1f}">{word}</tspan>' for row, word in enumerate(words)]
    return f'<text class="event">{"".join(rows)}</text>'


def _check_free(pair: tuple[ItemState, ItemState]) -> None:
    """A straight way may lead through no other state; raises ValueError."""
    (x0, y0), (x1, y1) = PLACES[pair[0]], PLACES[pair[1]]
    steps = math.gcd(x1 - x0, y1 - y0)
    between = {(x0 + (x1 - x0) * step // steps, y0 + (y1 - y0) * step // steps) for step in range(1, steps)}
    if between & set(PLACES.values()):
        raise ValueError(f"the way from {pair[0]} to {pair[1]} leads through another state: give it a bend")


def _at_border(centre: Point, outside: Point) -> Point:
    """Where the line from a state's centre leaves its box."""
    across, down = abs(outside.x - centre.x), abs(outside.y - centre.y)
    share = min(WIDTH / 2 / across if across else math.inf, HEIGHT / 2 / down if down else math.inf)
    return centre.towards(outside, share * math.hypot(across, down) + 2)
