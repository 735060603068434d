"""A diagram as Mermaid's flowchart, for pages that draw it themselves."""

from __future__ import annotations

from collections.abc import Iterator

from pilotis.render.diagrams.graph import Graph
from pilotis.render.diagrams.svg import COLOURS


def mermaid(graph: Graph) -> str:
    """Without a banner; `%%` begins a comment."""
    return "\n".join(_lines(graph)) + "\n"


def _lines(graph: Graph) -> Iterator[str]:
    yield f"flowchart {'TD' if graph.down else 'LR'}"
    inside = {member for group in graph.groups for member in group.members}
    for box in graph.boxes:
        if box.id not in inside:
            yield f"  {_box(graph, box.id)}"
    for group in graph.groups:
        if group.id not in inside:
            yield from _group(graph, group.id, "  ")
    for line in graph.lines:
        arrow = "-.->" if line.dashed else "-->"
        label = f"|{_quoted(line.label)}|" if line.label else ""
        yield f"  {line.source} {arrow}{label} {line.target}"
    for kind, (ground, border) in COLOURS.items():
        if ids := [box.id for box in graph.boxes if box.kind == kind]:
            yield f"  classDef {kind} fill:{ground},stroke:{border},color:#0f172a"
            yield f"  class {','.join(ids)} {kind}"


def _group(graph: Graph, name: str, indent: str) -> Iterator[str]:
    group = next(group for group in graph.groups if group.id == name)
    yield f"{indent}subgraph {name}[{_quoted(group.title)}]"
    for member in group.members:
        if any(box.id == member for box in graph.boxes):
            yield f"{indent}  {_box(graph, member)}"
        else:
            yield from _group(graph, member, indent + "  ")
    yield f"{indent}end"


def _box(graph: Graph, name: str) -> str:
    box = next(box for box in graph.boxes if box.id == name)
    return f"{name}[{_quoted('<br/>'.join((f'<b>{_plain(box.title)}</b>', *map(_plain, box.notes))), raw=True)}]"


def _plain(text: str) -> str:
    """Mermaid reads the text as HTML and its own entities."""
    return text.replace("#", "#35;").replace("&", "#amp;").replace("<", "#lt;").replace(">", "#gt;").replace('"', "#quot;")


def _quoted(text: str, *, raw: bool = False) -> str:
    return f'"{text if raw else _plain(text)}"'
