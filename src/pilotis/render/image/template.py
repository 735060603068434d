"""The texts beside this module: shell, and templates of files that no library writes."""

from __future__ import annotations

from importlib import resources

from pilotis.derive.workload import API_PORT


def text(name: str) -> str:
    return resources.files("pilotis.render.image").joinpath(name).read_text(encoding="utf-8")


def fill(template: str, **values: object) -> str:
    """A template, filled in. A name that it asks for and nobody gave is an error."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701 - no HTML
    return environment.from_string(text(template)).render(values)


def probe(path: str, port: int = API_PORT) -> str:
    """Python that ends well where this machine answers well there: the image has no curl, and needs none for this."""
    return f"import urllib.request as u; u.urlopen('http://127.0.0.1:{port}{path}', timeout=2)"
