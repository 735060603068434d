"""What watches an env: Prometheus with its rules and their tests, Alertmanager, Grafana's dashboards, the collector of traces."""

from __future__ import annotations

from collections.abc import Iterator

from pilotis.derive.site import Site
from pilotis.render.files import File, Scene, to_yaml
from pilotis.render.monitoring.rules import GROUPS, rule_groups, tests


def files(scene: Scene) -> Iterator[File]:
    for env, site in scene.sites.items():
        for path, content in _files(scene, site):
            yield File(path=f"monitoring/{env}/{path}", content=content, env=env)


def _files(scene: Scene, site: Site) -> Iterator[tuple[str, str]]:
    groups = {group["name"].removeprefix(f"{site.name}-"): group for group in rule_groups(scene, site)}
    for name in GROUPS:
        if name in groups:
            yield f"rules/{name}.yml", scene.banner() + to_yaml({"groups": [groups[name]]})
            # Not in rules/, all of which Prometheus reads.
            yield f"tests/{name}_test.yml", scene.banner() + to_yaml(tests(scene, site, name))
