"""The online plane: a Rollout, its Services, and the question that each stage of a release asks Pilotis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pilotis.render.kubernetes.common import RELEASE, UNSET_RELEASE, Manifest, Place
from pilotis.render.kubernetes.pods import grace_s, pod
from pilotis.render.kubernetes.route import GATEWAY_PLUGIN

HTTP = 80
"""The port of every Service; pods listen on the one of their role."""
ASK_EVERY_S = 60
ASK_FIRST_S = 60
"""Not before the router has its new weight and the release some requests."""
ASK_TIMEOUT_S = 20
MOST_ERRORS = 10
"""Questions in a row that get no answer, after which the release is called back: nobody judges it any more."""
STARTED_S = 10
"""How long a new pod must be ready before it counts."""
PROGRESS_S = 900
"""After which pods that do not get ready end the release: an image to pull, a model to unpack, a start of two minutes."""
STANDBY_S = 600
"""How long the release before stays up once the new one has all traffic: so long is going back a matter of seconds."""


def api(at: Place) -> Iterator[Manifest]:
    """The number of pods follows from load (see `scaling`), and is not stated here."""
    role = at.role("api")
    yield {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": at.meta("api", annotations={RELEASE: UNSET_RELEASE}),
        "spec": {
            "revisionHistoryLimit": 5,
            "minReadySeconds": STARTED_S,
            "progressDeadlineSeconds": PROGRESS_S,
            "progressDeadlineAbort": at.contract.deploy.rollback_on == "slo_breach",
            "selector": {"matchLabels": at.selector("api")},
            "strategy": _canary(at) if at.is_canary else _blue_green(at),
            "template": pod(at, role),
        },
    }
    for name in at.services:
        yield _service(at, name)
    yield {
        **_service(at, at.named("api-metrics")),
        "spec": {**_service_spec(at), "clusterIP": "None"},
    }
    if role.replicas > 1:
        yield {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": at.meta("api"),
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": at.selector("api")}},
        }


def verdict(at: Place) -> Iterator[Manifest]:
    """Pilotis is asked until it says PASS or FAIL. Whatever else it says, or a page without a verdict, is neither, and holds the stage:
    silence is no health. After the longest hold of the contract the release rests where it is, and a person decides.
    """
    deploy = at.contract.deploy
    holds = max(1, deploy.max_hold_s // ASK_EVERY_S)
    fails, errors = ("result == 'FAIL'", MOST_ERRORS) if deploy.rollback_on == "slo_breach" else ("false", holds)
    stable = at.services[0]
    yield {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AnalysisTemplate",
        "metadata": at.meta("verdict", component="api"),
        "spec": {
            "args": [
                {"name": "release"},
                {"name": "stage"},
                {"name": "key", "valueFrom": {"secretKeyRef": {"name": at.named("judge"), "key": "PILOTIS_JUDGE_KEY"}}},
            ],
            "metrics": [
                {
                    "name": "verdict",
                    "initialDelay": f"{ASK_FIRST_S}s",
                    "interval": f"{ASK_EVERY_S}s",
                    "consecutiveSuccessLimit": 1,
                    "failureLimit": 0,
                    "inconclusiveLimit": holds,
                    "consecutiveErrorLimit": errors,
                    "successCondition": "result == 'PASS'",
                    "failureCondition": fails,
                    "provider": {
                        "web": {
                            "url": f"http://{stable}.{at.space}.svc/v1/releases/{{{{args.release}}}}/verdict?stage={{{{args.stage}}}}",
                            "timeoutSeconds": ASK_TIMEOUT_S,
                            "headers": [{"key": "Authorization", "value": "Bearer {{args.key}}"}],
                            "jsonPath": "{$.verdict}",
                        }
                    },
                }
            ],
        },
    }


def _canary(at: Place) -> Manifest:
    """Each stage of the contract, and at each the question. Weights move in the router, so that 5 is 5 per cent of requests, not of pods."""
    stable, canary = at.services
    steps: list[Manifest] = []
    for stage in at.contract.deploy.stages:
        steps += [{"setWeight": stage}, {"analysis": _question(at, stage)}]
    role = at.role("api")
    return {
        "canary": {
            "stableService": stable,
            "canaryService": canary,
            "stableMetadata": {"labels": {"track": "stable"}},
            "canaryMetadata": {"labels": {"track": "canary"}},
            "maxSurge": "25%",
            "maxUnavailable": 0,
            "abortScaleDownDelaySeconds": grace_s(role),
            "scaleDownDelaySeconds": STANDBY_S,
            "trafficRouting": {"plugins": {GATEWAY_PLUGIN: {"httpRoute": at.named("api"), "namespace": at.space}}},
            "steps": steps,
        }
    }


def _blue_green(at: Place) -> Manifest:
    """All traffic at once, once the release has been judged beside the one that serves; and judged again with the traffic.

    No delay is stated after which the old one goes: it would end the second question with it, and pass the release without an answer.
    """
    active, preview = at.services
    return {
        "blueGreen": {
            "activeService": active,
            "previewService": preview,
            "activeMetadata": {"labels": {"track": "stable"}},
            "previewMetadata": {"labels": {"track": "canary"}},
            "autoPromotionEnabled": True,
            "prePromotionAnalysis": _question(at, 0),
            "postPromotionAnalysis": _question(at, 100),
            "abortScaleDownDelaySeconds": grace_s(at.role("api")),
        }
    }


def _question(at: Place, stage: int) -> dict[str, Any]:
    return {
        "templates": [{"templateName": at.named("verdict")}],
        "args": [
            {"name": "release", "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{RELEASE}']"}}},
            {"name": "stage", "value": str(stage)},
        ],
    }


def _service(at: Place, name: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**at.meta("api"), "name": name, "labels": {**at.labels("api"), "service": name}},
        "spec": {"type": "ClusterIP", **_service_spec(at)},
    }


def _service_spec(at: Place) -> Manifest:
    return {
        "selector": at.selector("api"),
        "ports": [{"name": "http", "port": HTTP, "targetPort": "http", "protocol": "TCP"}],
    }
