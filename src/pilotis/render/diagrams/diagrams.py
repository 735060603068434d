"""The pictures of a contract, as Mermaid and as SVG: each env's architecture, and the roads of a question, a document and a release."""

from __future__ import annotations

from collections.abc import Iterator

from pilotis.render.diagrams.architecture import architecture
from pilotis.render.diagrams.graph import Graph
from pilotis.render.diagrams.mermaid import mermaid
from pilotis.render.diagrams.paths import batch, online, release
from pilotis.render.diagrams.svg import svg
from pilotis.render.files import File, Scene
from pilotis.render.wording import Language, Wording


def files(scene: Scene) -> Iterator[File]:
    """diagrams/NAME.mmd and .svg in English, diagrams/fr/NAME.mmd and .svg in French; of the scene's languages."""
    for language in scene.languages:
        words = Wording(language)
        for name, site in scene.sites.items():
            yield from _both(scene, f"architecture-{name}", architecture(site, scene.plan, words), language, env=name)
        for name, path in (("online", online), ("batch", batch), ("release", release)):
            yield from _both(scene, name, path(scene, words), language)


def path_of(name: str, language: Language) -> str:
    """Where the SVG of that name lies among the rendered files."""
    return f"diagrams/{'' if language == 'en' else language + '/'}{name}.svg"


def _both(scene: Scene, name: str, graph: Graph, language: Language, env: str | None = None) -> Iterator[File]:
    path = path_of(name, language)
    yield File(path=path, content=svg(graph, scene.origin), env=env)
    yield File(path=path.removesuffix("svg") + "mmd", content=scene.banner("%%") + mermaid(graph), env=env)
