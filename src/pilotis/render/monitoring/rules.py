"""The rules of an env: what is recorded, what is alerted, and the tests that make each alert fire and leave it silent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pilotis.derive.site import Site
from pilotis.render.files import Scene
from pilotis.render.monitoring import cost, service, slo
from pilotis.render.monitoring.alert import Alert, Case, Recording, seconds
from pilotis.render.runbook.alerts import page_of

LONG_S = 86_400
GROUPS = ("service", "cost", "batch")


def alerts(scene: Scene, site: Site) -> tuple[Alert, ...]:
    """Every alert of an env, those about its objectives first. Which there are follows from the contract."""
    return (*slo.alerts(scene, site), *cost.alerts(scene, site), *service.alerts(scene, site))


def recordings(scene: Scene, site: Site) -> tuple[Recording, ...]:
    """Every recorded question of an env; one that asks another stands after it."""
    return (*slo.recordings(scene), *cost.recordings(scene, site))


def rule_groups(scene: Scene, site: Site) -> list[dict[str, Any]]:
    """The groups as Prometheus and its operator take them. Empty ones are left out."""
    made: dict[str, list[dict[str, Any]]] = {name: [] for name in GROUPS}
    for recording in recordings(scene, site):
        made[recording.group].append({"record": recording.name, "expr": recording.expr})
    for alert in alerts(scene, site):
        made[alert.group].append(_rule(alert, site))
    return [{"name": f"{site.name}-{name}", "rules": rules} for name, rules in made.items() if rules]


def page_url(alert: str, site: Site) -> str:
    return f"{site.runbook_url}/{page_of(alert).removesuffix('.md')}"


def tests(scene: Scene, site: Site, group: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """By the ending of their file, what `promtool test rules` takes: each case of each alert of the group. Those of a day and more
    are evaluated less often, since a week of minutes takes minutes.
    """
    cases = [(alert, case) for alert in alerts(scene, site) if alert.group == group for case in alert.cases]
    for ending, every, those in (
        ("test", "1m", [pair for pair in cases if seconds(pair[1].at) < LONG_S]),
        ("long_test", "4m", [pair for pair in cases if seconds(pair[1].at) >= LONG_S]),
    ):
        if those:
            yield (
                ending,
                {
                    "rule_files": [f"../rules/{group}.yml"],
                    "evaluation_interval": every,
                    "tests": [_test(alert, case, site) for alert, case in those],
                },
            )


def _rule(alert: Alert, site: Site) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.for_,
        "labels": _labels(alert),
        "annotations": _annotations(alert, site),
    }


def _labels(alert: Alert) -> dict[str, str]:
    return {"severity": alert.severity, **alert.labels}


def _annotations(alert: Alert, site: Site) -> dict[str, str]:
    return {"summary": alert.summary, "description": alert.description, "runbook_url": page_url(alert.name, site)}


def _test(alert: Alert, case: Case, site: Site) -> dict[str, Any]:
    fired = [
        {
            "exp_labels": {**_labels(alert), **labels},
            "exp_annotations": dict(_filled(_annotations(alert, site), {**_labels(alert), **labels})),
        }
        for labels in case.fires
    ]
    return {
        "name": f"{alert.name}: {case.why}",
        "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
        "alert_rule_test": [{"eval_time": case.at, "alertname": alert.name, "exp_alerts": fired}],
    }


def _filled(annotations: Mapping[str, str], labels: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, text in annotations.items():
        yield name, re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels.get(found[1], ""), text)
