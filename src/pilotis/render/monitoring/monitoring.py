"""What watches an env: Prometheus with its rules and their tests, Alertmanager, Grafana's dashboards, the collector of traces."""

from __future__ import annotations

from collections.abc import Iterator

from pilotis.derive.site import Site
from pilotis.render.files import File, Scene, to_json, to_yaml
from pilotis.render.monitoring.alertmanager import alertmanager
from pilotis.render.monitoring.collector import collector
from pilotis.render.monitoring.dashboards import dashboards
from pilotis.render.monitoring.prometheus import prometheus
from pilotis.render.monitoring.provisioning import datasources, providers
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
            for ending, made in tests(scene, site, name):
                yield f"rules_test/{name}_{ending}.yml", scene.banner() + to_yaml(made)
    yield "prometheus.yml", scene.banner() + to_yaml(prometheus(site))
    yield "alertmanager.yml", scene.banner() + to_yaml(alertmanager(site))
    yield "otel-collector.yaml", scene.banner() + _BACKEND + to_yaml(collector(scene, site))
    yield "grafana/provisioning/datasources/prometheus.yaml", scene.banner() + to_yaml(datasources())
    yield "grafana/provisioning/dashboards/dashboards.yaml", scene.banner() + to_yaml(providers(site))
    for name, dashboard in dashboards(scene, site).items():
        yield f"grafana/dashboards/{name}.json", to_json(dashboard)


_BACKEND = """\
# What is kept is counted in the collector's log. To see traces, put the exporter of your store beside `debug`.
"""
