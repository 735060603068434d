"""The runbook: what to do, page by page, in each language, with the contract's own figures; one page for every alert there is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilotis.render.files import File, Scene
from pilotis.render.monitoring.rules import alerts
from pilotis.render.runbook.alerts import Alert, warned
from pilotis.render.runbook.pages import said
from pilotis.render.wording import Wording

if TYPE_CHECKING:
    from jinja2 import Environment

PAGES = (
    "index",
    "incident-latency",
    "incident-cost",
    "incident-errors",
    "scaling",
    "cost",
    "rollback",
    "restore",
    "secrets",
    "release",
    "rca",
)


def files(scene: Scene) -> Iterator[File]:
    """runbook/LANGUAGE/PAGE.md: the pages of `PAGES` and one for each alert, under its name in lower case with hyphens."""
    main_first = sorted(scene.sites.values(), key=lambda site: site.env.name != scene.main.env.name)
    yield from pages(scene, {site.env.name: alerts(scene, site) for site in main_first})


def pages(scene: Scene, of_envs: Mapping[str, Sequence[Alert]]) -> Iterator[File]:
    """The same for these alerts of each env, the main env's first."""
    for language in scene.languages:
        words = Wording(language)
        templates = _environment(words)
        those = list(warned(of_envs, words))
        known = {**said(scene, words), "language": language, "alerts": those}
        made = {name: (f"{language}/{name}.md.j2", known) for name in PAGES}
        made |= {alert.page.removesuffix(".md"): (f"{language}/alert.md.j2", {**known, "alert": alert}) for alert in those}
        if len(made) < len(PAGES) + len(those):
            raise RuntimeError("two pages of the runbook have the same name")
        for name, (template, variables) in made.items():
            text = templates.get_template(template).render(variables)
            yield File(path=f"runbook/{language}/{name}.md", content=_banner(scene) + _tidy(text))


def _banner(scene: Scene) -> str:
    return "".join(f"{line}\n" for line in ("<!--", *scene.origin, "-->", ""))


def _tidy(text: str) -> str:
    """Conditions leave empty lines behind: one is enough."""
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _environment(words: Wording) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("pilotis.render.runbook"),
        autoescape=False,  # noqa: S701 - Markdown, made from a contract that was checked
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    filters: dict[str, Any] = {"eur": words.eur, "percent": words.percent, "span": words.span, "number": words.number}
    templates.filters.update(filters)
    return templates
