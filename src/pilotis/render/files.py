"""Rendered files as values: a path, a text, and a banner that says where it came from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import yaml

from pilotis.derive.plan import Plan
from pilotis.derive.site import Site, sites
from pilotis.render.wording import LANGUAGES, Language


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What every deliverable is made from: the plan, and where each of its envs stands."""

    plan: Plan
    sites: Mapping[str, Site]
    languages: tuple[Language, ...] = LANGUAGES
    """Of what people read: the runbook and the diagrams."""

    COMMAND: ClassVar[str] = "pilotis render"

    def banner(self, comment: str = "#", end: str = "") -> str:
        """The lines at the head of a file, in the comments of its format, with a blank line after them."""
        return "".join(f"{comment} {line}{end}\n" for line in self.origin) + "\n"

    @property
    def main(self) -> Site:
        """The env that a text for all envs takes its figures and commands from: prod, else the last one."""
        return self.sites.get("prod") or list(self.sites.values())[-1]

    @property
    def origin(self) -> tuple[str, ...]:
        return (
            f"Rendered by Pilotis from contract {self.plan.contract.name!r}, digest {self.plan.digest}.",
            f"Edit the contract, then run: {self.COMMAND}",
        )


def scene(plan: Plan, languages: tuple[Language, ...] = LANGUAGES) -> Scene:
    """Raises ContractError where an env cannot be placed (see `derive.site`)."""
    return Scene(plan=plan, sites=sites(plan), languages=languages)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One rendered file: `path` is relative, with slashes; `content` is text in UTF-8, or bytes; `env` is None for what all share."""

    path: str
    content: str | bytes = field(repr=False)
    env: str | None = None
    executable: bool = False

    @property
    def data(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else self.content.encode()


class _Dumper(yaml.SafeDumper):
    """Indents lists under their key, as people and ansible-lint expect, and writes texts of several lines as blocks."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 (PyYAML's own)
        super().increase_indent(flow=flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def to_yaml(documents: Iterable[Mapping[str, Any]] | Mapping[str, Any]) -> str:
    """One YAML document or several, keys in the order given. Only plain values: str, int, float, bool, None, lists, mappings."""
    several = [documents] if isinstance(documents, Mapping) else list(documents)
    return yaml.dump_all(
        several, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=130, explicit_start=True, default_flow_style=False
    )


def to_json(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"
