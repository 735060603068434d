"""What watches an env follows from the contract, and asks only what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from pilotis.contract import load
from pilotis.contract.infra import SEVERITIES
from pilotis.derive.plan import derive
from pilotis.render.files import Scene, scene
from pilotis.render.monitoring.alert import Recording
from pilotis.render.monitoring.alertmanager import alertmanager
from pilotis.render.monitoring.collector import collector
from pilotis.render.monitoring.dashboards import dashboards
from pilotis.render.monitoring.lint import labels_of, lint
from pilotis.render.monitoring.monitoring import files
from pilotis.render.monitoring.rules import alerts, page_url, recordings, rule_groups
from pilotis.render.monitoring.slo import bucket_s
from pilotis.render.runbook.alerts import topic_of

EXAMPLES = Path(__file__).parents[3] / "examples"
CONTRACTS = [None, EXAMPLES / "pilotis.toml", EXAMPLES / "minimal.toml", EXAMPLES / "specification.json"]


def on(contract: Path | None) -> Scene:
    return scene(derive(load.load(contract) if contract else load.default()))


@pytest.fixture(scope="module", params=CONTRACTS, ids=lambda path: path.name if path else "built-in")
def at(request: pytest.FixtureRequest) -> Scene:
    return on(request.param)


def told(tmp_path: Path, text: str) -> Scene:
    path = tmp_path / "pilotis.toml"
    path.write_text((EXAMPLES / "minimal.toml").read_text() + text)
    return on(path)


def test_each_alert_is_complete_and_fires_and_is_silent(at: Scene) -> None:
    for site in at.sites.values():
        found = alerts(at, site)
        assert len({alert.name for alert in found}) == len(found)
        for alert in found:
            assert alert.severity in SEVERITIES
            assert alert.summary
            assert alert.description
            assert alert.units
            assert re.fullmatch(r"\d+[mh]", alert.for_)
            assert any(case.fires for case in alert.cases), alert.name
            assert any(not case.fires for case in alert.cases), alert.name
            assert topic_of(alert.name)
            assert re.fullmatch(rf"{re.escape(site.runbook_url)}/[a-z0-9-]+", page_url(alert.name, site))


def test_every_question_passes_the_lint(at: Scene) -> None:
    for site in at.sites.values():
        recorded = recordings(at, site)
        known, days = labels_of(recorded), site.alerts.retention_days
        asked = [*(one.expr for one in recorded), *(one.expr for one in alerts(at, site))]
        asked += [
            target["expr"]
            for board in dashboards(at, site).values()
            for panel in board["panels"]
            for target in panel["targets"]
        ]
        assert [(expr, said) for expr in asked for said in lint(expr, known, retention_days=days)] == []


@pytest.mark.parametrize(
    ("expr", "said"),
    [
        ("sum(increase(rag_cost_eur_total[1h])) > BUDGET_HOURLY", "BUDGET_HOURLY is no metric"),
        ("sum(rate(rag_cost_eur_total[1h])) > 10", "euros a second"),
        ("sum(rate(rag_cost_eur_total[10m])) / sum(rate(rag_requests_total[10m]))", "floor"),
        ("increase(rag_requests_total[9w]) > 1", "days back"),
        ("increase(rag_requests_total[5w] offset 1w) > 1", "days back"),
        ("rag:requests_failed:ratio1h > 1.44", "never exceed"),
        ('rag_requests_total{plane="online"} > 1', "no label plane"),
        ("rag_request_seconds > 1", "is no metric"),
        ("sum(rate(rag_cost_eur_total[1h])) / sum(rate(rag_requests_total[1h])) > 1", "floor"),
        ("rate(rag_cost_eur_total[1h]) / rate(rag_requests_total[1h]) > 2", "floor"),
    ],
)
def test_the_lint_refuses(expr: str, said: str) -> None:
    ratio = Recording(name="rag:requests_failed:ratio1h", group="service", expr="1", labels=(), units="ratio")
    assert any(said in found for found in lint(expr, labels_of([ratio]), retention_days=40))


def test_money_a_second_times_an_hour_is_money_an_hour() -> None:
    assert not list(lint("sum(rate(rag_cost_eur_total[1h])) * 3600 > 10", labels_of([]), retention_days=40))


def test_the_bucket_is_the_first_that_is_not_below_the_objective() -> None:
    assert (bucket_s(8000), bucket_s(5000), bucket_s(5001), bucket_s(999_999)) == (10.0, 5.0, 10.0, 120.0)


def test_windows_that_cannot_fire_are_left_out(tmp_path: Path) -> None:
    at = told(tmp_path, "[slo]\nerror_rate = 0.1\n")
    (fast,) = (alert for alert in alerts(at, at.sites["dev"]) if alert.name == "ErrorBudgetBurnFast")
    assert "ratio6h > 0.6" in fast.expr
    assert "ratio1h" not in fast.expr


def test_without_objectives_their_alerts_are_not_there(tmp_path: Path) -> None:
    at = told(tmp_path, "")
    names = {alert.name for alert in alerts(at, at.sites["dev"])}
    assert not names & {"LatencyBudgetBurnFast", "CostMeterSilent"}
    at = told(tmp_path, 'snapshot = { place = "/snapshots" }\n[slo]\np95_ms = 900\n')
    names = {alert.name for alert in alerts(at, at.sites["dev"])}
    assert "LatencyBudgetBurnFast" in names


def test_receivers_keep_what_is_secret_in_files(tmp_path: Path) -> None:
    at = told(
        tmp_path,
        '[alerts.receivers.oncall]\nkind = "pagerduty"\nseverities = ["page"]\n'
        '[alerts.receivers.sales]\nkind = "slack"\nchannel = "#sales"\nbus = ["sales"]\n'
        '[alerts.receivers.mail]\nkind = "email"\nto = "a@example.com"\n',
    )
    made = alertmanager(at.sites["dev"])
    assert [one["name"] for one in made["receivers"]] == ["nobody", "oncall", "sales", "mail"]
    assert made["receivers"][1]["pagerduty_configs"][0]["routing_key_file"].endswith("/oncall")
    assert made["receivers"][2]["slack_configs"][0]["api_url_file"].endswith("/sales")
    page, ticket, _ = made["route"]["routes"]
    assert [one["receiver"] for one in page["routes"]] == ["oncall", "sales", "mail"]
    assert [one["receiver"] for one in ticket["routes"]] == ["sales", "mail"]


def test_the_collector_keeps_what_failed_and_the_share_of_the_env(at: Scene) -> None:
    for site in at.sites.values():
        failed, slow, share = collector(at, site)["processors"]["tail_sampling"]["policies"]
        assert (failed["type"], slow["type"]) == ("status_code", "latency")
        assert share["probabilistic"]["sampling_percentage"] == pytest.approx(site.env.trace_sampling * 100)


def test_files_are_read_back_as_what_they_are(at: Scene) -> None:
    made = {file.path: file for file in files(at)}
    for path, file in made.items():
        assert isinstance(file.content, str)
        assert at.plan.digest in file.content
        if path.endswith(".json"):
            panels = json.loads(file.content)["panels"]
            assert len({panel["id"] for panel in panels}) == len(panels) > 3
        else:
            assert yaml.safe_load(file.content)
    for env, site in at.sites.items():
        stood = {name for name in made if name.startswith(f"monitoring/{env}/rules/")}
        assert len(stood) == len(rule_groups(at, site))
