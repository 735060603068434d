"""Which page each alert has: what it means in a line, and the topic whose diagnosis and remedy it shares with others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pilotis.render.wording import Wording

TOPICS = (
    ("Price|Unpriced", "price", "a model has no price | un modèle n'a pas de prix"),
    (
        "Absent|Down|Unreachable|Missing|NoData|Target",
        "absent",
        "the service is not seen any more | on ne voit plus le service",
    ),
    (
        "Meter|Outbox|Silent|Hold",
        "meter",
        "costs are not counted as they should be | les coûts ne sont pas comptés comme il faut",
    ),
    ("Anomaly", "anomaly", "this hour costs far more than a week ago | cette heure coûte bien plus qu'il y a une semaine"),
    ("Error|Availability", "errors", "too many requests fail | trop de requêtes échouent"),
    ("Latency|P95|Slow|FirstByte", "latency", "answers are late | les réponses sont en retard"),
    ("PerRequest|PerReq|Per1k", "cost-per-request", "answers cost more than agreed | les réponses coûtent plus que convenu"),
    ("Guardrail", "guardrail", "the service is not the full one | le service n'est pas complet"),
    (
        "Budget|Burn|Forecast|Spen[dt]",
        "budget",
        "money is nearly spent, or will be early | l'argent est presque dépensé, ou le sera trop tôt",
    ),
    ("Queue|Document|Ingest|Embed", "queue", "documents wait or have failed | des documents attendent ou ont échoué"),
    ("Snapshot", "snapshot", "the last snapshot is too old | le dernier snapshot est trop vieux"),
    ("Secret", "secret", "a secret has to be replaced | un secret est à remplacer"),
    ("Breaker|Model", "model", "a model does not answer | un modèle ne répond pas"),
    (
        "Saturat|Cpu|CPU|Memory|Ram|InFlight|Connections|Disk",
        "saturation",
        "processes are nearly full | les processus sont presque pleins",
    ),
)
"""By what stands in an alert's name, the first that fits: its topic, and what it says."""


class Alert(Protocol):
    """What a page needs to know of an alert. `severity` is page, ticket or info; `waits` as Prometheus writes it, such as 5m, or empty."""

    @property
    def name(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def expr(self) -> str: ...
    @property
    def waits(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """An alert as its page shows it."""

    name: str
    severity: str
    expr: str
    waits: str
    topic: str
    summary: str
    envs: tuple[str, ...]
    """Those that have it, the one whose expression is shown first."""

    @property
    def page(self) -> str:
        return page_of(self.name)


def warned(alerts: Mapping[str, Sequence[Alert]], words: Wording) -> Iterator[Warned]:
    """Every alert once, in the order in which they are given. `alerts` are those of each env, the main env's first.

    Raises RuntimeError for an alert that has no topic.
    """
    envs: dict[str, list[str]] = {}
    shown: dict[str, Alert] = {}
    for env, those in alerts.items():
        for alert in those:
            envs.setdefault(alert.name, []).append(env)
            shown.setdefault(alert.name, alert)
    for name, alert in shown.items():
        topic, summary = topic_of(name)
        yield Warned(
            name=name,
            severity=alert.severity,
            expr=alert.expr.strip(),
            waits=alert.waits,
            topic=topic,
            summary=words.pick(summary),
            envs=tuple(dict.fromkeys(envs[name])),
        )


def topic_of(alert: str) -> tuple[str, str]:
    """Topic and summary."""
    for pattern, topic, summary in TOPICS:
        if re.search(pattern, alert):
            return topic, summary
    raise RuntimeError(f"the runbook has no topic for the alert {alert}")


def page_of(alert: str) -> str:
    """The file name of an alert's page: `CostPerRequestHigh` has `cost-per-request-high.md`."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", alert)
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', parts).strip('-').lower()}.md"
