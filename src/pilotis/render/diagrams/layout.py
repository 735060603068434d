"""Where everything of a diagram stands: columns as wide and rows as high as their texts need, lines that turn at right angles.

Lines from one source share a trunk in the gutter beside its column, and branch off it: few lines, and they cross at right angles only.
Heights come first, since where a line leaves and arrives says which gutters need a trunk, and so how wide they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pilotis.render.diagrams.graph import Box, Graph, Group, Line
from pilotis.render.diagrams.text import width, wrap

TITLE_PX, NOTE_PX, HEAD_PX, LINE_PX = 14.0, 12.0, 20.0, 17.0
MOST_TEXT_PX = 270.0
"""Longer lines are broken."""
LEAST_BOX_PX = 120.0
PAD_X, PAD_Y = 14.0, 11.0
GUTTER, GAP, TRACK, MARGIN = 46.0, 26.0, 16.0, 24.0
FRAME, FRAME_HEAD = 13.0, 24.0
"""Around what a group holds, and the room of its title."""
APART = 9.0
"""The least distance between two lines that arrive at one box."""


@dataclass(frozen=True, slots=True)
class Rect:
    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def middle(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2


@dataclass(frozen=True, slots=True)
class Text:
    """One line of text: where its middle is and its baseline, in pixels."""

    text: str
    x: float
    y: float
    size: float
    bold: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A box with its texts."""

    box: Box
    rect: Rect
    texts: tuple[Text, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A line's corners, from its source to the tip at its target; its label's text where it has one."""

    line: Line
    points: tuple[tuple[float, float], ...]
    label: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """All of it, in pixels from the upper left corner."""

    width: float
    height: float
    boxes: tuple[Placed, ...]
    frames: tuple[tuple[Group, Rect], ...]
    routes: tuple[Route, ...]


def lay_out(graph: Graph) -> Picture:
    """Raises ValueError for a line between columns that are not neighbours, or along a column past another box."""
    grid = _Grid(graph)
    heights = grid.heights()
    ports = _ports(graph, grid, heights)
    rects = grid.rects(heights, ports)
    routes = tuple(_route(line, grid, rects, ports) for line in graph.lines)
    heading = max(width(graph.title, HEAD_PX, bold=True), width(graph.subtitle, NOTE_PX)) + 2 * MARGIN
    return Picture(
        width=max(heading, max(rect.right for rect in rects.values()) + MARGIN),
        height=max(rect.bottom for rect in rects.values()) + MARGIN,
        boxes=tuple(Placed(box=box, rect=rects[box.id], texts=_texts(box, rects[box.id])) for box in graph.boxes),
        frames=tuple((group, rects[group.id]) for group in graph.groups),
        routes=routes,
    )


def _lines_of(box: Box) -> tuple[list[str], list[str]]:
    title = wrap(box.title, TITLE_PX, MOST_TEXT_PX, bold=True)
    return title, [line for note in box.notes for line in wrap(note, NOTE_PX, MOST_TEXT_PX)]


def _texts(box: Box, rect: Rect) -> tuple[Text, ...]:
    title, notes = _lines_of(box)
    x, _ = rect.middle
    y = rect.y + (rect.height - LINE_PX * (len(title) + len(notes))) / 2 + LINE_PX * 0.76
    sized = [(line, TITLE_PX, True) for line in title] + [(line, NOTE_PX, False) for line in notes]
    return tuple(Text(line, x, y + n * LINE_PX, size, bold) for n, (line, size, bold) in enumerate(sized))


Span = tuple[float, float]
Edge = Callable[[Box], int]
Pick = Callable[[Iterable[int]], int]
Ports = Mapping[tuple[str, str], Span]
"""At which height a line to the right leaves its source and meets its target, by source and target."""


class _Grid:
    """The columns and rows of a graph, and what each of them holds."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.at = {box.id: box for box in graph.boxes}
        self.groups = {group.id: group for group in graph.groups}
        self._columns = 1 + max(box.column for box in graph.boxes)

    def leaves(self, name: str) -> list[Box]:
        """The box of that name, or all boxes of that group."""
        if name in self.at:
            return [self.at[name]]
        return [box for member in self.groups[name].members for box in self.leaves(member)]

    def columns_of(self, name: str) -> tuple[int, int]:
        found = [box.column for box in self.leaves(name)]
        return min(found), max(found)

    def heights(self) -> dict[str, Span]:
        """Upper and lower edge of every box and frame. Read from left to right, each column is stacked by itself."""
        together = [range(self._columns)] if self.graph.down else [range(column, column + 1) for column in range(self._columns)]
        found: dict[str, Span] = {}
        for columns in together:
            found |= self._stacked([box for box in self.graph.boxes if box.column in columns])
        return self._with_frames(found, FRAME + FRAME_HEAD, FRAME)

    def _stacked(self, boxes: Sequence[Box]) -> dict[str, Span]:
        tops, y = [], MARGIN + HEAD_PX + 2.4 * LINE_PX
        high = _row_heights(boxes)
        columns = {box.column for box in boxes}
        groups = [group for group in self.graph.groups if columns.issuperset(self.columns_of(group.id))]
        for row, height in enumerate(high):
            y += self._frames(row, groups, lambda box: box.row, min) * (FRAME + FRAME_HEAD)
            tops.append(y)
            y += height + self._frames(row, groups, lambda box: box.row + box.rows - 1, max) * FRAME + (GAP if height else 0)
        found = {}
        for box in boxes:
            last = box.row + box.rows - 1
            found[box.id] = tops[box.row], tops[last] + high[last]
        return found

    def rects(self, heights: Mapping[str, Span], ports: Ports) -> dict[str, Rect]:
        wide = [LEAST_BOX_PX] * self._columns
        for box in self.graph.boxes:
            title, notes = _lines_of(box)
            texts = [*(width(line, TITLE_PX, bold=True) for line in title), *(width(line, NOTE_PX) for line in notes)]
            wide[box.column] = max(wide[box.column], max(texts) + 2 * PAD_X)
        for group in self.graph.groups:
            first, last = self.columns_of(group.id)
            if first == last:
                wide[first] = max(wide[first], width(group.title, NOTE_PX, bold=True))
        sides: dict[str, Span] = {}
        x = MARGIN
        for column, each in enumerate(wide):
            x += self._frames(column, self.graph.groups, lambda box: box.column, min) * FRAME
            sides |= {box.id: (x, x + each) for box in self.graph.boxes if box.column == column}
            x += each + self._frames(column, self.graph.groups, lambda box: box.column, max) * FRAME
            x += max(GUTTER + TRACK * max(0, len(self.trunks(column, ports)) - 1), self._labels(column))
        sides = self._with_frames(sides, FRAME, FRAME)
        return {
            name: Rect(left, heights[name][0], right - left, heights[name][1] - heights[name][0])
            for name, (left, right) in sides.items()
        }

    def trunks(self, column: int, ports: Ports) -> list[str]:
        """The sources whose lines turn in the gutter behind this column, in the order in which they are drawn."""
        turning = [
            line.source
            for line in self.graph.lines
            if self.columns_of(line.source)[1] == column
            and self.columns_of(line.target)[0] == column + 1
            and not _is_straight(ports[line.source, line.target])
        ]
        return list(dict.fromkeys(turning))

    def gutter(self, column: int, rects: Mapping[str, Rect]) -> float:
        """Where the gutter behind this column begins: behind the frames that end with it."""
        return max(rects[name].right for name in rects if self.columns_of(name)[1] == column)

    def _labels(self, column: int) -> float:
        """The room of what is written on the lines across the gutter behind this column."""
        labels = [
            width(line.label, NOTE_PX)
            for line in self.graph.lines
            if line.label and {self.columns_of(line.source)[0], self.columns_of(line.target)[0]} == {column, column + 1}
        ]
        return max(labels, default=0.0) + 2 * TRACK if labels else 0.0

    def _frames(self, index: int, groups: Sequence[Group], edge: Edge, pick: Pick) -> int:
        """How many of these frames, one in the other, begin (end) at this column or row."""

        def depth(group: Group) -> int:
            inner = max((depth(self.groups[one]) for one in group.members if one in self.groups), default=0)
            return inner + (1 if pick(edge(box) for box in self.leaves(group.id)) == index else 0)

        return max((depth(group) for group in groups), default=0)

    def _with_frames(self, spans: dict[str, Span], before: float, behind: float) -> dict[str, Span]:
        found = dict(spans)
        waiting = list(self.graph.groups)
        while waiting:
            group = next(group for group in waiting if all(one in found for one in group.members))
            waiting.remove(group)
            inner = [found[one] for one in group.members]
            found[group.id] = min(low for low, _ in inner) - before, max(high for _, high in inner) + behind
        return found


def _row_heights(boxes: Sequence[Box]) -> list[float]:
    high = [0.0] * max(box.row + box.rows for box in boxes)
    for box in sorted(boxes, key=lambda box: box.rows):
        title, notes = _lines_of(box)
        span = range(box.row, box.row + box.rows)
        needed = LINE_PX * (len(title) + len(notes)) + 2 * PAD_Y - GAP * (box.rows - 1)
        missing = needed - sum(high[row] for row in span)
        for row in span:
            high[row] += max(0.0, missing / box.rows)
    return high


def _ports(graph: Graph, grid: _Grid, heights: Mapping[str, Span]) -> Ports:
    """A line goes straight where its source's middle, or its target's, lies beside the other; else it turns, in its source's trunk."""
    found: dict[tuple[str, str], Span] = {}
    going = [
        (line.source, line.target)
        for line in graph.lines
        if grid.columns_of(line.source)[1] + 1 == grid.columns_of(line.target)[0]
    ]
    for source, target in going:
        (top, bottom), (low, high) = heights[source], heights[target]
        out = (top + bottom) / 2
        if sum(one == source for one, _ in going) == 1 and top <= low and high <= bottom:
            out = (low + high) / 2
        taken = [into for (_, other), (_, into) in found.items() if other == target]
        if low + APART <= out <= high - APART and all(abs(out - into) >= APART for into in taken):
            found[source, target] = out, out
    for target in dict.fromkeys(target for _, target in going):
        turning = [source for source, other in going if other == target and (source, other) not in found]
        taken = [into for (_, other), (_, into) in found.items() if other == target]
        for source, into in zip(turning, _spread(heights[target], len(turning), taken), strict=True):
            found[source, target] = sum(heights[source]) / 2, into
    return found


def _spread(span: Span, count: int, taken: Sequence[float]) -> list[float]:
    """So many heights over an edge, away from those that are taken."""
    low, high = span
    for places in range(count, count + 8):
        even = [low + (high - low) * (n + 1) / (places + 1) for n in range(places)]
        free = [one for one in even if all(abs(one - other) >= APART for other in taken)]
        if len(free) >= count:
            return free[:count]
    return [low + (high - low) * (n + 1) / (count + 1) for n in range(count)]


def _is_straight(port: Span) -> bool:
    return abs(port[0] - port[1]) < 0.5


def _route(line: Line, grid: _Grid, rects: Mapping[str, Rect], ports: Ports) -> Route:
    source, target = rects[line.source], rects[line.target]
    here, there = grid.columns_of(line.source), grid.columns_of(line.target)
    if here == there:
        points = _down(line, rects)
    elif here[1] + 1 == there[0]:
        out, into = ports[line.source, line.target]
        points = [(source.right, out), (target.x, into)]
        if not _is_straight((out, into)):
            x = grid.gutter(here[1], rects) + GUTTER / 2 + TRACK * grid.trunks(here[1], ports).index(line.source)
            points[1:1] = [(x, out), (x, into)]
    elif there[1] + 1 == here[0]:
        y = min(source, target, key=lambda rect: rect.height).middle[1]
        points = [(source.x, y), (target.right, y)]
    else:
        raise ValueError(f"{line.source} and {line.target} do not stand side by side")
    return Route(line=line, points=tuple(points), label=_label(line.label, points))


def _down(line: Line, rects: Mapping[str, Rect]) -> list[tuple[float, float]]:
    source, target = rects[line.source], rects[line.target]
    x = source.middle[0]
    upper, lower = (source, target) if source.y < target.y else (target, source)
    if any(rect.x < x < rect.right and upper.bottom <= rect.y and rect.bottom <= lower.y for rect in rects.values()):
        raise ValueError(f"the line from {line.source} to {line.target} would cross what stands between")
    return [(x, source.bottom), (x, target.y)] if source is upper else [(x, source.y), (x, target.bottom)]


def _label(text: str, points: Sequence[tuple[float, float]]) -> Text | None:
    if not text:
        return None
    (x0, y0), (x1, y1) = points[-2], points[-1]
    if abs(x0 - x1) < 0.5:
        return Text(text, x0 + 8 + width(text, NOTE_PX) / 2, (y0 + y1) / 2 + 4, NOTE_PX)
    return Text(text, (x0 + x1) / 2, y0 - 5, NOTE_PX)
