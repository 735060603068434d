"""The manifests of a cluster: that they fit together, and say what the contract says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilotis.contract import load
from pilotis.derive.plan import Plan, derive
from pilotis.derive.workload import API_PORT, CONTRACT_PATH, DRAIN_S, LONGEST_TASK_S, secrets
from pilotis.render.files import scene
from pilotis.render.kubernetes import files
from pilotis.render.kubernetes.common import UNSET_DIGEST, Place, place
from pilotis.render.kubernetes.folder import manifests
from pilotis.render.kubernetes.monitors import rules
from pilotis.render.kubernetes.scaling import in_flight, share

Manifest = dict[str, Any]

EVERYTHING = """
name = "rag"
[infra]
blobs = "s3"
image = "registry.example.com/team/pilotis"
[deploy]
strategy = "blue_green"
[sources.site]
kind = "web"
url = "https://docs.example.com"
bu = "sales"
[envs.dev]
llm = "extractive"
trace_sampling = 0
[envs.staging]
llm = "gpt-5-mini"
flags = ["hybrid", "rerank"]
reranker = { model = "m", base_url = "http://reranker.models.svc:8080/v1" }
secrets = { provider = "vault", path = "secret/rag/staging" }
[envs.prod]
llm = { model = "own", base_url = "http://10.1.2.3:9000/v1" }
flags = ["hybrid", "rerank"]
reranker = { model = "m", base_url = "http://reranker:8080/v1" }
secrets = { provider = "aws" }
rps = 50
"""
LONGEST = 'name = "abcdefghijklmnopqrstuvwxyza"\n[envs.prod]\nllm = "extractive"\n'


@cache
def plan(text: str = "") -> Plan:
    return derive(load.parse(text, Path("pilotis.toml")) if text else load.default())


def at(env: str = "prod", text: str = "") -> Place:
    on = scene(plan(text))
    return place(on, on.sites[env])


def of(where: Place) -> list[Manifest]:
    return [one for made in manifests(where).values() for one in made]


def kinds(where: Place, kind: str) -> list[Manifest]:
    return [one for one in of(where) if one["kind"] == kind]


def the(where: Place, kind: str, what: str) -> Manifest:
    (found,) = (one for one in kinds(where, kind) if one["metadata"]["name"] == where.named(what))
    return found


def pods(where: Place) -> dict[str, Manifest]:
    """The template of each component's pods."""
    owners = [one for one in of(where) if one["kind"] in {"Rollout", "Deployment", "Job"}]
    return {one["metadata"]["labels"]["app.kubernetes.io/component"]: one["spec"]["template"] for one in owners}


ALL = [("prod", ""), ("dev", ""), ("dev", EVERYTHING), ("staging", EVERYTHING), ("prod", EVERYTHING), ("prod", LONGEST)]
every = pytest.mark.parametrize(("env", "text"), ALL, ids=["prod", "dev", "all-dev", "all-staging", "all-prod", "longest"])


@every
def test_each_role_has_one_workload_that_runs_its_command(env: str, text: str) -> None:
    where = at(env, text)
    found = [one for one in of(where) if one["kind"] in {"Rollout", "Deployment", "StatefulSet"}]
    commands = {one["metadata"]["name"]: tuple(one["spec"]["template"]["spec"]["containers"][0]["command"]) for one in found}
    assert len(found) == len(commands)
    assert commands == {where.named(role.name): role.command for role in where.roles}


@every
def test_names_are_labels_of_dns_and_none_is_there_twice(env: str, text: str) -> None:
    where = at(env, text)
    named = [(one["kind"], one["metadata"]["name"]) for one in of(where)]
    assert len(named) == len(set(named))
    for kind, name in named:
        assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name), name
        assert len(f"keda-hpa-{name}" if kind == "ScaledObject" else name) <= 63, name
    spaces = {one["metadata"].get("namespace") for one in of(where) if one["kind"] not in {"Namespace", "PriorityClass"}}
    assert spaces == {where.space}


@every
def test_all_selectors_find_their_own_pods_and_no_others(env: str, text: str) -> None:
    where = at(env, text)
    labels = {name: template["metadata"]["labels"] for name, template in pods(where).items()}
    chosen = 0
    for one in of(where):
        component = one["metadata"]["labels"]["app.kubernetes.io/component"]
        for selector in _selectors(one):
            chosen += 1
            assert [name for name, own in labels.items() if selector.items() <= own.items()] == [component], one
    assert chosen > 10
    (monitor,) = kinds(where, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    services = [one["metadata"]["name"] for one in kinds(where, "Service") if wanted <= one["metadata"]["labels"].items()]
    assert services == [where.named("api-metrics")]


def _selectors(one: Manifest) -> Iterator[dict[str, str]]:
    spec = one.get("spec", {})
    if one["kind"] == "Service":
        yield spec["selector"]
    if one["kind"] in {"Deployment", "Rollout", "PodDisruptionBudget"}:
        yield spec["selector"]["matchLabels"]
    for spread in spec.get("template", {}).get("spec", {}).get("topologySpreadConstraints", ()):
        yield spread["labelSelector"]["matchLabels"]


@every
def test_whatever_is_named_is_there(env: str, text: str) -> None:
    where = at(env, text)
    there = {(one["kind"], one["metadata"]["name"]) for one in of(where)}
    own = {where.named("tls"), where.named("judge"), where.secret}
    there |= {("Secret", one["spec"]["target"]["name"]) for one in kinds(where, "ExternalSecret")}
    if where.site.secrets.provider in {"environment", "file"}:
        there |= {("Secret", name) for name in own}
    there.add(("Secret", where.named("tls")))
    named = set(_named(of(where)))
    assert named <= there
    assert len({kind for kind, _ in named}) >= 8


def _named(made: list[Manifest]) -> Iterator[tuple[str, str]]:
    single = {
        "secretKeyRef": ("Secret", "name"),
        "configMap": ("ConfigMap", "name"),
        "secret": ("Secret", "secretName"),
        "persistentVolumeClaim": ("PersistentVolumeClaim", "claimName"),
        "authenticationRef": ("TriggerAuthentication", "name"),
    }
    plain = {
        "serviceAccountName": "ServiceAccount",
        "priorityClassName": "PriorityClass",
        "templateName": "AnalysisTemplate",
        "httpRoute": "HTTPRoute",
        "stableService": "Service",
        "canaryService": "Service",
        "activeService": "Service",
        "previewService": "Service",
    }
    for key, value in _walk(made):
        if key in single and isinstance(value, dict):
            kind, field = single[key]
            yield kind, value[field]
        elif key in plain:
            yield plain[key], value
        elif key in {"backendRefs", "certificateRefs"}:
            yield from ((ref["kind"], ref["name"]) for ref in value)
        elif key == "parentRefs":
            yield from (("Gateway", ref["name"]) for ref in value)
        elif key == "scaleTargetRef":
            yield value["kind"], value["name"]
        elif key == "secretTargetRef":
            yield from (("Secret", ref["name"]) for ref in value)


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from _walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)


@every
def test_nothing_is_scaled_twice_and_what_is_scaled_states_no_number(env: str, text: str) -> None:
    where = at(env, text)
    assert kinds(where, "HorizontalPodAutoscaler") == []
    scaled = kinds(where, "ScaledObject")
    targets = [(one["spec"]["scaleTargetRef"]["kind"], one["spec"]["scaleTargetRef"]["name"]) for one in scaled]
    assert len(targets) == len(set(targets)) == sum(role.most is not None for role in where.roles)
    for one in of(where):
        if one["kind"] in {"Rollout", "Deployment"}:
            is_scaled = (one["kind"], one["metadata"]["name"]) in targets
            assert ("replicas" in one["spec"]) is not is_scaled
    for one in scaled:
        assert 0 <= one["spec"]["minReplicaCount"] <= one["spec"]["maxReplicaCount"] >= 1


def test_queues_keep_a_worker_in_prod_and_elsewhere_none_without_work() -> None:
    for env, least in (("prod", 1), ("staging", 0)):
        where = at(env)
        assert {
            the(where, "ScaledObject", f"worker-{queue}")["spec"]["minReplicaCount"] for queue in ("ingest", "embed", "eval")
        } == {least}
        api = the(where, "ScaledObject", "api")["spec"]
        assert (api["minReplicaCount"], api["maxReplicaCount"]) == (where.site.size.api_pods, 2 * where.site.size.api_pods)


def test_a_worker_outlives_the_longest_task() -> None:
    where = at()
    for role in where.roles:
        if role.port is None:
            assert pods(where)[role.name]["spec"]["terminationGracePeriodSeconds"] > LONGEST_TASK_S
        if role.queue:
            spec = the(where, "ScaledObject", role.name)["spec"]
            down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
            assert spec["cooldownPeriod"] > LONGEST_TASK_S
            assert LONGEST_TASK_S <= down["stabilizationWindowSeconds"] <= 3600
            assert spec["fallback"]["replicas"] >= 1
            assert [trigger["type"] for trigger in spec["triggers"]] == ["postgresql"]


def test_an_api_pod_may_take_as_long_to_end_as_all_it_waits_for() -> None:
    spec = pods(at())["api"]["spec"]
    container = spec["containers"][0]
    leave_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    told_s = int(container["command"][container["command"].index("--drain-s") + 1])
    assert told_s == DRAIN_S
    assert spec["terminationGracePeriodSeconds"] >= leave_s + DRAIN_S + 7 + 5, "5 s to cut off, 2 s to close, and some to spare"
    ready = container["readinessProbe"]
    assert ready["timeoutSeconds"] > 2, "/readyz gives each part 2 s"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    canary = the(at(), "Rollout", "api")["spec"]["strategy"]["canary"]
    assert canary["abortScaleDownDelaySeconds"] >= spec["terminationGracePeriodSeconds"]


@every
def test_the_quota_holds_all_that_may_run_at_once(env: str, text: str) -> None:
    where = at(env, text)
    hard = the(where, "ResourceQuota", "quota")["spec"]["hard"]
    most = {role.name: (role.most or role.replicas) + (0 if role.most is None else 1) for role in where.roles}
    most["api"] = 2 * (where.role("api").most or 0)
    most["migrate"] = 1
    asked = {name: pod["spec"]["containers"][0]["resources"]["requests"] for name, pod in pods(where).items()}
    assert int(hard["pods"]) >= sum(most.values())
    assert _cores(hard["requests.cpu"]) >= sum(most[name] * _cores(one["cpu"]) for name, one in asked.items())
    assert _mib(hard["requests.memory"]) >= sum(most[name] * _mib(one["memory"]) for name, one in asked.items())
    classes = {pod["spec"]["priorityClassName"] for pod in pods(where).values()}
    assert set(the(where, "ResourceQuota", "quota")["spec"]["scopeSelector"]["matchExpressions"][0]["values"]) == classes


def _cores(text: str) -> float:
    return int(text[:-1]) / 1000 if text.endswith("m") else float(text)


def _mib(text: str) -> int:
    return int(text.removesuffix("Mi"))


@every
def test_pods_are_as_the_strictest_standard_has_them(env: str, text: str) -> None:
    where = at(env, text)
    for name, template in pods(where).items():
        spec, (container,) = template["spec"], template["spec"]["containers"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] >= 10_000
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["image"] == f"{where.site.infra.image}@{UNSET_DIGEST}", name
        assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
        home = next(one["value"] for one in container["env"] if one["name"] == "HOME")
        assert home in {mount["mountPath"] for mount in container["volumeMounts"]}, "the root cannot be written"
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
    batch = [name for name, template in pods(where).items() if template["spec"]["priorityClassName"].endswith("-batch")]
    assert batch == [role.name for role in where.roles if role.port is None]


@every
def test_the_contract_on_the_cluster_is_the_contract(env: str, text: str) -> None:
    where = at(env, text)
    (found,) = kinds(where, "ConfigMap")
    ((name, content),) = found["data"].items()
    again = load.parse(content, Path(name))
    assert again == plan(text).contract
    assert derive(again).digest == plan(text).digest
    assert found["immutable"] is True
    for template in pods(where).values():
        (mount,) = (one for one in template["spec"]["containers"][0]["volumeMounts"] if one["name"] == "contract")
        assert (mount["mountPath"], mount["subPath"]) == (CONTRACT_PATH, name)
        assert template["metadata"]["annotations"]["pilotis/contract-sha256"] == where.checksum


def test_another_contract_is_another_map_so_that_stable_pods_keep_theirs() -> None:
    one, two = at(), at(text='[envs.prod]\nllm = "extractive"\n')
    assert one.contract_map != two.contract_map
    assert one.checksum != two.checksum


def test_stages_are_the_contracts_and_each_is_judged() -> None:
    where = at(text='[deploy]\nstages = [10, 50, 100]\n[envs.prod]\nllm = "extractive"\n')
    steps = the(where, "Rollout", "api")["spec"]["strategy"]["canary"]["steps"]
    assert [step["setWeight"] for step in steps if "setWeight" in step] == [10, 50, 100]
    assert [next(iter(step)) for step in steps] == ["setWeight", "analysis"] * 3
    stages = [step["analysis"]["args"][1]["value"] for step in steps if "analysis" in step]
    assert stages == ["10", "50", "100"]


def test_weights_are_all_written() -> None:
    for text, weights in (("", [100, 0]), (EVERYTHING, [100])):
        where = at(text=text)
        refs = the(where, "HTTPRoute", "api")["spec"]["rules"][0]["backendRefs"]
        assert [ref["weight"] for ref in refs] == weights
        assert refs[0]["name"] == where.services[0]


def test_blue_and_green_are_judged_before_and_after_the_switch() -> None:
    strategy = the(at(text=EVERYTHING), "Rollout", "api")["spec"]["strategy"]
    assert set(strategy) == {"blueGreen"}
    for when in ("prePromotionAnalysis", "postPromotionAnalysis"):
        assert strategy["blueGreen"][when]["templates"] == [{"templateName": "rag-prod-verdict"}]
    assert "scaleDownDelaySeconds" not in strategy["blueGreen"], (
        "Argo Rollouts would cancel the second question when it is over"
    )


@pytest.mark.parametrize(
    ("rollback_on", "verdict", "phase"),
    [
        ("slo_breach", "PASS", "Successful"),
        ("slo_breach", "FAIL", "Failed"),
        ("slo_breach", "INCONCLUSIVE", "Inconclusive"),
        ("slo_breach", "ERROR", "Inconclusive"),
        ("slo_breach", "", "Inconclusive"),
        ("slo_breach", "pass", "Inconclusive"),
        ("never", "PASS", "Successful"),
        ("never", "FAIL", "Inconclusive"),
    ],
)
def test_only_pass_passes_and_only_fail_fails(rollback_on: str, verdict: str, phase: str) -> None:
    """As Argo Rollouts judges a measurement: failed, else successful, else inconclusive where both conditions are given."""
    text = f'[deploy]\nrollback_on = "{rollback_on}"\nmax_hold_s = 600\n[envs.prod]\nllm = "extractive"\n'
    (metric,) = the(at(text=text), "AnalysisTemplate", "verdict")["spec"]["metrics"]
    fails, passes = (
        eval(metric[key].replace("false", "False"), {}, {"result": verdict}) for key in ("failureCondition", "successCondition")
    )
    assert ("Failed" if fails else "Successful" if passes else "Inconclusive") == phase
    assert metric["inconclusiveLimit"] == 10, "600 s, asked every 60 s"
    assert metric["failureLimit"] == 0
    assert {"initialDelay", "consecutiveErrorLimit", "interval", "consecutiveSuccessLimit"} <= set(metric)
    assert "count" not in metric, "a count would end the hold before its time"


def test_metrics_are_scraped_once_a_pod_and_know_their_track() -> None:
    where = at()
    (monitor,) = kinds(where, "ServiceMonitor")
    assert monitor["spec"]["podTargetLabels"] == ["track"]
    canary = the(where, "Rollout", "api")["spec"]["strategy"]["canary"]
    assert canary["canaryMetadata"]["labels"]["track"] != canary["stableMetadata"]["labels"]["track"]


def test_rules_stand_where_there_are_some() -> None:
    assert list(rules(at(), ())) == []
    (made,) = rules(at(), [{"name": "cost", "rules": []}])
    assert made["spec"] == {"groups": [{"name": "cost", "rules": []}]}


@pytest.mark.parametrize(
    ("env", "remote"), [("prod", {"key": "rag/prod/{}"}), ("staging", {"key": "secret/rag/staging/{}", "property": "value"})]
)
def test_secrets_come_from_where_the_contract_keeps_them(env: str, remote: dict[str, str]) -> None:
    where = at(env, EVERYTHING)
    data = the(where, "ExternalSecret", "secrets")["spec"]["data"]
    assert [one["secretKey"] for one in data] == list(secrets(where.site.env))
    for one in data:
        assert one["remoteRef"] == {key: value.format(one["secretKey"]) for key, value in remote.items()}
    container = pods(where)["api"]["spec"]["containers"][0]
    told = {one["name"] for one in container["env"] if "secretKeyRef" in one.get("valueFrom", {})}
    assert told == set(secrets(where.site.env))


def test_secrets_in_files_are_mounted_where_the_service_looks_and_in_no_variable() -> None:
    where = at(text='[envs.prod]\nllm = "gpt-5-mini"\nsecrets = { provider = "file", path = "keys" }\n')
    container = pods(where)["worker-embed"]["spec"]["containers"][0]
    assert not [one for one in container["env"] if "valueFrom" in one]
    (mount,) = (one for one in container["volumeMounts"] if one["name"] == "secrets")
    assert mount["mountPath"] == "/etc/pilotis/keys"
    assert kinds(where, "ExternalSecret") == []


def test_files_in_a_folder_are_shared_and_those_in_a_bucket_need_no_volume() -> None:
    (claim,) = kinds(at(), "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert kinds(at(text=EVERYTHING), "PersistentVolumeClaim") == []


def test_an_api_of_one_pod_has_no_disruption_budget_and_any_other_may_lose_one() -> None:
    (budget,) = kinds(at(), "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1


def test_how_much_a_worker_takes_follows_from_the_contract() -> None:
    where = at(text='[limits]\nparse_timeout_s = 150\n[perf]\nbatch_emb = 2048\n[envs.prod]\nllm = "extractive"\n')
    assert share(where, "ingest") == 2, "of 150 s each, within 300 s"
    assert share(where, "embed") == 3000, "300 s at 10 a second"
    assert share(where, "eval") == 1
    patient = at(text='[limits]\nparse_timeout_s = 600\n[envs.prod]\nllm = "extractive"\n')
    assert share(patient, "ingest") == 1


def test_requests_in_flight_follow_littles_law() -> None:
    text = "[slo]\np95_ms = {}\n[perf]\nin_flight = {}\n[envs.prod]\nllm = 'extractive'\nrps = 50\n"
    assert in_flight(at(text=text.format(8000, 1000))) == 100, "50 a second over 4 pods, 8 s each"
    assert in_flight(at(text=text.format(8000, 20))) == 20, "no more than are let in"
    assert in_flight(at(text=text.format(10, 1000))) == 1


def test_each_file_belongs_to_its_env_and_kustomize_knows_them_all() -> None:
    on = scene(plan(EVERYTHING))
    made = list(files(on))
    assert [file.content for file in made] == [file.content for file in files(on)]
    for env in on.sites:
        own = {file.path.removeprefix(f"kubernetes/{env}/"): str(file.content) for file in made if file.env == env}
        assert all("Rendered by Pilotis" in content.partition("\n\n")[0] for content in own.values())
        named = yaml.safe_load(own["kustomization.yaml"])
        assert sorted(named["resources"]) == sorted(set(own) - {"kustomization.yaml", "README.md"})
        assert named["images"] == [{"name": "registry.example.com/team/pilotis", "digest": UNSET_DIGEST}]
        assert "{{" not in own["README.md"]


def test_what_comes_first_is_all_that_the_migration_needs() -> None:
    where = at(text=EVERYTHING)
    first = [one for one in of(where) if one["metadata"]["labels"].get("pilotis/step") == "first"]
    there = {(one["kind"], one["metadata"]["name"]) for one in first}
    there |= {("Secret", one["spec"]["target"]["name"]) for one in first if one["kind"] == "ExternalSecret"}
    (job,) = (one for one in first if one["kind"] == "Job")
    assert set(_named([job])) <= there
    assert not {one["kind"] for one in first} & {"Rollout", "Deployment", "HTTPRoute"}


# Who may talk to whom: the policies, read as a cluster would read them.

OUTSIDE = "93.184.216.34"


def may(where: Place, sender: str, to: str, port: int, *, protocol: str = "TCP") -> bool:
    """Whether a pod of a component may open a connection to another: `ADDRESS`, or `NAMESPACE/NAME` of a pod. Its own side only."""
    return _allowed(where, _labels(where, sender), "Egress", to, port, protocol=protocol)


def lets_in(where: Place, receiver: dict[str, str], sender: str, port: int) -> bool:
    return _allowed(where, receiver, "Ingress", sender, port)


def _labels(where: Place, component: str) -> dict[str, str]:
    return dict(pods(where)[component]["metadata"]["labels"])


def _allowed(where: Place, pod: dict[str, str], way: str, other: str, port: int, *, protocol: str = "TCP") -> bool:
    policies = [one["spec"] for one in kinds(where, "NetworkPolicy")]
    own = [
        spec
        for spec in policies
        if way in spec["policyTypes"] and spec["podSelector"].get("matchLabels", {}).items() <= pod.items()
    ]
    assert own, "denied by default"
    for spec in own:
        for rule in spec.get(way.lower(), ()):
            ports = [(one["protocol"], one["port"]) for one in rule.get("ports", ())]
            if ports and (protocol, port) not in ports:
                continue
            if any(_is(where, peer, other) for peer in rule["to" if way == "Egress" else "from"]):
                return True
    return False


def _is(where: Place, peer: Manifest, other: str) -> bool:
    space, is_pod, name = other.partition("/")
    if "ipBlock" in peer:
        if is_pod:
            return False
        block = peer["ipBlock"]
        address = ip_address(other)
        return address in ip_network(block["cidr"]) and not any(address in ip_network(no) for no in block.get("except", ()))
    if not is_pod:
        return False
    spaces = peer.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name", where.space)
    wanted = peer.get("podSelector", {}).get("matchLabels", {})
    own = _labels(where, name) if space == where.space and name in pods(where) else {"app.kubernetes.io/name": name}
    return bool(spaces == space and wanted.items() <= own.items())


@every
def test_every_path_that_is_needed_is_open(env: str, text: str) -> None:
    where = at(env, text)
    network = ip_network(where.site.cidr)
    database = str(network[10])
    for component in pods(where):
        assert may(where, component, "kube-system/coredns", 53, protocol="UDP")
        assert may(where, component, database, 5432)
        assert may(where, component, database, 6379)
    for space in ("gateway-system", "monitoring", "argo-rollouts"):
        assert lets_in(where, _labels(where, "api"), f"{space}/any", API_PORT)
    if where.site.env.trace_sampling:
        assert may(where, "api", "monitoring/otel-collector", 4318)
    for model in (where.site.env.llm, where.site.env.compact, where.site.env.fallback):
        if model and model.key_env:
            assert may(where, "api", OUTSIDE, 443)
            assert may(where, "worker-eval", OUTSIDE, 443)
    if where.site.infra.blobs == "s3":
        for component in ("api", "worker-ingest", "upkeep", "schedule"):
            assert may(where, component, OUTSIDE, 443)
            assert may(where, component, "169.254.170.23", 80), "where pods get their rights"
    if where.sources:
        assert may(where, "schedule", OUTSIDE, 80)


@every
def test_every_other_path_is_closed(env: str, text: str) -> None:
    where = at(env, text)
    for component in pods(where):
        assert not may(where, component, OUTSIDE, 22)
        assert not may(where, component, "169.254.169.254", 80), "the node's own rights"
        assert not may(where, component, "other/pod", 8080)
        assert not lets_in(where, _labels(where, component), "other/pod", API_PORT)
        if component != "api":
            assert not lets_in(where, _labels(where, component), "gateway-system/any", API_PORT)
    assert not may(where, "migrate", OUTSIDE, 443)
    assert not may(where, "api", str(ip_network("10.99.0.0/16")[10]), 5432), "of another env"


def test_model_servers_are_reached_where_the_contract_has_them() -> None:
    prod, staging = at("prod", EVERYTHING), at("staging", EVERYTHING)
    assert may(prod, "api", "10.1.2.3", 9000)
    assert not may(prod, "worker-ingest", "10.1.2.3", 9000)
    assert may(prod, "api", "rag-prod/reranker", 8080)
    assert lets_in(prod, {"app.kubernetes.io/name": "reranker"}, "rag-prod/api", 8080)
    assert not lets_in(prod, {"app.kubernetes.io/name": "reranker"}, "rag-prod/worker-ingest", 8080)
    assert may(staging, "api", "models/reranker", 8080)
    assert not may(staging, "api", "rag-staging/reranker", 8080)


def test_who_uses_local_models_alone_reaches_nobody_outside() -> None:
    where = at(text='[envs.prod]\nllm = "extractive"\n')
    assert not any(may(where, component, OUTSIDE, port) for component in pods(where) for port in (80, 443))
