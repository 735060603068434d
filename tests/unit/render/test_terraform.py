"""The infrastructure of each env: held against the plan, and against what the modules accept."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pilotis.contract import load
from pilotis.derive import workload
from pilotis.derive.plan import derive
from pilotis.derive.site import Site
from pilotis.render.files import Scene, scene
from pilotis.render.terraform import cluster, folder, network, root, search, secrets, sizes, stores
from pilotis.render.terraform.hcl import Block
from pilotis.render.terraform.modules import MODULES

ROOT = Path(__file__).parents[3]
FACTS = json.loads((ROOT / "tests/artefacts/data/terraform.json").read_text())
EVERYTHING = """
name = "knowledge"
timezone = "America/New_York"
[infra]
vector = "opensearch"
blobs = "s3"
region = "us-west-1"
[costs]
target_eur_per_1k = 16.5
guardrail_eur_per_req = 0.02
[sources.docs]
kind = "s3"
bucket = "corp-docs"
prefix = "public/"
[sources.inner]
kind = "s3"
bucket = "inner-docs"
endpoint_url = "https://minio.example.com"
[envs.prod]
llm = "gpt-5"
rps = 500
secrets = { provider = "aws", max_age_days = 1500 }
snapshot = { place = "s3://backups/pilotis", hour = 22, keep_days = 0, keep_months = 6 }
[envs.qa-with-a-long-name-1]
llm = "extractive"
secrets = { provider = "vault" }
snapshot = { place = "/mnt/backup", keep_months = 0 }
"""


def made(text: str | None = None) -> Scene:
    """The scene of a contract in TOML; of the built-in one where none is given."""
    return scene(derive(load.parse(text, Path("pilotis.toml")) if text else load.default()))


def blocks(on: Scene, env: str) -> list[Block]:
    return [block for part in folder.parts(on, on.sites[env]).values() for block in part]


def arguments(block: Block) -> dict[str, Any]:
    parts = [block.body] if isinstance(block.body, Mapping) else block.body
    merged = {name: value for part in parts for name, value in part.items()}
    assert len(merged) == sum(len(part) for part in parts), f"an argument of {block.labels} is given twice"
    return merged


def modules(on: Scene, env: str) -> dict[str, dict[str, Any]]:
    return {block.labels[0]: arguments(block) for block in blocks(on, env) if block.kind == "module"}


def resources(on: Scene, env: str, kind: str) -> dict[str, dict[str, Any]]:
    return {
        block.labels[1]: arguments(block) for block in blocks(on, env) if block.kind == "resource" and block.labels[0] == kind
    }


def plain(value: Any) -> Any:
    """Without the reason."""
    return getattr(value, "value", value)


def texts(on: Scene, env: str) -> dict[str, str]:
    found = {file.path: str(file.content) for file in folder.files(on)}
    return {path.rpartition("/")[2]: text for path, text in found.items() if path.startswith(f"terraform/{env}/")}


SCENES = {
    "built-in": made(),
    "everything": made(EVERYTHING),
    "example": scene(derive(load.load(ROOT / "examples/pilotis.toml"))),
}
ENVS = [(name, env) for name, on in SCENES.items() for env in on.sites]


@pytest.fixture(params=ENVS, ids=["-".join(found) for found in ENVS])
def at(request: pytest.FixtureRequest) -> tuple[Scene, Site]:
    name, env = request.param
    return SCENES[name], SCENES[name].sites[env]


def test_modules_take_what_they_are_given(at: tuple[Scene, Site]) -> None:
    on, site = at
    for name, given in modules(on, site.env.name).items():
        facts = FACTS["modules"][given.pop("source")]
        assert given.pop("version") == facts["version"]
        assert set(given) <= set(facts["arguments"]), name
        assert {argument for argument, kind in facts["arguments"].items() if kind.endswith("!")} <= set(given), name


def test_resources_take_what_they_are_given(at: tuple[Scene, Site]) -> None:
    on, site = at
    sections = {"resource": "resources", "data": "data", "ephemeral": "ephemeral"}
    for block in blocks(on, site.env.name):
        if block.kind in sections:
            schema = FACTS["provider"][sections[block.kind]][block.labels[0]]
            given = set(arguments(block)) - {"for_each"}
            assert given <= set(schema["attributes"]) | set(schema.get("blocks", {})), block.labels
            assert {name for name, kind in schema["attributes"].items() if kind.endswith("!")} <= given, block.labels
            assert not {name for name in given if schema["attributes"].get(name, "").endswith("=")}, block.labels


def references(text: str) -> Iterator[str]:
    """What is named outside of comments."""
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    yield from re.findall(r"(?<![\w.\"/-])(?:module|var|local|data|ephemeral|aws_\w+)\.[a-z_]\w*(?:\.[a-z_]\w*)*", code)


def test_whatever_is_named_is_there(at: tuple[Scene, Site]) -> None:
    on, site = at
    env = site.env.name
    called = {name: FACTS["modules"][given["source"]]["outputs"] for name, given in modules(on, env).items()}
    every = blocks(on, env)
    known = {".".join((block.kind, *block.labels)) for block in every if block.kind in {"data", "ephemeral"}}
    known |= {".".join(block.labels) for block in every if block.kind == "resource"}
    known |= {f"var.{block.labels[0]}" for block in every if block.kind == "variable"}
    known |= {f"local.{name}" for block in every if block.kind == "locals" for name in arguments(block)}
    found = {one for name, text in texts(on, env).items() if name.endswith(".tf") for one in references(text)}
    assert len(found) > 20
    for reference in found:
        if reference.startswith("module."):
            _, name, output = reference.split(".")[:3]
            assert output in called[name], reference
        else:
            assert any(f"{reference}.".startswith(f"{one}.") for one in known), reference
    unused = {one for one in known if one.startswith(("var.", "local."))} - {".".join(one.split(".")[:2]) for one in found}
    assert not unused


def test_envs_share_nothing() -> None:
    on = SCENES["built-in"]
    every = {env: texts(on, env) for env in on.sites}
    for env, files in every.items():
        whole = "\n".join(text for name, text in files.items() if name.endswith(".tf"))
        for other, site in on.sites.items():
            if other != env:
                assert site.name not in whole
                assert site.cidr.rsplit(".", 2)[0] + "." not in whole
    keys = [root.state_key(on.plan.contract, site) for site in on.sites.values()]
    assert len(set(keys)) == len(keys)
    assert all(file.env for file in folder.files(on))


def test_names_are_as_long_as_they_may_be() -> None:
    """By AWS: 28 for a domain of OpenSearch, 40 for a cache and its users, 63 for a bucket and a database, 64 for a role."""
    on, env = SCENES["everything"], "qa-with-a-long-name-1"
    site = on.sites[env]
    assert len(site.name) == 31
    called = modules(on, env)
    assert len(called["index"]["domain_name"]) <= 28
    assert all(len(called[name]["name"]) <= 40 for name in ("broker", "cache"))
    assert all(len(user["user_id"]) <= 40 for user in resources(on, env, "aws_elasticache_user").values())
    assert len(called["blobs"]["bucket"]) <= 63
    assert len(called["database"]["monitoring_role_name"]) <= 64
    assert all(len(role["name"]) <= 64 for role in resources(on, env, "aws_iam_role").values())


def test_a_name_that_is_shortened_stays_its_own() -> None:
    names = {search.domain(site) for site in made(EVERYTHING.replace("name-1", "name-2")).sites.values()}
    names |= {search.domain(site) for site in SCENES["everything"].sites.values()}
    assert len(names) == 3


def test_networks_lie_within_the_envs_own_and_apart() -> None:
    for cidr, count in (("10.30.0.0/16", 3), ("10.30.0.0/16", 2)):
        found = [ipaddress.ip_network(net) for nets in network.subnets(cidr, count).values() for net in nets]
        assert len(found) == 4 * count
        assert all(net.subnet_of(ipaddress.ip_network(cidr)) for net in found)  # type: ignore[arg-type]
        assert not any(one.overlaps(other) for n, one in enumerate(found) for other in found[:n])
    two, three = network.subnets("10.30.0.0/16", 2), network.subnets("10.30.0.0/16", 3)
    assert all(three[kind][:2] == nets for kind, nets in two.items()), "another zone would move what stands"


def test_prod_outlives_a_zone_and_a_mistake() -> None:
    on = SCENES["built-in"]
    prod, dev = modules(on, "prod"), modules(on, "dev")
    assert prod["database"]["multi_az"] is True
    assert prod["database"]["deletion_protection"] is True
    assert prod["cluster"]["deletion_protection"] is True
    assert prod["vpc"]["one_nat_gateway_per_az"] is True
    assert all(prod[name]["cluster_size"] == 2 and prod[name]["automatic_failover_enabled"] for name in ("broker", "cache"))
    assert plain(prod["database"]["backup_retention_period"]) > plain(dev["database"]["backup_retention_period"]) > 0
    assert dev["database"]["multi_az"] is False
    assert dev["vpc"]["single_nat_gateway"] is True
    assert "replica" in prod
    assert "replica" not in dev


def test_the_replica_takes_key_and_subnets_of_what_it_copies() -> None:
    """AWS refuses a copy in the same region that names its own, and one of a database whose password AWS manages."""
    on = SCENES["built-in"]
    called = modules(on, "prod")
    assert not {"kms_key_id", "db_subnet_group_name", "db_name", "username", "password_wo"} & set(called["replica"])
    assert called["database"]["manage_master_user_password"].value is False
    same = ("instance_class", "family", "allocated_storage", "parameters")
    assert all(plain(called["replica"][name]) == plain(called["database"][name]) for name in same)


def test_money_is_never_evicted() -> None:
    called = modules(SCENES["built-in"], "prod")
    assert called["broker"]["parameter"] == [{"name": "maxmemory-policy", "value": "noeviction"}]
    assert called["cache"]["parameter"] == [{"name": "maxmemory-policy", "value": "volatile-lru"}]
    assert "allkeys-lru would evict them" in texts(SCENES["built-in"], "prod")["caches.tf"]


def test_all_that_is_stored_is_encrypted_by_the_envs_key(at: tuple[Scene, Site]) -> None:
    on, site = at
    called = modules(on, site.env.name)
    for name in ("database", "broker", "cache"):
        assert called[name]["kms_key_id"].expression == "module.key.key_arn"
    assert all(
        called[name]["transit_encryption_enabled"] and called[name]["at_rest_encryption_enabled"]
        for name in ("broker", "cache")
    )
    assert called["database"]["storage_encrypted"] is True
    assert {"name": "rds.force_ssl", "value": "1"} in called["database"]["parameters"]
    assert '"aws:kms"' in texts(on, site.env.name)["blobs.tf"]


def test_the_bucket_is_the_services_own_and_nobody_elses(at: tuple[Scene, Site]) -> None:
    on, site = at
    given = modules(on, site.env.name)["blobs"]
    assert given["bucket"] == workload.bucket(site)
    assert given["versioning"] == {"enabled": "true"}
    closed = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
    assert all(given[name] is True for name in closed)
    assert given["lifecycle_rule"][0]["noncurrent_version_expiration"]["days"] > 0


def test_no_value_of_a_secret_is_ever_stored(at: tuple[Scene, Site]) -> None:
    """A password goes only where it is written and not kept: into arguments that end in `_wo`."""
    on, site = at
    for name, text in texts(on, site.env.name).items():
        for line in text.splitlines():
            if name.endswith(".tf") and "ephemeral." in line:
                assert re.match(r"\s*\w+_wo\s+= ", line), line
    whole = "\n".join(texts(on, site.env.name).values())
    for argument in ("secret_string", "auth_token", "password", "passwords", "random_password"):
        assert not re.search(rf"^\s*{argument}\s+= ", whole, re.MULTILINE)
    assert "ephemeral" not in texts(on, site.env.name)["outputs.tf"]


def secret_names(on: Scene, site: Site) -> set[str]:
    found = resources(on, site.env.name, "aws_secretsmanager_secret")
    return {name for kind in ("server", "given") if kind in found for name in found[kind]["for_each"].argument}


def test_every_secret_of_the_service_has_its_place(at: tuple[Scene, Site]) -> None:
    on, site = at
    wanted = set(workload.secrets(site.env))
    if site.secrets.provider == "vault":
        assert secret_names(on, site) == set(workload.SERVERS)
    else:
        assert secret_names(on, site) == wanted | {secrets.JUDGE}
    versions = resources(on, site.env.name, "aws_secretsmanager_secret_version")
    assert {name for name in versions if name != "password"} == {name.lower() for name in workload.SERVERS}


def test_secrets_lie_where_the_contract_says() -> None:
    on = SCENES["everything"]
    assert secrets.prefix(on.sites["prod"]) == on.sites["prod"].secrets.path == "knowledge/prod"
    assert 'name                    = "knowledge/prod/${each.value}"' in texts(on, "prod")["secrets.tf"]
    rooted = made(EVERYTHING.replace('provider = "aws"', 'provider = "aws", path = "/apps/rag/"'))
    assert secrets.prefix(rooted.sites["prod"]) == "/apps/rag"


def test_rotation_follows_the_contract_up_to_what_aws_takes() -> None:
    assert "automatically_after_days = 1000" in texts(SCENES["everything"], "prod")["secrets.tf"]
    assert "automatically_after_days = 90" in texts(SCENES["built-in"], "prod")["secrets.tf"]
    assert "rotations" not in "".join(texts(SCENES["everything"], "qa-with-a-long-name-1").values())


def test_service_accounts_are_those_of_the_cluster(at: tuple[Scene, Site]) -> None:
    on, site = at
    found = resources(on, site.env.name, "aws_eks_pod_identity_association")
    assert found["service"]["for_each"].argument == [workload.named(site, role.name) for role in workload.roles(site)]
    assert found["service"]["namespace"] == site.name
    assert ("secrets" in found) == (site.secrets.provider == "aws")


def test_rights_name_what_they_are_for() -> None:
    text = texts(SCENES["everything"], "prod")["identity.tf"]
    assert '"arn:aws:s3:::backups/pilotis*"' in text
    assert '"arn:aws:s3:::corp-docs/public/*"' in text
    assert "inner-docs" not in text, "that bucket is not in AWS"
    assert text.count("[for kept in aws_secretsmanager_secret.server : kept.arn]") == 2
    assert "aws_secretsmanager_secret.password" not in text
    assert text.count('Resource = "*"') == 1, "only what has no resource: describing"
    assert "arn:aws:s3:::*" not in text


def test_snapshots_are_as_the_contract_asks() -> None:
    prod = texts(SCENES["everything"], "prod")["snapshots.tf"]
    assert '"cron(0 22 * * ? *)"' in prod
    assert '"cron(0 22 1 * ? *)"' in prod
    assert prod.count('"America/New_York"') == 2
    assert re.findall(r"delete_after = (\d+)", prod) == ["1", str(6 * 31)]
    qa = texts(SCENES["everything"], "qa-with-a-long-name-1")["snapshots.tf"]
    assert "monthly" not in qa
    assert "snapshots.tf" not in texts(SCENES["built-in"], "prod")


@pytest.mark.parametrize("hour", range(24))
def test_chores_never_meet(hour: int) -> None:
    site = made(EVERYTHING.replace("hour = 22", f"hour = {hour}")).sites["prod"]
    backup, maintenance = stores.window(site, 4), stores.window(site, 7, day="Sun")
    assert re.fullmatch(r"\d\d:00-\d\d:00", backup)
    day, start, following, end = re.fullmatch(r"(\w+):(\d\d):00-(\w+):(\d\d):00", maintenance).groups()  # type: ignore[union-attr]
    assert (day, following) == (("Sun", "Mon") if start == "23" else ("Sun", "Sun"))
    assert (int(end) - int(start)) % 24 == 1
    utc = (hour + 5) % 24  # New York, in winter
    assert (int(backup[:2]) - utc) % 24 == 4
    assert (int(start) - int(backup[:2])) % 24 == 3


@pytest.mark.parametrize(
    ("rps", "kind", "cache", "database"),
    [
        (10, "m6i.large", "S", "db.t4g.medium"),
        (50, "m6i.xlarge", "M", "db.r6g.large"),
        (200, "m6i.2xlarge", "L", "db.r6g.xlarge"),
    ],
)
def test_sizes_follow_the_matrix(rps: int, kind: str, cache: str, database: str) -> None:
    site = made(EVERYTHING.replace("rps = 500", f"rps = {rps}")).sites["prod"]
    assert site.size.cache == cache
    assert sizes.nodes(site).kind == kind
    assert sizes.database(site) == database


def test_nodes_hold_what_runs_and_grow_with_it() -> None:
    least = 0
    for rps in (1, 10, 50, 200, 400, 2000):
        site = made(EVERYTHING.replace("rps = 500", f"rps = {rps}")).sites["prod"]
        found = sizes.nodes(site)
        vcpu = {name: count for name, count, _ in sizes._NODES}[found.kind]
        assert found.least * vcpu > sum(role.vcpu * role.replicas for role in workload.roles(site))
        assert found.most * vcpu > sum(role.vcpu * (role.most or role.replicas) for role in workload.roles(site))
        assert found.most > found.least >= sizes.zones(site)
        assert found.least * vcpu >= least
        least = found.least * vcpu


def test_the_database_takes_all_connections() -> None:
    few, many = (made(EVERYTHING + f"[perf]\npool_min = 1\npool_max = {most}\n").sites["prod"] for most in (5, 50))
    assert sizes.connections(many) == 10 * sizes.connections(few)
    order = [name for name, _ in sizes._DATABASE]
    assert order.index(sizes.database(few)) < order.index(sizes.database(many))
    more = made(EVERYTHING.replace("rps = 500", "rps = 5000"))
    assert sizes.connections(more.sites["prod"]) > sizes.MOST_CONNECTIONS
    assert "lower perf.pool_max" in texts(more, "prod")["database.tf"]


def test_a_region_with_two_zones_gets_two() -> None:
    on = SCENES["everything"]
    assert len(modules(on, "prod")["vpc"]["database_subnets"]) == 2
    assert len(modules(SCENES["built-in"], "prod")["vpc"]["database_subnets"]) == 3
    config = modules(on, "prod")["index"]["cluster_config"]
    assert config["zone_awareness_config"] == {"availability_zone_count": 2}
    assert plain(config["instance_count"]) % 2 == 0
    assert plain(config["instance_count"]) >= on.sites["prod"].size.shards


def test_opensearch_only_where_the_index_is() -> None:
    assert "index.tf" not in texts(SCENES["built-in"], "prod")
    assert {"index.tf"} <= set(texts(SCENES["everything"], "prod"))
    assert "create-service-linked-role" in texts(SCENES["everything"], "prod")["README.md"]
    assert "create-service-linked-role" not in texts(SCENES["built-in"], "prod")["README.md"]
    weaviate = made(EVERYTHING.replace('"opensearch"', '"weaviate"'))
    assert "it is not made here" in texts(weaviate, "prod")["README.md"]


def test_all_modules_are_known_and_used() -> None:
    called = {given["source"] for given in modules(SCENES["everything"], "prod").values()}
    assert called == {module.source for module in MODULES.values()} == set(FACTS["modules"])


def test_the_same_contract_gives_the_same_bytes() -> None:
    once, again = (tuple(folder.files(made(EVERYTHING))) for _ in range(2))
    assert once == again
    assert all(str(file.content).startswith(("# Rendered by", "<!--\nRendered by")) for file in once)


def test_the_cluster_keeps_its_door_shut() -> None:
    given = modules(SCENES["built-in"], "prod")["cluster"]
    assert given["kubernetes_version"] == cluster.KUBERNETES
    assert plain(given["endpoint_public_access"]).expression == "length(var.cluster_public_cidrs) > 0"
    assert given["authentication_mode"] == "API"
    assert "enableNetworkPolicy" in texts(SCENES["built-in"], "prod")["cluster.tf"]
