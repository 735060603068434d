"""A picture as SVG: on its own white ground, so that it is read as well on a dark page; no script, no font, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from pilotis.render.diagrams.graph import Graph, Kind
from pilotis.render.diagrams.layout import FRAME, HEAD_PX, LINE_PX, MARGIN, NOTE_PX, Picture, Route, Text, lay_out

COLOURS: dict[Kind, tuple[str, str]] = {
    "person": ("#f1f5f9", "#64748b"),
    "step": ("#ffffff", "#64748b"),
    "process": ("#e0f2fe", "#0284c7"),
    "store": ("#dcfce7", "#16a34a"),
    "cache": ("#fee2e2", "#dc2626"),
    "model": ("#f3e8ff", "#9333ea"),
    "watch": ("#fef9c3", "#ca8a04"),
    "stop": ("#ffedd5", "#c2410c"),
}
"""Ground and border of each kind of box."""
INK, SOFT = "#0f172a", "#475569"
TRUNKS = ("#0369a1", "#7c3aed", "#475569", "#b45309", "#047857")
"""Of lines, in turn by their source, so that an eye can follow one across others."""


def svg(graph: Graph, origin: tuple[str, ...]) -> str:
    """`origin` stands at the head as a comment."""
    picture = lay_out(graph)
    size = f"{picture.width:.0f} {picture.height:.0f}"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{picture.width:.0f}" height="{picture.height:.0f}" '
        f"""role="img" font-family="system-ui, 'DejaVu Sans', sans-serif">"""
    )
    lines = [
        "<!--",
        *(line.replace("--", "- -") for line in origin),
        "-->",
        head,
        f"  <title>{escape(graph.title)}</title>",
        f"  <desc>{escape(graph.subtitle)}</desc>",
        *_body(graph, picture),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _body(graph: Graph, picture: Picture) -> Iterator[str]:
    colours = _colours(picture)
    yield "  <defs>"
    for n, colour in enumerate(TRUNKS):
        yield (
            f'    <marker id="tip{n}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0 8 4 0 8z" fill="{colour}"/></marker>'
        )
    yield "  </defs>"
    yield f'  <rect width="{picture.width:.0f}" height="{picture.height:.0f}" rx="10" fill="#ffffff"/>'
    yield _text(Text(graph.title, MARGIN, MARGIN + HEAD_PX * 0.8, HEAD_PX, bold=True), anchor="start")
    yield _text(Text(graph.subtitle, MARGIN, MARGIN + HEAD_PX + LINE_PX, NOTE_PX), anchor="start")
    for group, rect in picture.frames:
        yield (
            f'  <rect x="{rect.x:.1f}" y="{rect.y:.1f}" width="{rect.width:.1f}" height="{rect.height:.1f}" rx="10" '
            f'fill="{INK}" fill-opacity="0.035" stroke="{SOFT}" stroke-dasharray="2 4"/>'
        )
        yield _text(Text(group.title, rect.x + FRAME, rect.y + LINE_PX + 2, NOTE_PX, bold=True), anchor="start", fill=SOFT)
    for route in picture.routes:
        yield _line(route, colours[route.line.source])
    for placed in picture.boxes:
        rect, (ground, border) = placed.rect, COLOURS[placed.box.kind]
        yield (
            f'  <rect x="{rect.x:.1f}" y="{rect.y:.1f}" width="{rect.width:.1f}" height="{rect.height:.1f}" rx="6" '
            f'fill="{ground}" stroke="{border}" data-id={quoteattr(placed.box.id)}/>'
        )
        yield from (_text(text, fill=INK if text.bold else SOFT) for text in placed.texts)
    for route in picture.routes:
        if route.label:
            yield _text(route.label, fill=SOFT, halo=True)


def _colours(picture: Picture) -> dict[str, int]:
    """Which of the colours the lines of each source have: several, where some of them turn."""
    if all(len(route.points) == 2 for route in picture.routes):
        return {route.line.source: 2 for route in picture.routes}
    sources = dict.fromkeys(route.line.source for route in picture.routes)
    return {source: n % len(TRUNKS) for n, source in enumerate(sources)}


def _line(route: Route, colour: int) -> str:
    path = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in route.points)
    dash = ' stroke-dasharray="6 4"' if route.line.dashed else ""
    return f'  <path d="{path}" fill="none" stroke="{TRUNKS[colour]}" stroke-width="1.5"{dash} marker-end="url(#tip{colour})"/>'


def _text(text: Text, *, anchor: str = "middle", fill: str = INK, halo: bool = False) -> str:
    weight = ' font-weight="600"' if text.bold else ""
    around = ' stroke="#ffffff" stroke-width="4" paint-order="stroke"' if halo else ""
    return (
        f'  <text x="{text.x:.1f}" y="{text.y:.1f}" font-size="{text.size:.0f}" text-anchor="{anchor}" fill="{fill}"{weight}{around}>'
        f"{escape(text.text)}</text>"
    )
