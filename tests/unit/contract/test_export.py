from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotis.contract.export import schema, to_json, to_toml
from pilotis.contract.fields import Record
from pilotis.contract.load import default, load, parse
from pilotis.contract.model import Contract
from pilotis.derive.plan import derive, digest

EXAMPLES = Path(__file__).parents[3] / "examples"

names = st.from_regex(r"\A[a-z][a-z0-9-]{0,12}\Z")
models = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=30).filter(
    lambda text: text != "extractive"
)
urls = st.sampled_from(["http://localhost:8000/v1", "https://example.org/é/v1"])
euros = st.decimals("0.000001", 1000, places=9, allow_nan=False)
micros = st.decimals("0.000001", 1000, places=6, allow_nan=False)
units = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=100)
shares = st.decimals(0, 1, places=3)
seconds = st.decimals("0.5", 30, places=3)


def table(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=optional)


endpoints = st.one_of(
    models,
    st.just("extractive"),
    st.fixed_dictionaries(
        {"model": models}, optional={"provider": names, "base_url": urls, "key_env": st.sampled_from(["KEY", "MY_KEY_2"])}
    ),
)
embedders = st.one_of(models, st.fixed_dictionaries({"model": models}, optional={"dimension": st.integers(8, 4000)}))
rates = st.one_of(micros, st.fixed_dictionaries({"per_s": micros}, optional={"burst": st.integers(1, 1000)}))
budgets = table(hour_eur=micros, day_eur=micros, month_eur=micros).filter(bool)
envs = table(
    flags=st.lists(st.sampled_from(["hybrid", "rerank", "prompt_v2"]), max_size=3),
    retrieval=st.lists(st.sampled_from(["phrases", "distinct", "abstain"]), max_size=3),
    llm=endpoints,
    top_k=st.integers(1, 200),
    reranker=endpoints,
    embedder=embedders,
    cache_ttl_s=st.integers(0, 604_800),
    trace_sampling=shares,
    compact=endpoints,
    compact_top_k=st.integers(1, 200),
    fallback=endpoints,
    requests_per_day=st.integers(1, 10**9),
    rates=table(env=rates, ip=rates, bu=rates, bus=st.dictionaries(units, rates, max_size=3)),
    budgets=table(
        env=budgets,
        planes=table(online=budgets, batch=budgets),
        bu=budgets,
        bus=st.dictionaries(units, budgets, max_size=3),
        key=budgets,
    ),
)
price = st.fixed_dictionaries(
    {"input_per_mtok": euros},
    optional={
        "currency": st.sampled_from(["EUR", "USD"]),
        "output_per_mtok": euros,
        "per_1k_calls": euros,
        "source": st.sampled_from(["offer", "Preisblatt „2026“"]),
        "valid_from": st.dates(dt.date(2026, 1, 1), dt.date(2026, 6, 30)),
    },
)
later = st.builds(lambda row, day: row | {"valid_from": day}, price, st.dates(dt.date(2026, 7, 1), dt.date(2027, 1, 1)))
prices = st.one_of(price, st.tuples(price).map(list), st.tuples(price, later).map(list))
steps = st.builds(
    lambda first, last: first + last,
    st.permutations(["no_rerank", "smaller_top_k", "compact_model"]),
    st.sampled_from([[], ["cache_only"], ["refuse"], ["cache_only", "refuse"]]),
)
places = {
    "bu": units,
    "collection": units,
    "include": st.lists(st.sampled_from(["*.md", "guides/*"]), max_size=2),
    "metadata": st.dictionaries(units, units, max_size=2),
    "every": st.sampled_from(["15m", "6h", "1d"]),
    "max_files": st.integers(1, 1000),
}
sources = st.one_of(
    st.fixed_dictionaries({"kind": st.just("folder"), "path": units}, optional=places),
    st.fixed_dictionaries(
        {"kind": st.just("s3"), "bucket": st.just("docs")}, optional=places | {"prefix": units, "endpoint_url": urls}
    ),
    st.fixed_dictionaries({"kind": st.just("web"), "url": urls}, optional=places | {"private": st.booleans()}),
)
contracts = table(
    sources=st.dictionaries(names, sources, max_size=3),
    name=names,
    timezone=st.sampled_from(["Europe/Paris", "UTC", "America/New_York"]),
    languages=st.lists(st.sampled_from(["en", "fr", "de"]), min_size=1, max_size=3),
    infra=table(
        vector=st.sampled_from(["pgvector", "weaviate"]),
        blobs=st.sampled_from(["local", "s3"]),
        trusted_hops=st.integers(0, 10),
    ),
    perf=table(
        batch_emb=st.integers(1, 2048),
        streaming=st.booleans(),
        first_byte_s=seconds,
        pool_min=st.integers(0, 50),
        in_flight=st.integers(1, 10**6),
    ),
    limits=table(max_file_mib=st.integers(1, 10_240)),
    costs=table(
        target_eur_per_1k=euros,
        guardrail_eur_per_req=euros,
        month_eur=micros,
        guardrail_min_sample=st.integers(1, 10**6),
        ladder=steps,
        on_unknown_price=st.sampled_from(["block", "dearest", "serve"]),
        on_meter_down=st.sampled_from(["refuse", "serve"]),
        fx=table(source=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)).flatmap(
            lambda source: st.builds(
                lambda rate, day: {"usd_per_eur": rate, "date": day} | source,
                euros,
                st.dates(dt.date(1999, 1, 4), dt.date(2099, 1, 1)),
            )
        ),
        estimate=table(tok_in=st.integers(0, 10_000), llm_eur_per_token=euros),
        prices=st.dictionaries(models, prices, max_size=3),
    ),
    slo=table(error_rate=shares, p95_ms=st.integers(1, 100_000), hit_at_5=shares, eur_per_req=euros),
    deploy=table(stages=st.sampled_from([[5, 25, 100], [100]]), approvals=st.lists(names, max_size=2)),
    envs=st.dictionaries(names, envs, min_size=1, max_size=3),
    deliverables=st.lists(st.sampled_from(["iac", "runbook"]), max_size=2),
).map(Contract.model_validate)


@given(contracts)
@settings(max_examples=100, deadline=None)
def test_loading_an_export_gives_the_same_contract(contract: Contract) -> None:
    assert parse(to_json(contract), Path("x.json")) == contract
    assert parse(to_toml(contract), Path("x.toml")) == contract


def test_the_specification_comes_out_as_it_went_in() -> None:
    path = EXAMPLES / "specification.json"
    contract = load(path)
    assert json.loads(to_json(contract), parse_float=Decimal) == json.loads(path.read_text(), parse_float=Decimal)
    assert '"target_eur_per_1k": 16.5,' in to_json(contract)
    assert contract.envs["prod"].flags == ("rerank", "hybrid")
    assert contract.costs.guardrail_eur_per_req == Decimal("0.02")


def test_toml_explains_every_key_and_says_the_defaults() -> None:
    text = to_toml(default())
    assert 'llm = "extractive" # Who writes the answer' in text
    assert "# tok_in_max = 1200  # Cap of a request's input tokens" in text
    lines = [line.removeprefix("# ") if " = " in line and "Not set." not in line else line for line in text.splitlines()]
    uncommented = parse("\n".join(lines), Path("x.toml"))
    assert digest(uncommented.model_copy(update={"envs": default().envs})) == digest(default())
    assert resolved(uncommented) == resolved(default())


def resolved(contract: Contract) -> dict[str, dict[str, Any]]:
    return {name: asdict(env) for name, env in derive(contract).envs.items()}


def test_toml_explains_budgets_and_rates_in_tables_of_their_own() -> None:
    contract = parse(
        """
        [[costs.prices.m]]
        input_per_mtok = 1
        [[costs.prices.m]]
        valid_from = 2026-12-01
        input_per_mtok = 2
        [envs.prod]
        rates = { env = 20, bus."R & D" = { per_s = 0.5, burst = 3 } }
        budgets = { planes.batch = { day_eur = 20 }, bu = { day_eur = 5 } }
        """,
        Path("x.toml"),
    )
    text = to_toml(contract)
    assert "[envs.prod.rates]\nenv = 20 # Of all requests together.\n# ip =  # Of each address" in text
    assert 'bus = {"R & D" = {per_s = 0.5, burst = 3}} # Of single business units' in text
    assert "planes = {batch = {day_eur = 20}} # Of online requests" in text
    assert text.count("[[costs.prices.m]]") == 2
    assert "valid_from = 2026-12-01" in text
    assert '"rates": {\n        "env": 20,' in to_json(contract)


def test_a_rate_may_be_a_number_or_a_table_in_the_schema() -> None:
    number, full = json.loads(schema())["$defs"]["Rate"]["anyOf"]
    assert number == {"type": "number", "exclusiveMinimum": 0, "maximum": 1_000_000}
    assert set(full["properties"]) == {"per_s", "burst"}


def test_a_price_may_be_a_table_or_a_list_of_dated_ones_in_the_schema() -> None:
    (kinds,) = json.loads(schema())["$defs"]["Costs"]["properties"]["prices"]["patternProperties"].values()
    assert kinds == {
        "oneOf": [{"$ref": "#/$defs/ModelPrice"}, {"type": "array", "items": {"$ref": "#/$defs/ModelPrice"}}],
    }


def test_the_commented_defaults_are_those_of_the_preset() -> None:
    prod = to_toml(default()).partition("[envs.prod]")[2]
    assert '# llm = "gpt-5-pro"' in prod
    assert "# top_k = 50" in prod
    assert "# trace_sampling = 0.10" in prod


def _keys(record: type[Record]) -> set[str]:
    return set(record.model_fields)


def test_the_schema_knows_and_explains_every_key() -> None:
    described = json.loads(schema())
    assert described["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(described["properties"]) == _keys(Contract)
    tables = [described, *(part for part in described["$defs"].values() if "properties" in part)]
    assert all(entry.get("description") for part in tables for entry in part["properties"].values())
    assert all(part["additionalProperties"] is False for part in tables)


@pytest.mark.parametrize(
    ("table", "key", "expected"), [("Perf", "first_byte_s", 30), ("Slo", "error_rate", 0.01), ("Slo", "cpu", 0.7)]
)
def test_defaults_of_the_schema_are_numbers(table: str, key: str, expected: float) -> None:
    assert json.loads(schema())["$defs"][table]["properties"][key]["default"] == expected


def test_a_model_may_be_text_or_a_table_in_the_schema() -> None:
    kinds = json.loads(schema())["$defs"]["Endpoint"]["anyOf"]
    assert [kind["type"] for kind in kinds] == ["string", "object"]
