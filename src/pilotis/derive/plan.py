"""What follows from a contract: its digest, the prices in force, and each env resolved to flat values."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from decimal import Decimal
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

from pilotis.contract.model import EXTRACTIVE, RETRIEVAL, Contract, EmbedderEndpoint, Endpoint
from pilotis.contract.presets import DIMENSIONS, LOCAL_EMBEDDER, MATRIX, PREFIXES, PROVIDERS
from pilotis.derive.budget import NO_LIMIT, Budget, Budgets, Rate, Rates
from pilotis.derive.origin import Origin, origin
from pilotis.derive.prices import Fx, PriceBook, book_of, fx_of
from pilotis.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilotis.contract import budgets as written
    from pilotis.contract.model import EnvSection


@dataclass(frozen=True, slots=True, kw_only=True)
class Llm:
    """A model and how to reach it: a writer of answers, or a reranker.

    `base_url` is None where the client knows the address; `key_env` names the variable that holds the key, None where no key
    is sent. `provider` is "local" for what runs in the service itself and "custom" for a server only known by its address.
    """

    model: str
    provider: str
    base_url: str | None = None
    key_env: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """An embedding model, the length of its vectors, and how to reach it."""

    model: str
    provider: str
    dimension: int
    base_url: str | None = None
    key_env: str | None = None
    requests_per_min: int | None = None
    tokens_per_min: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshots:
    """Where snapshots live, after which hour of the day one is taken, and of how many days and months the newest stays."""

    place: str
    hour: int
    keep_days: int
    keep_months: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Env:
    """One env of the contract with every value resolved: what the service runs on.

    Compared by identity, so that what follows from it can be computed once and kept.
    """

    name: str
    hybrid: bool
    rerank: bool
    """Whether passages are reranked; by nobody while `reranker` is None."""
    prompt: str
    llm: Llm
    """`model == "extractive"` where no LLM writes the answer."""
    top_k: int
    reranker: Llm | None
    embedder: Embedding
    cache_ttl_s: int
    trace_sampling: float
    languages: tuple[str, ...]
    tok_in_max: int
    tok_out_max: int
    batch_emb: int
    streaming: bool
    first_byte_s: float
    total_s: float
    pool_min: int
    pool_max: int
    passage_tokens: int
    passage_overlap: int
    max_file_bytes: int
    parse_timeout_s: int
    parse_memory_bytes: int
    target_eur_per_1k: Decimal | None
    guardrail_eur_per_req: Decimal | None
    guardrail_window_s: int = 3600
    guardrail_min_sample: int = 50
    """Answers that were paid for, below which the guardrail says nothing."""
    ladder: tuple[str, ...] = ("no_rerank", "smaller_top_k", "compact_model", "cache_only", "refuse")
    """What the guardrail does, step by step; see `derive.ladder`."""
    compact: Llm | None = None
    """The cheaper model of the step `compact_model`; the step is left out without one."""
    compact_top_k: int = 5
    fallback: Llm | None = None
    """Who writes where the env's model cannot be reached."""
    budgets: Budgets = field(default_factory=Budgets)
    rates: Rates = field(default_factory=Rates)
    timezone: str = "Europe/Paris"
    """Where days and months begin."""
    on_unknown_price: Literal["block", "dearest", "serve"] = "dearest"
    """A model without a price: refused, taken at its provider's dearest known price, or served and counted as unpriced."""
    on_meter_down: Literal["refuse", "serve"] = "refuse"
    """Where budgets cannot be kept because Redis is away: refuse what could cost something, or serve it and book it afterwards."""
    ocr_languages: tuple[str, ...] = ()
    """In which languages scans are read; none where OCR is off."""
    in_flight: int = 1000
    """Requests that a process serves at once; the next one is told to come back."""
    phrases: bool = True
    """Whether passages that hold the question's words side by side move up."""
    distinct: bool = True
    """Whether copies of a passage are left out of the prompt."""
    abstain: bool = True
    """Whether an extractive answer says "not found" where no sentence is likely to answer; else it quotes the likeliest."""
    trusted_hops: int = 0
    """How many proxies before us write X-Forwarded-For; 0 takes the peer's own address."""
    snapshot: Snapshots | None = None
    """None where the contract asks for no daily ones."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """All that follows from one contract. `digest` is the SHA-256 (hex) of its values, defaults included."""

    digest: str
    contract: Contract
    envs: Mapping[str, Env]
    book: PriceBook = field(repr=False)
    fx: Fx
    sources: Mapping[str, Origin] = field(default_factory=dict)

    def env(self, name: str) -> Env:
        """The env of that name; raises ContractError, which lists those there are."""
        try:
            return self.envs[name]
        except KeyError:
            known = ", ".join(self.envs)
            raise ContractError(
                f"The contract has no env {name!r}.", remedy=f"Use one of: {known}; or add [envs.{name}] to the contract."
            ) from None

    def sources_of(self, env: str) -> tuple[Origin, ...]:
        """The sources that this env has, in the order of the file."""
        return tuple(found for found in self.sources.values() if found.envs is None or env in found.envs)


def derive(contract: Contract) -> Plan:
    """Resolve every env; the same contract always gives the same plan."""
    return Plan(
        digest=digest(contract),
        contract=contract,
        envs={name: resolve(contract, name) for name in contract.envs},
        book=book_of(contract.costs),
        fx=fx_of(contract.costs),
        sources={name: origin(name, section) for name, section in contract.sources.items()},
    )


def resolve(contract: Contract, name: str) -> Env:
    """What the file says, over the preset of that name, over the defaults: the one mapping from file to `Env`."""
    row, preset, perf = contract.envs[name], MATRIX.get(name, MATRIX["dev"]), contract.perf
    section = preset.model_copy(update={key: value for key, value in row if value is not None})
    flags = section.flags or ()
    steps = RETRIEVAL if section.retrieval is None else section.retrieval
    prompts = [flag.removeprefix("prompt_") for flag in flags if flag.startswith("prompt_")]
    env = Env(
        name=name,
        hybrid="hybrid" in flags,
        rerank="rerank" in flags,
        phrases="phrases" in steps,
        distinct="distinct" in steps,
        abstain="abstain" in steps,
        prompt=prompts[-1] if prompts else "v1",
        llm=reach(section.llm or Endpoint(model=EXTRACTIVE)),
        top_k=section.top_k or 20,
        reranker=reach(section.reranker) if section.reranker else None,
        embedder=_embedding(section.embedder or LOCAL_EMBEDDER),
        cache_ttl_s=section.cache_ttl_s or 0,
        trace_sampling=float(section.trace_sampling or 0),
        languages=contract.languages,
        tok_in_max=perf.tok_in_max,
        tok_out_max=perf.tok_out_max,
        batch_emb=perf.batch_emb,
        streaming=perf.streaming,
        first_byte_s=float(perf.first_byte_s),
        total_s=float(perf.total_s),
        pool_min=perf.pool_min,
        pool_max=perf.pool_max,
        passage_tokens=perf.passage_tokens,
        passage_overlap=perf.passage_overlap,
        max_file_bytes=contract.limits.max_file_mib << 20,
        parse_timeout_s=contract.limits.parse_timeout_s,
        parse_memory_bytes=contract.limits.parse_memory_mib << 20,
        ocr_languages=(contract.reading.ocr_languages or contract.languages) if contract.reading.ocr else (),
        target_eur_per_1k=None,
        guardrail_eur_per_req=None,
    )
    return _metered(env, section, contract)


def reach(endpoint: Endpoint) -> Llm:
    """Complete an endpoint from what is known of its provider.

    A server named by its address gets no key unless `key_env` says which: a provider's key is never sent to another host.
    """
    if endpoint.model == EXTRACTIVE:
        return Llm(model=EXTRACTIVE, provider="local")
    if endpoint.base_url:
        url = endpoint.base_url.rstrip("/")
        return Llm(model=endpoint.model, provider=endpoint.provider or "custom", base_url=url, key_env=endpoint.key_env)
    guess = next((name for prefix, name in PREFIXES if endpoint.model.startswith(prefix)), "openai")
    name = endpoint.provider or guess
    known = PROVIDERS.get(name)
    return Llm(
        model=endpoint.model,
        provider=name,
        base_url=known.base_url if known else None,
        key_env=endpoint.key_env or (known.key_env if known else None),
    )


def digest(contract: Contract) -> str:
    """SHA-256 (hex) over the canonical JSON of the contract: sorted keys, defaults written out, 16.50 and 16.5 the same."""
    text = json.dumps(contract.model_dump(), default=_plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _metered(env: Env, section: EnvSection, contract: Contract) -> Env:
    """The env with what keeps its costs and its load within bounds."""
    costs = contract.costs
    return replace(
        env,
        target_eur_per_1k=costs.target_eur_per_1k,
        guardrail_eur_per_req=costs.guardrail_eur_per_req,
        guardrail_window_s=costs.guardrail_window_s,
        guardrail_min_sample=costs.guardrail_min_sample,
        ladder=costs.ladder,
        compact=reach(section.compact) if section.compact else None,
        compact_top_k=section.compact_top_k or max(3, env.top_k // 4),
        fallback=reach(section.fallback) if section.fallback else None,
        budgets=_budgets(section.budgets, costs.month_eur),
        rates=_rates(section.rates),
        timezone=contract.timezone,
        on_unknown_price=costs.on_unknown_price,
        on_meter_down=costs.on_meter_down,
        in_flight=contract.perf.in_flight,
        trusted_hops=contract.infra.trusted_hops,
        snapshot=Snapshots(**section.snapshot.model_dump()) if section.snapshot else None,
    )


def _budgets(budgets: written.Budgets | None, month_eur: Decimal | None) -> Budgets:
    if budgets is None:
        return Budgets(env=Budget(month_eur=month_eur))
    env = _budget(budgets.env)
    planes = {"online": budgets.planes.online, "batch": budgets.planes.batch}
    return Budgets(
        env=env if env.month_eur is not None else replace(env, month_eur=month_eur),
        planes={plane: _budget(budget) for plane, budget in planes.items() if budget},
        bu=_budget(budgets.bu),
        bus={name: _budget(budget) for name, budget in budgets.bus.items()},
        key=_budget(budgets.key),
    )


def _budget(budget: written.Budget | None) -> Budget:
    if budget is None:
        return NO_LIMIT
    return Budget(hour_eur=budget.hour_eur, day_eur=budget.day_eur, month_eur=budget.month_eur)


def _rates(rates: written.Rates | None) -> Rates:
    if rates is None:
        return Rates()
    bus = {name: found for name, rate in rates.bus.items() if (found := _rate(rate))}
    return Rates(env=_rate(rates.env), ip=_rate(rates.ip), bu=_rate(rates.bu), bus=bus)


def _rate(rate: written.Rate | None) -> Rate | None:
    return None if rate is None else Rate(per_s=rate.per_s, burst=rate.burst or ceil(rate.per_s))


def _embedding(endpoint: EmbedderEndpoint) -> Embedding:
    if endpoint.model == LOCAL_EMBEDDER.model and not endpoint.base_url:
        return Embedding(model=endpoint.model, provider="local", dimension=384)
    dimension = endpoint.dimension or DIMENSIONS.get(endpoint.model)
    if dimension is None:
        raise ContractError(
            f"The length of the vectors of embedder {endpoint.model!r} is not known.",
            remedy=f'Write it: embedder = {{ model = "{endpoint.model}", dimension = 1024 }}.',
        )
    llm = reach(endpoint)
    return Embedding(
        model=llm.model,
        provider=llm.provider,
        dimension=dimension,
        base_url=llm.base_url,
        key_env=llm.key_env,
        requests_per_min=endpoint.requests_per_min,
        tokens_per_min=endpoint.tokens_per_min,
    )


def on(env: Env, embedder: Mapping[str, Any] | None, *, passage_tokens: int | None, passage_overlap: int | None) -> Env:
    """The env on an index that was made with this embedder and these passages; itself where the index is as its contract asks."""
    changes: dict[str, Any] = {}
    if embedder is not None and (made := Embedding(**embedder)) != env.embedder:
        changes["embedder"] = made
    if passage_tokens is not None and (passage_tokens, passage_overlap) != (env.passage_tokens, env.passage_overlap):
        changes |= {"passage_tokens": passage_tokens, "passage_overlap": passage_overlap}
    return replace(env, **changes) if changes else env


def _plain(value: Any) -> str:
    return format(value.normalize(), "f") if isinstance(value, Decimal) else str(value)
