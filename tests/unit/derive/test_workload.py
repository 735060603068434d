from __future__ import annotations

from pathlib import Path

from pilotis.contract.load import parse
from pilotis.contract.presets import default
from pilotis.derive.plan import derive
from pilotis.derive.site import sites
from pilotis.derive.workload import QUEUES, bucket, roles, secrets, settings


def test_every_queue_has_a_worker_and_the_sizes_come_from_the_matrix() -> None:
    prod = {role.name: role for role in roles(sites(derive(default()))["prod"])}
    assert (prod["api"].replicas, str(prod["api"].vcpu)) == (4, "1")
    assert {role.queue for role in prod.values() if role.queue} == set(QUEUES)
    assert sum(role.most or 0 for role in prod.values() if role.queue) >= 6


def test_an_env_is_told_of_the_keys_that_it_uses_and_of_no_other() -> None:
    plan = derive(default())
    assert secrets(plan.envs["dev"]) == ("PILOTIS_DATABASE_URL", "PILOTIS_REDIS_URL", "PILOTIS_BROKER_URL")
    assert secrets(plan.envs["prod"])[3:] == ("OPENAI_API_KEY",)


def test_processes_are_told_of_the_bucket_where_the_contract_asks_for_one() -> None:
    told = "[infra]\nblobs = 's3'\ndomain = '%s'\n[costs]\ntarget_eur_per_1k = 1\n[envs.prod]\nllm = 'extractive'\n"
    one, other = (sites(derive(parse(told % name, Path("pilotis.toml"))))["prod"] for name in ("example.com", "example.org"))
    assert settings(one)["PILOTIS_BLOBS"] == f"s3://{bucket(one)}"
    assert bucket(one) != bucket(other)
    assert len(bucket(one)) <= 63
    assert "PILOTIS_BLOBS" not in settings(sites(derive(default()))["prod"])
