"""The runbook: what to do, page by page, in each language, with the contract's own figures; one page for every alert there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pilotis.render.files import File, Scene
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
    for language in scene.languages:
        words = Wording(language)
        pages = _environment(words)
        known = {**said(scene, words), "alerts": []}
        for name in PAGES:
            text = pages.get_template(f"{language}/{name}.md.j2").render(known)
            yield File(path=f"runbook/{language}/{name}.md", content=_banner(scene) + _tidy(text))


def page_of(alert: str) -> str:
    """The file name of an alert's page: `CostPerRequestHigh` has `cost-per-request-high.md`."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", alert)
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', parts).strip('-').lower()}.md"


def _banner(scene: Scene) -> str:
    return "".join(f"{line}\n" for line in ("<!--", *scene.origin, "-->", ""))


def _tidy(text: str) -> str:
    """Conditions leave empty lines behind: one is enough."""
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _environment(words: Wording) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("pilotis.render.runbook"),
        autoescape=False,  # noqa: S701 - Markdown, made from a contract that was checked
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    filters: dict[str, Any] = {"eur": words.eur, "percent": words.percent, "span": words.span, "number": words.number}
    pages.filters.update(filters)
    return pages
