from __future__ import annotations

from dataclasses import MISSING, fields
from decimal import Decimal
from pathlib import Path

import pytest

from pilotis.contract.load import default, load, parse
from pilotis.contract.model import Endpoint
from pilotis.derive.budget import Budget, Budgets, Rate, Rates
from pilotis.derive.plan import Embedding, Env, Llm, Plan, derive, digest, reach
from pilotis.errors import ContractError

EXAMPLES = Path(__file__).parents[3] / "examples"


def plan_of(toml: str) -> Plan:
    return derive(parse(toml, Path("pilotis.toml")))


def test_the_specifications_matrix() -> None:
    envs = derive(load(EXAMPLES / "specification.json")).envs

    def row(env: Env) -> tuple[object, ...]:
        return env.llm.model, env.top_k, env.rerank, env.cache_ttl_s, env.trace_sampling

    assert row(envs["dev"]) == ("gpt-5-mini", 20, False, 60, 0.5)
    assert row(envs["staging"]) == ("gpt-5-mini", 30, True, 120, 0.25)
    assert row(envs["prod"]) == ("gpt-5-pro", 50, True, 300, 0.1)
    assert envs["prod"].hybrid
    assert (envs["prod"].tok_in_max, envs["prod"].tok_out_max, envs["prod"].batch_emb) == (1200, 400, 128)
    assert envs["prod"].target_eur_per_1k == Decimal("16.5")


def test_the_built_in_contract_needs_no_key_in_dev() -> None:
    dev = derive(default()).env("dev")
    assert dev.llm == Llm(model="extractive", provider="local")
    assert dev.embedder == Embedding(model="all-MiniLM-L6-v2", provider="local", dimension=384)
    assert (dev.pool_min, dev.pool_max, dev.prompt, dev.reranker) == (10, 50, "v1", None)
    assert (dev.max_file_bytes, dev.parse_memory_bytes) == (100 * 1024**2, 1024**3)


def test_every_step_of_retrieval_is_on_until_a_list_leaves_it_out() -> None:
    for text, expected in (
        ("[envs.dev]", (True, True, True)),
        ('[envs.dev]\nretrieval = ["distinct"]', (False, True, False)),
        ("[envs.dev]\nretrieval = []", (False, False, False)),
    ):
        env = plan_of(text).env("dev")
        assert (env.phrases, env.distinct, env.abstain) == expected


def test_what_the_file_says_wins_over_the_preset_and_flags_are_complete() -> None:
    env = plan_of('[envs.prod]\ntop_k = 7\nflags = ["prompt_v3"]\ncache_ttl_s = 0\ntrace_sampling = 0').env("prod")
    assert (env.top_k, env.hybrid, env.rerank, env.prompt, env.cache_ttl_s, env.trace_sampling) == (
        7,
        False,
        False,
        "v3",
        0,
        0.0,
    )
    assert env.llm.model == "gpt-5-pro"


def test_an_env_of_another_name_starts_from_dev() -> None:
    env = plan_of("[envs.qa]").env("qa")
    assert (env.llm.model, env.top_k, env.rerank) == ("gpt-5-mini", 20, False)


def test_an_unknown_env_names_those_there_are() -> None:
    with pytest.raises(ContractError, match="no env 'pord'") as caught:
        derive(default()).env("pord")
    assert "dev, staging, prod" in caught.value.remedy


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (Endpoint(model="gpt-5-mini"), Llm(model="gpt-5-mini", provider="openai", key_env="OPENAI_API_KEY")),
        (
            Endpoint(model="mistral-small-latest"),
            Llm(
                model="mistral-small-latest",
                provider="mistral",
                base_url="https://api.mistral.ai/v1",
                key_env="MISTRAL_API_KEY",
            ),
        ),
        (
            Endpoint(model="llama", provider="groq", key_env="MINE"),
            Llm(model="llama", provider="groq", base_url="https://api.groq.com/openai/v1", key_env="MINE"),
        ),
        (
            Endpoint(model="gpt-5-mini", base_url="http://localhost:8000/v1/"),
            Llm(model="gpt-5-mini", provider="custom", base_url="http://localhost:8000/v1", key_env=None),
        ),
    ],
)
def test_how_a_model_is_reached(endpoint: Endpoint, expected: Llm) -> None:
    assert reach(endpoint) == expected


def test_embedders_know_their_length_or_ask_for_it() -> None:
    assert plan_of("[envs.dev]\nembedder = 'text-embedding-3-small'").env("dev").embedder.dimension == 1536
    table = "{ model = 'mine', base_url = 'http://h/v1', dimension = 512 }"
    assert plan_of(f"[envs.dev]\nembedder = {table}").env("dev").embedder == Embedding(
        model="mine", provider="custom", dimension=512, base_url="http://h/v1"
    )
    with pytest.raises(ContractError, match="length of the vectors of embedder 'mine'"):
        plan_of("[envs.dev]\nembedder = 'mine'")


def test_the_digest_is_of_values_not_of_spelling() -> None:
    def of(toml: str) -> str:
        return digest(parse(toml, Path("x.toml")))

    spelled = of("[costs]\ntarget_eur_per_1k = 16.50\n[perf]\nstreaming = true\nbatch_emb = 128")
    assert spelled == of("perf.batch_emb = 128\ncosts.target_eur_per_1k = 16.5")
    assert spelled != of("[costs]\ntarget_eur_per_1k = 16.51")
    assert len(spelled) == 64


def test_budgets_rates_and_the_rest_are_resolved() -> None:
    plan = plan_of(
        """
        timezone = "Asia/Kolkata"
        [infra]
        trusted_hops = 2
        [perf]
        in_flight = 64
        [costs]
        month_eur = 1000
        guardrail_window_s = 600
        guardrail_min_sample = 9
        ladder = ["compact_model", "refuse"]
        on_unknown_price = "block"
        on_meter_down = "serve"
        [envs.prod]
        compact = "gpt-5-nano"
        fallback = { model = "spare", base_url = "http://spare/v1" }
        [envs.prod.rates]
        env = 200
        ip = { per_s = 5, burst = 20 }
        bu = 0.2
        bus.sales = 2.5
        [envs.prod.budgets]
        env = { hour_eur = 10 }
        planes.batch = { day_eur = 20 }
        bu = { day_eur = 5 }
        bus."R & D" = { month_eur = 300 }
        key = { day_eur = 1 }
        [envs.staging]
        budgets.env = { month_eur = 7 }
        [envs.dev]
        top_k = 8
        """
    )
    prod, staging, dev = plan.env("prod"), plan.env("staging"), plan.env("dev")
    assert prod.rates == Rates(
        env=Rate(per_s=Decimal(200), burst=200),
        ip=Rate(per_s=Decimal(5), burst=20),
        bu=Rate(per_s=Decimal("0.2"), burst=1),
        bus={"sales": Rate(per_s=Decimal("2.5"), burst=3)},
    )
    assert prod.budgets == Budgets(
        env=Budget(hour_eur=Decimal(10), month_eur=Decimal(1000)),
        planes={"batch": Budget(day_eur=Decimal(20))},
        bu=Budget(day_eur=Decimal(5)),
        bus={"R & D": Budget(month_eur=Decimal(300))},
        key=Budget(day_eur=Decimal(1)),
    )
    assert (staging.budgets, dev.budgets) == (
        Budgets(env=Budget(month_eur=Decimal(7))),
        Budgets(env=Budget(month_eur=Decimal(1000))),
    )
    assert dev.rates == Rates()
    assert prod.compact == Llm(model="gpt-5-nano", provider="openai", key_env="OPENAI_API_KEY")
    assert prod.fallback == Llm(model="spare", provider="custom", base_url="http://spare/v1")
    assert [env.compact_top_k for env in (prod, staging, dev)] == [12, 7, 3]
    assert (prod.timezone, prod.trusted_hops, prod.in_flight) == ("Asia/Kolkata", 2, 64)
    assert (prod.guardrail_window_s, prod.guardrail_min_sample, prod.ladder) == (600, 9, ("compact_model", "refuse"))
    assert (prod.on_unknown_price, prod.on_meter_down) == ("block", "serve")


def test_a_contract_that_says_nothing_of_them_has_the_envs_own_defaults() -> None:
    """Whoever makes an `Env` by hand gets what a contract without these keys gives."""
    env = derive(default()).env("dev")
    defaults = {field.name: field.default for field in fields(Env) if field.default is not MISSING}
    assert {name: getattr(env, name) for name in defaults} == defaults
    assert (env.budgets, env.rates) == (Budgets(), Rates())
