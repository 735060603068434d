from __future__ import annotations

import pytest

from pilotis.contract.model import Contract, EnvSection
from pilotis.contract.presets import default
from pilotis.derive.plan import derive
from pilotis.derive.site import block, resource, sites
from pilotis.derive.sizing import MATRIX, size
from pilotis.errors import ContractError


def test_every_env_has_a_name_a_host_and_a_network_of_its_own() -> None:
    found = sites(derive(default()))
    assert [site.name for site in found.values()] == ["rag-dev", "rag-staging", "rag-prod"]
    assert [site.host for site in found.values()] == ["rag-dev.example.com", "rag-staging.example.com", "rag.example.com"]
    assert [site.cidr for site in found.values()] == ["10.10.0.0/16", "10.20.0.0/16", "10.30.0.0/16"]
    assert [site.size.rps for site in found.values()] == [10, 10, 50]


def test_the_network_of_an_env_stays_where_it_is_whatever_comes_before_it() -> None:
    assert 40 <= block("demo") < 240
    assert sites(derive(Contract(envs={"demo": EnvSection()})))["demo"].cidr == f"10.{block('demo')}.0.0/16"


@pytest.mark.parametrize(("name", "env"), [("rag-", "prod"), ("rag--x", "prod"), ("rag", "prod-"), ("r" * 30, "prod")])
def test_a_name_that_breaks_resources_is_refused_with_what_to_do(name: str, env: str) -> None:
    with pytest.raises(ContractError) as caught:
        resource(name, env)
    assert caught.value.remedy
    assert name in caught.value.message


def test_the_rows_of_the_specification_come_back() -> None:
    assert [size(row.rps) for row in MATRIX] == list(MATRIX)
    assert [(int(row.rps), row.api_pods, str(row.api_vcpu), row.workers, row.cache, row.shards) for row in MATRIX] == [
        (10, 2, "0.5", 2, "S", 1),
        (50, 4, "1", 6, "M", 2),
        (200, 8, "2", 16, "L", 3),
    ]
