"""Who is told of an alert: by its severity and, where a receiver is of some business units alone, by theirs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pilotis.contract.infra import SEVERITIES, Receiver, Severity
from pilotis.derive.site import Site

SECRETS = "/etc/alertmanager/secrets"
"""The folder of files that hold what is secret, each named after its receiver."""
NOBODY = "nobody"
SMTP_HOST = "smtp.{domain}:587"
PACE: Mapping[Severity, dict[str, str]] = {
    "page": {"group_wait": "10s", "group_interval": "1m", "repeat_interval": "1h"},
    "ticket": {"group_wait": "1m", "group_interval": "5m", "repeat_interval": "1d"},
    "info": {"group_wait": "5m", "group_interval": "30m", "repeat_interval": "3d"},
}
"""How soon alerts that belong together are told, and how often again."""
_SAME = ["scope"]


def alertmanager(site: Site, secrets: str = SECRETS) -> dict[str, Any]:
    """Its configuration. Nothing secret stands in it: what is, is read from files under `secrets`."""
    receivers = site.alerts.receivers
    made: dict[str, Any] = {}
    if any(receiver.kind == "email" for receiver in receivers.values()):
        made["global"] = {
            "smtp_smarthost": SMTP_HOST.format(domain=site.infra.domain),
            "smtp_from": f"alerts@{site.infra.domain}",
            "smtp_auth_username": f"alerts@{site.infra.domain}",
            "smtp_auth_password_file": f"{secrets}/smtp",
        }
    return {
        **made,
        "route": {
            "receiver": NOBODY,
            "group_by": ["alertname", "scope", "bu"],
            **PACE["ticket"],
            "routes": [_of(severity, receivers) for severity in SEVERITIES],
        },
        "inhibit_rules": _inhibited(),
        "receivers": [{"name": NOBODY}, *(_receiver(name, one, secrets) for name, one in receivers.items())],
    }


def _of(severity: Severity, receivers: Mapping[str, Receiver]) -> dict[str, Any]:
    """Everybody who wants this severity is told, hence `continue`."""
    route: dict[str, Any] = {"matchers": [f'severity="{severity}"'], "receiver": NOBODY, **PACE[severity]}
    told = [
        {
            "receiver": name,
            "matchers": [_any_of("bu", receiver.bus)] if receiver.bus else [],
            "continue": True,
        }
        for name, receiver in receivers.items()
        if severity in receiver.severities
    ]
    return {**route, "routes": told} if told else route


def _any_of(label: str, values: Iterable[str]) -> str:
    """Names of business units are free text: neither of what a regular expression nor of what a quoted text means may be in them."""
    either = "|".join(re.sub(r"[\\\\.+*?()|\[\]{}^$]", r"\\\g<0>", value) for value in values)
    return f'{label}=~"{either.replace(chr(92), chr(92) * 2).replace(chr(34), chr(92) + chr(34))}"'


def _inhibited() -> list[dict[str, Any]]:
    """Where nothing is seen, nothing else is worth saying; a page makes its own ticket needless."""
    pairs = (
        ("ErrorBudgetBurnFast", "ErrorBudgetBurnSlow"),
        ("LatencyBudgetBurnFast", "LatencyBudgetBurnSlow"),
        ("BudgetBurnFast", "BudgetBurnSlow"),
        ("CostPerRequestOverGuardrail", "CostPerRequestHigh"),
        ("GuardrailAtLastStep", "GuardrailActive"),
    )
    return [
        {
            "source_matchers": ['alertname="ServiceAbsent"'],
            "target_matchers": ['alertname=~"InstanceDown|MetricsAbsent"'],
        },
        *(
            {
                "source_matchers": [f'alertname="{strong}"'],
                "target_matchers": [f'alertname="{weak}"'],
                "equal": _SAME,
            }
            for strong, weak in pairs
        ),
    ]


def _receiver(name: str, receiver: Receiver, secrets: str) -> dict[str, Any]:
    file = f"{secrets}/{name}"
    match receiver.kind:
        case "email":
            return {"name": name, "email_configs": [{"to": receiver.to, "send_resolved": True}]}
        case "slack":
            return {
                "name": name,
                "slack_configs": [{"channel": receiver.channel, "api_url_file": file, "send_resolved": True}],
            }
        case "pagerduty":
            return {"name": name, "pagerduty_configs": [{"routing_key_file": file, "send_resolved": True}]}
        case "webhook":
            where = {"url": str(receiver.url)} if receiver.url else {"url_file": file}
            return {"name": name, "webhook_configs": [{**where, "send_resolved": True}]}
