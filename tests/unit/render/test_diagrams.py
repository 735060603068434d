"""The diagrams: Mermaid and SVG say the same, nothing overlaps, and every text is inside its box."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from pilotis.contract.load import parse
from pilotis.contract.presets import default
from pilotis.derive.plan import Plan, derive
from pilotis.derive.workload import roles
from pilotis.render.diagrams.architecture import architecture
from pilotis.render.diagrams.diagrams import files
from pilotis.render.diagrams.graph import Box, Graph, Line
from pilotis.render.diagrams.layout import Picture, Rect, lay_out
from pilotis.render.diagrams.mermaid import mermaid
from pilotis.render.diagrams.paths import batch, online, release
from pilotis.render.diagrams.svg import svg
from pilotis.render.diagrams.text import width, wrap
from pilotis.render.files import Scene, scene
from pilotis.render.wording import LANGUAGES, Wording

ROOT = Path(__file__).parents[3]
LONG = """
name = "assistant-des-ventes"
[costs]
target_eur_per_1k = 90
guardrail_eur_per_req = 0.9
[infra]
vector = "opensearch"
blobs = "s3"
domain = "a-rather-long-subdomain.of-the-company.internal.example.com"
image = "registry.a-rather-long-subdomain.example.com/platform/assistant-des-ventes-and-more"
[deploy]
stages = [1, 2, 5, 10, 25, 50, 100]
approvals = ["business", "sre", "security-and-compliance", "data-protection-officer"]
[alerts.receivers.the-team-that-is-on-call]
kind = "email"
to = "oncall@example.com"
[sources.handbook-of-the-whole-company]
kind = "folder"
path = "docs"
[envs.dev]
llm = "extractive"
[envs.qa]
hosts = ["vm-1.example.com", "10.0.0.5", "vm-3.a-long-name.example.com"]
[envs.preprod]
llm = { model = "a-very-long-organisation/a-very-long-model-name-2026-09-30-preview", base_url = "http://inference-gateway.of-the-platform-team.svc.cluster.local:8080/v1" }
flags = ["hybrid", "rerank"]
reranker = "rerank-v3.5"
embedder = "text-embedding-3-large"
compact = "gpt-5-nano"
fallback = "mistral-large-latest"
rps = 700
[envs.preprod.snapshot]
place = "s3://a-bucket-for-snapshots-with-a-very-long-name/and/a/prefix/that/goes/on/and/on"
"""
BLUE_GREEN = """
[costs]
target_eur_per_1k = 90
guardrail_eur_per_req = 0.9
[deploy]
strategy = "blue_green"
approvals = []
[envs.only]
llm = "extractive"
cache_ttl_s = 0
"""


def plans() -> Iterator[tuple[str, Plan]]:
    yield "default", derive(default())
    for name in ("pilotis.toml", "minimal.toml"):
        yield name, derive(parse((ROOT / "examples" / name).read_text(encoding="utf-8"), Path(name)))
    yield "long", derive(parse(LONG, Path("long.toml")))
    yield "blue_green", derive(parse(BLUE_GREEN, Path("blue_green.toml")))


PLANS = dict(plans())


def graphs() -> Iterator[object]:
    for name, plan in PLANS.items():
        on = scene(plan)
        for language in LANGUAGES:
            words = Wording(language)
            for env, site in on.sites.items():
                yield pytest.param(architecture(site, plan, words), id=f"{name}-architecture-{env}-{language}")
            for path in (online, batch, release):
                yield pytest.param(path(on, words), id=f"{name}-{path.__name__}-{language}")


each_graph = pytest.mark.parametrize("graph", list(graphs()))


def overlap(one: Rect, other: Rect) -> bool:
    return one.x < other.right and other.x < one.right and one.y < other.bottom and other.y < one.bottom


@each_graph
def test_mermaid_and_svg_name_the_same_boxes_and_texts(graph: Graph) -> None:
    drawn = ET.fromstring(svg(graph, ("Rendered -- here.",)))
    ids = [one.attrib["data-id"] for one in drawn.iter() if "data-id" in one.attrib]
    text = mermaid(graph)
    named = re.findall(r'^\s+(\w+)\["<b>', text, re.MULTILINE)
    assert sorted(ids) == sorted(named) == sorted(box.id for box in graph.boxes)
    assert len(set(ids)) == len(ids)
    shown = "".join("".join(one.itertext()) for one in drawn.iter("{http://www.w3.org/2000/svg}text")).replace(" ", "")
    for box in graph.boxes:
        assert box.title.replace(" ", "") in shown
    drawn_lines = [one for one in drawn.iter("{http://www.w3.org/2000/svg}path") if "marker-end" in one.attrib]
    assert len(drawn_lines) == len(re.findall(r" -\.?-?>", text)) == len(graph.lines)


@each_graph
def test_no_two_boxes_overlap_and_frames_hold_what_is_theirs(graph: Graph) -> None:
    picture = lay_out(graph)
    for one, other in combinations(picture.boxes, 2):
        assert not overlap(one.rect, other.rect), (one.box.id, other.box.id)
    rects = {one.box.id: one.rect for one in picture.boxes} | {group.id: rect for group, rect in picture.frames}
    for group, frame in picture.frames:
        inside = leaves(graph, group.id)
        for one in picture.boxes:
            assert overlap(one.rect, frame) == (one.box.id in inside), (one.box.id, group.id)
        for member in group.members:
            inner = rects[member]
            assert frame.x < inner.x
            assert inner.right < frame.right
            assert frame.y < inner.y
            assert inner.bottom < frame.bottom
    assert all(rect.x >= 0 and rect.right <= picture.width and rect.bottom <= picture.height for rect in rects.values())


def leaves(graph: Graph, name: str) -> set[str]:
    group = next((group for group in graph.groups if group.id == name), None)
    return {name} if group is None else {leaf for member in group.members for leaf in leaves(graph, member)}


@each_graph
def test_every_text_is_inside_its_box(graph: Graph) -> None:
    for placed in lay_out(graph).boxes:
        for text in placed.texts:
            half = width(text.text, text.size, bold=text.bold) / 2
            assert placed.rect.x <= text.x - half, text
            assert text.x + half <= placed.rect.right, text
            assert placed.rect.y <= text.y - text.size, text
            assert text.y + text.size * 0.25 <= placed.rect.bottom, text


@each_graph
def test_every_line_touches_both_its_ends_and_no_other_box(graph: Graph) -> None:
    picture = lay_out(graph)
    rects = {one.box.id: one.rect for one in picture.boxes} | {group.id: rect for group, rect in picture.frames}
    for route in picture.routes:
        assert on_edge(route.points[0], rects[route.line.source]), route
        assert on_edge(route.points[-1], rects[route.line.target]), route
        for (x0, y0), (x1, y1) in zip(route.points, route.points[1:], strict=False):
            assert x0 == x1 or y0 == y1, "a line turns at right angles"
            for placed in picture.boxes:
                assert not crosses((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), placed.rect), (route, placed.box.id)


def on_edge(point: tuple[float, float], rect: Rect) -> bool:
    x, y = point
    sides = (x in {rect.x, rect.right} and rect.y <= y <= rect.bottom, y in {rect.y, rect.bottom} and rect.x <= x <= rect.right)
    return any(sides)


def crosses(span: tuple[float, float, float, float], rect: Rect) -> bool:
    left, top, right, bottom = span
    return left < rect.right and rect.x < right and top < rect.bottom and rect.y < bottom


@each_graph
def test_two_lines_from_different_sources_never_run_over_each_other(graph: Graph) -> None:
    def pieces(picture: Picture) -> Iterator[tuple[str, float, float, float]]:
        for route in picture.routes:
            for (x0, y0), (x1, y1) in zip(route.points, route.points[1:], strict=False):
                if x0 == x1:
                    yield route.line.source, x0, min(y0, y1), max(y0, y1)

    upright = list(pieces(lay_out(graph)))
    for (one, x, top, bottom), (other, across, low, high) in combinations(upright, 2):
        assert one == other or abs(x - across) > 4 or bottom <= low or high <= top


def test_what_stands_in_the_architecture_is_what_is_deployed() -> None:
    on = scene(PLANS["pilotis.toml"])
    site = on.sites["prod"]
    graph = architecture(site, on.plan, Wording("en"))
    boxes = {box.title: " ".join(box.notes) for box in graph.boxes}
    for role in roles(site):
        assert role.name in boxes
    assert "4 to 8 × 1 vCPU" in boxes["api"]
    assert "rag.example.com" in boxes["Gateway"]
    assert "gpt-5-nano: writes when costs rise" in boxes["openai"]
    assert "Redis, cache M" in boxes
    assert "10\N{NO-BREAK SPACE}% of the traces" in boxes["OTel collector"]


def test_the_release_goes_through_the_contracts_stages_and_approvals() -> None:
    on = scene(PLANS["long"])
    graph = release(on, Wording("en"))
    titles = [box.title for box in graph.boxes]
    assert [title for title in titles if title.endswith("% of preprod")] == [
        f"{share} % of preprod" for share in (1, 2, 5, 10, 25, 50, 100)
    ]
    (asked,) = [box.notes[0] for box in graph.boxes if box.id == "approve"]
    assert asked == "business, SRE, security-and-compliance and data-protection-officer"


def test_both_languages_have_every_picture_and_no_words_of_the_other() -> None:
    made = {file.path: file for file in files(scene(PLANS["pilotis.toml"]))}
    english = {path for path in made if not path.startswith("diagrams/fr/")}
    assert {path.replace("diagrams/", "diagrams/fr/") for path in english} == set(made) - english
    assert len(english) == 2 * (3 + 3)
    assert not [path for path, file in made.items() if " | " in str(file.content)]
    assert made["diagrams/architecture-prod.svg"].env == "prod"
    assert made["diagrams/online.svg"].env is None


def test_one_language_alone() -> None:
    on = scene(PLANS["minimal.toml"], ("fr",))
    assert all(file.path.startswith("diagrams/fr/") for file in files(on))


@pytest.mark.parametrize("name", list(PLANS))
def test_rendered_twice_they_are_the_same(name: str) -> None:
    def made(on: Scene) -> list[bytes]:
        return [file.data for file in files(on)]

    assert made(scene(PLANS[name])) == made(scene(PLANS[name]))


@pytest.mark.parametrize("text", ["a" * 200, "s3://a/b-c.d" * 9, "un deux trois " * 20, "", "W" * 30])
def test_a_wrapped_text_is_narrow_enough_and_whole(text: str) -> None:
    lines = wrap(text, 12, 150)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(width(line, 12) <= 150 for line in lines)


def test_a_line_past_a_box_is_refused() -> None:
    boxes = tuple(Box(id=name, title=name, row=n) for n, name in enumerate("abc"))
    with pytest.raises(ValueError, match="would cross what stands between"):
        lay_out(Graph(title="t", subtitle="s", boxes=boxes, lines=(Line(source="a", target="c"),)))
    aside = tuple(Box(id=name, title=name, column=n) for n, name in enumerate("abc"))
    with pytest.raises(ValueError, match="do not stand side by side"):
        lay_out(Graph(title="t", subtitle="s", boxes=aside, lines=(Line(source="a", target="c"),)))


def test_what_mermaid_would_read_as_markup_is_escaped() -> None:
    box = Box(id="a", title='"<script>#1', notes=("x & y",))
    assert "#quot;#lt;script#gt;#35;1" in mermaid(Graph(title="t", subtitle="s", boxes=(box,), lines=()))
