"""How many of each: KEDA's ScaledObjects, one for the API and one for each queue. Nothing else scales any of them.

What waits stands in Postgres; Redis carries nudges only. So the workers follow a count of rows, ready and in hand alike: a task that is
being worked on must not look like an empty queue.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from pilotis.derive.workload import LONGEST_TASK_S, Role
from pilotis.render.kubernetes.common import PROMETHEUS_URL, Manifest, Place

POLL_S = 30
WAIT_S = 300
"""How long work may wait before one more worker is worth starting."""
PASSAGES_PER_S = 10
"""Of one embedding worker: of 6 to 13 that were measured on a busy core with the local model. A provider's is faster."""
SETTLE_S = 60
"""Beyond the longest task, before the last worker goes."""
FAILURES = 3
"""Counts in a row that could not be had, after which the number of workers no longer follows them."""
CALM_S = 300
"""How long load must have been lower before a pod of the API goes."""

INGEST = """\
SELECT count(*) FROM document
WHERE state IN ('received', 'parsing')
  AND (lease_until > now() OR (
    next_try_at <= now()
    AND NOT EXISTS (SELECT FROM turn WHERE queue = 'ingest' AND turn.bu IN (document.bu, '*') AND paused_until > now())))
"""
EMBED = """\
SELECT count(DISTINCT document.id) + count(draft.document_id) FROM document
LEFT JOIN draft ON draft.document_id = document.id AND draft.embedding IS NULL
WHERE document.state = 'embedding'
  AND (draft.claimed_until > now()
    OR NOT EXISTS (SELECT FROM turn WHERE queue = 'embed' AND turn.bu IN (document.bu, '*') AND paused_until > now()))
"""
EVAL = "SELECT count(*) FROM evaluation WHERE env = '{env}' AND ordered IS NOT NULL AND state IN ('waiting', 'running')\n"


def scaling(at: Place) -> Iterator[Manifest]:
    yield _api(at)
    yield {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "TriggerAuthentication",
        "metadata": at.meta("database"),
        "spec": {"secretTargetRef": [{"parameter": "connection", "name": at.secret, "key": "PILOTIS_DATABASE_URL"}]},
    }
    for role in at.roles:
        if role.queue:
            yield _queue(at, role)


def query(at: Place, queue: str) -> str:
    """How much of a queue is ready or in hand: documents to read; documents to complete and passages to embed; runs to carry out.

    What rests, and what is to be tried again later, is neither.
    """
    return {"ingest": INGEST, "embed": EMBED, "eval": EVAL.format(env=at.site.env.name)}[queue]


def share(at: Place, queue: str) -> int:
    """How much of that one worker takes without anything waiting longer than WAIT_S, at its slowest."""
    env = at.site.env
    return {
        "ingest": max(1, WAIT_S // env.parse_timeout_s),
        "embed": max(env.batch_emb, WAIT_S * PASSAGES_PER_S),
        "eval": 1,
    }[queue]


def in_flight(at: Place) -> int:
    """Requests that a pod of the API serves at once at the rate it was sized for, none faster than the SLO allows (Little's law)."""
    env, size, p95_ms = at.site.env, at.site.size, at.contract.slo.p95_ms
    slow_s = float(p95_ms) / 1000 if p95_ms is not None else env.total_s
    return max(1, min(env.in_flight, ceil(float(size.rps) / size.api_pods * slow_s)))


def least(at: Place, role: Role) -> int:
    """Outside prod a queue without work has no worker."""
    return role.replicas if at.site.is_prod or role.queue is None else 0


def _api(at: Place) -> Manifest:
    """By requests in flight, because a process that waits for a model takes no processor; by the processor, where it does.

    Without a fallback: KEDA allows none beside the processor, which goes on to be heeded while Prometheus is away.
    """
    role = at.role("api")
    target = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": at.named("api")}
    return _scaled(
        at,
        role,
        target,
        cooldown_s=CALM_S,
        down=_slowly(CALM_S),
        triggers=[
            {"type": "cpu", "metricType": "Utilization", "metadata": {"value": str(int(at.contract.slo.cpu * 100))}},
            {
                "type": "prometheus",
                "metricType": "AverageValue",
                "metadata": {
                    "serverAddress": PROMETHEUS_URL,
                    "query": f'sum(rag_in_flight{{namespace="{at.space}"}})',
                    "threshold": str(in_flight(at)),
                    "ignoreNullValues": "false",
                },
            },
        ],
    )


def _queue(at: Place, role: Role) -> Manifest:
    """`dbName` is beside a whole connection string only what KEDA knows its connections by: without it, it would take those of another
    env's database for these.
    """
    queue = str(role.queue)
    made = _scaled(
        at,
        role,
        {"apiVersion": "apps/v1", "kind": "Deployment", "name": at.named(role.name)},
        cooldown_s=LONGEST_TASK_S + SETTLE_S,
        down=_slowly(LONGEST_TASK_S),
        triggers=[
            {
                "type": "postgresql",
                "metricType": "AverageValue",
                "useCachedMetrics": True,
                "metadata": {
                    "dbName": at.site.name,
                    "query": query(at, queue),
                    "targetQueryValue": str(share(at, queue)),
                    "activationTargetQueryValue": "0",
                },
                "authenticationRef": {"name": at.named("database")},
            }
        ],
    )
    made["spec"]["fallback"] = {
        "failureThreshold": FAILURES,
        "replicas": role.replicas,
        "behavior": "currentReplicasIfHigher",
    }
    return made


def _scaled(at: Place, role: Role, target: Manifest, *, cooldown_s: int, down: Manifest, triggers: list[Manifest]) -> Manifest:
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": at.meta(role.name),
        "spec": {
            "scaleTargetRef": target,
            "pollingInterval": POLL_S,
            "cooldownPeriod": cooldown_s,
            "minReplicaCount": least(at, role),
            "maxReplicaCount": role.most,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": down}}},
            "triggers": triggers,
        },
    }


def _slowly(calm_s: int) -> Manifest:
    """One pod a minute, once it has been calm for so long."""
    return {"stabilizationWindowSeconds": calm_s, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}
