"""What changes between two envs, of one contract or of two: cost, capacity, objectives, approvals, secrets, and how risky it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from pilotis.contract.infra import Alerts
from pilotis.contract.model import EXTRACTIVE
from pilotis.derive.check import Estimates, estimates
from pilotis.derive.cost import Usage, price
from pilotis.derive.plan import Embedding, Env, Llm, Plan
from pilotis.derive.site import Site, sites
from pilotis.derive.workload import secrets

Level = Literal["none", "low", "medium", "high"]
LEVELS: tuple[Level, ...] = ("none", "low", "medium", "high")
DAYS = Decimal(30)
"""Of the month that costs are compared over."""
EXAMPLE_PASSAGES = 100_000
"""How many passages the cost of embedding anew is stated for, as a contract does not know the size of the index."""

Value = Decimal | int | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One row: what, before, after. `unit` is "" where the value says it; None is unknown, or there is none."""

    group: str
    what: str
    before: Value
    after: Value
    unit: str = ""

    @property
    def differs(self) -> bool:
        return self.before != self.after

    @property
    def difference(self) -> Decimal | None:
        """After less before, where both are amounts."""
        both = (self.before, self.after)
        if any(value is None or isinstance(value, str) for value in both):
            return None
        return Decimal(self.after or 0) - Decimal(self.before or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """Something that may go wrong with the change, and what to do about it."""

    level: Level
    code: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Of env `before` and env `after`: every figure, the unchanged ones too, and the risks, gravest first."""

    before: str
    after: str
    changes: tuple[Change, ...]
    risks: tuple[Risk, ...]

    @property
    def level(self) -> Level:
        """The gravest risk; "none" without any."""
        return max((risk.level for risk in self.risks), key=LEVELS.index, default="none")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    plan: Plan
    env: Env
    site: Site
    costs: Estimates


def diff(before: Plan, after: Plan, *, env: str, to_env: str | None = None) -> Difference:
    """What changes as env `env` of one plan becomes `to_env` (the same name when left out) of the other.

    Raises ContractError for an env that is not there, or that cannot be placed.
    """
    old, new = _side(before, env), _side(after, to_env or env)
    moved = env != (to_env or env)
    changes = (*_costs(old, new), *_capacity(old, new), *_models(old, new), *_agreed(old, new), *_places(old, new, moved=moved))
    risks = sorted(_risks(old, new, moved=moved), key=lambda risk: -LEVELS.index(risk.level))
    return Difference(before=env, after=to_env or env, changes=changes, risks=tuple(risks))


def monthly(eur_per_1k: Decimal | None, requests_per_day: int | None) -> Decimal | None:
    """Euros for thirty days of usual ones; None where either is unknown."""
    if eur_per_1k is None or requests_per_day is None:
        return None
    return eur_per_1k * requests_per_day * DAYS / 1000


def reembedding_eur(plan: Plan, embedder: Embedding, passage_tokens: int, passages: int) -> Decimal | None:
    """What embedding so many full passages costs at the price of the model; 0 for one that runs here, None where it is unknown."""
    if embedder.provider == "local":
        return Decimal(0)
    usage = Usage(model=embedder.model, provider=embedder.provider, input_tokens=passages * passage_tokens)
    one = price(usage, plan.book, plan.fx)
    return one.cost_eur if one.priced else None


def _side(plan: Plan, name: str) -> _Side:
    env = plan.env(name)
    return _Side(plan=plan, env=env, site=sites(plan)[name], costs=estimates(env, plan))


def _costs(old: _Side, new: _Side) -> Iterator[Change]:
    for what, before, after in (
        ("usual, as agreed", old.costs.usual, new.costs.usual),
        ("usual, at list price", old.costs.usual_listed, new.costs.usual_listed),
    ):
        yield Change(group="cost", what=what, before=before.total_eur_per_1k, after=after.total_eur_per_1k, unit="EUR/1k")
    counts = [side.plan.contract.envs[side.env.name].requests_per_day for side in (old, new)]
    yield Change(group="cost", what="requests a day", before=counts[0], after=counts[1])
    for what, before, after in (
        ("a month, as agreed", old.costs.usual, new.costs.usual),
        ("a month, at list price", old.costs.usual_listed, new.costs.usual_listed),
    ):
        months = monthly(before.total_eur_per_1k, counts[0]), monthly(after.total_eur_per_1k, counts[1])
        yield Change(group="cost", what=what, before=months[0], after=months[1], unit="EUR/30 days")
    for what, before, after in (
        ("worst request, as agreed", old.costs.worst, new.costs.worst),
        ("worst request, at list price", old.costs.worst_listed, new.costs.worst_listed),
    ):
        yield Change(group="cost", what=what, before=before.eur_per_req, after=after.eur_per_req, unit="EUR/request")
    yield Change(group="cost", what="target", before=old.env.target_eur_per_1k, after=new.env.target_eur_per_1k, unit="EUR/1k")
    guards = old.env.guardrail_eur_per_req, new.env.guardrail_eur_per_req
    yield Change(group="cost", what="guardrail", before=guards[0], after=guards[1], unit="EUR/request")
    limits = old.env.budgets.env, new.env.budgets.env
    for window in ("hour_eur", "day_eur", "month_eur"):
        name = window.removesuffix("_eur")
        values = [getattr(limit, window) for limit in limits]
        yield Change(group="cost", what=f"budget a {name}", before=values[0], after=values[1], unit="EUR")


def _capacity(old: _Side, new: _Side) -> Iterator[Change]:
    a, b = old.site.size, new.site.size
    for what, before, after in (
        ("requests a second", a.rps, b.rps),
        ("API pods", a.api_pods, b.api_pods),
        ("vCPU of a pod", a.api_vcpu, b.api_vcpu),
        ("workers", a.workers, b.workers),
        ("cache", a.cache, b.cache),
        ("shards of the index", a.shards, b.shards),
    ):
        yield Change(group="capacity", what=what, before=before, after=after)


def _models(old: _Side, new: _Side) -> Iterator[Change]:
    a, b = old.env, new.env
    rows: tuple[tuple[str, Value, Value], ...] = (
        ("llm", _served(a.llm), _served(b.llm)),
        ("fallback", _served(a.fallback), _served(b.fallback)),
        ("embedder", _vectors(a.embedder), _vectors(b.embedder)),
        ("reranker", _reranks(a), _reranks(b)),
        ("prompt", a.prompt, b.prompt),
        ("hybrid search", _on(a.hybrid), _on(b.hybrid)),
        ("passages (top_k)", a.top_k, b.top_k),
        ("passage tokens", a.passage_tokens, b.passage_tokens),
        ("tokens in at most", a.tok_in_max, b.tok_in_max),
        ("tokens out at most", a.tok_out_max, b.tok_out_max),
        ("life of a cached answer (s)", a.cache_ttl_s, b.cache_ttl_s),
        ("share of traces", str(a.trace_sampling), str(b.trace_sampling)),
    )
    yield from (Change(group="answers", what=what, before=before, after=after) for what, before, after in rows)


def _agreed(old: _Side, new: _Side) -> Iterator[Change]:
    a, b = old.plan.contract, new.plan.contract
    for key in ("error_rate", "p95_ms", "hit_at_5", "eur_per_req", "cpu", "ram"):
        yield Change(group="slo", what=key, before=getattr(a.slo, key), after=getattr(b.slo, key))
    yield Change(group="alerts", what="receivers", before=_receivers(a.alerts), after=_receivers(b.alerts))
    days = a.alerts.retention_days, b.alerts.retention_days
    yield Change(group="alerts", what="retention of measurements", before=days[0], after=days[1], unit="days")
    windows = old.env.guardrail_window_s, new.env.guardrail_window_s
    yield Change(group="alerts", what="window of the guardrail", before=windows[0], after=windows[1], unit="s")
    for key in ("strategy", "stages", "rollback_on", "approvals", "min_sample", "max_hold_s"):
        values = [_listed(getattr(contract.deploy, key)) for contract in (a, b)]
        yield Change(group="deploy", what=key, before=values[0], after=values[1])


def _places(old: _Side, new: _Side, *, moved: bool) -> Iterator[Change]:
    for key in ("vector", "db", "cache", "blobs", "cloud", "region", "image"):
        yield Change(group="infra", what=key, before=getattr(old.site.infra, key), after=getattr(new.site.infra, key))
    yield Change(group="infra", what="host", before=old.site.host, after=new.site.host)
    yield Change(group="secrets", what="names", before=_listed(secrets(old.env)), after=_listed(secrets(new.env)))
    for key in ("provider", "max_age_days", *(() if moved else ("path",))):
        values = [getattr(side.site.secrets, key) for side in (old, new)]
        yield Change(group="secrets", what=key, before=values[0], after=values[1])


def _risks(old: _Side, new: _Side, *, moved: bool) -> Iterator[Risk]:
    yield from _index_risks(old, new, moved=moved)
    yield from _money_risks(old, new)
    yield from _deploy_risks(old, new)
    if old.env.llm != new.env.llm:
        message = f"Answers are written by {_served(new.env.llm)} instead of {_served(old.env.llm)}."
        yield Risk(
            level="medium", code="llm", message=message, remedy="Hold it against the golden set: pilotis eval run --gate."
        )
    if added := sorted(set(secrets(new.env)) - set(secrets(old.env))):
        message = f"New secrets: {', '.join(added)}."
        yield Risk(level="low", code="secrets", message=message, remedy="Store them before the release.")


def _index_risks(old: _Side, new: _Side, *, moved: bool) -> Iterator[Risk]:
    a, b = old.env, new.env
    made = [(env.embedder.model, env.embedder.dimension, env.passage_tokens, env.passage_overlap) for env in (a, b)]
    if made[0] != made[1]:
        cost = reembedding_eur(new.plan, b.embedder, b.passage_tokens, EXAMPLE_PASSAGES)
        shown = "unknown" if cost is None else f"{cost:.2f} EUR"
        yield Risk(
            level="high",
            code="embedding",
            message=f"The index has to be embedded anew; for each {EXAMPLE_PASSAGES} passages of {b.passage_tokens} tokens: {shown}.",
            remedy="Build the new generation beside the old one, then switch: pilotis index build.",
        )
    if old.site.infra.vector != new.site.infra.vector:
        message = f"The index moves from {old.site.infra.vector} to {new.site.infra.vector}."
        yield Risk(
            level="high", code="vector_store", message=message, remedy="Take a snapshot, migrate, and verify before the switch."
        )
    if not moved and old.site.infra.region != new.site.infra.region:
        message = f"Everything moves from {old.site.infra.region} to {new.site.infra.region}."
        yield Risk(
            level="high", code="region", message=message, remedy="Plan it as a migration, with a snapshot to restore from."
        )


def _money_risks(old: _Side, new: _Side) -> Iterator[Risk]:
    a, b = old.costs.usual_listed.total_eur_per_1k, new.costs.usual_listed.total_eur_per_1k
    if b is None:
        message = f"The price of {new.env.llm.model} is unknown: nothing bounds what a request costs."
        yield Risk(level="high", code="price_unknown", message=message, remedy="Write it under [costs.prices].")
    elif a is not None and b > a:
        twice = a > 0 and b >= 2 * a
        message = f"A thousand requests cost {b:.2f} EUR at list price instead of {a:.2f}."
        yield Risk(level="high" if twice else "medium", code="cost", message=message, remedy="Agree on it with who pays.")
    agreed = old.costs.usual.total_eur_per_1k, new.costs.usual.total_eur_per_1k
    if agreed[0] is not None and agreed[1] is not None and agreed[1] > agreed[0]:
        message = f"The agreed estimate rises from {agreed[0]:.2f} to {agreed[1]:.2f} EUR/1k."
        yield Risk(level="medium", code="estimate", message=message, remedy="Agree on it with who pays.")
    for code, key in (("guardrail", "guardrail_eur_per_req"), ("target", "target_eur_per_1k")):
        before, after = getattr(old.env, key), getattr(new.env, key)
        if before is not None and (after is None or after > before):
            message = f"{key} rises from {before:f} to {'no limit' if after is None else f'{after:f}'}."
            yield Risk(level="medium", code=code, message=message, remedy="Agree on it with who pays.")
    month = old.env.budgets.env.month_eur, new.env.budgets.env.month_eur
    if month[0] is not None and (month[1] is None or month[1] > month[0]):
        message = f"The month's budget rises from {month[0]:f} to {'no limit' if month[1] is None else f'{month[1]:f} EUR'}."
        yield Risk(level="medium", code="budget", message=message, remedy="Agree on it with who pays.")


def _deploy_risks(old: _Side, new: _Side) -> Iterator[Risk]:
    a, b = old.plan.contract, new.plan.contract
    if gone := sorted(set(a.deploy.approvals) - set(b.deploy.approvals)):
        message = f"No longer has to agree to a release: {', '.join(gone)}."
        yield Risk(level="high", code="approval_removed", message=message, remedy="Let those who lose their say agree to it.")
    if a.deploy.rollback_on != b.deploy.rollback_on and b.deploy.rollback_on == "never":
        message = "A release that breaks an objective no longer goes back by itself."
        yield Risk(level="high", code="rollback", message=message, remedy='Keep rollback_on = "slo_breach".')
    if b.deploy.stages[0] > a.deploy.stages[0] or b.deploy.min_sample < a.deploy.min_sample:
        message = "A release meets more traffic before, or on less evidence than, it did."
        yield Risk(level="medium", code="stages", message=message, remedy="Keep the first stage small and the sample large.")
    for key, lower_is_looser in (("error_rate", False), ("p95_ms", False), ("hit_at_5", True)):
        before, after = getattr(a.slo, key), getattr(b.slo, key)
        if before is not None and (after is None or (after < before if lower_is_looser else after > before)):
            message = f"slo.{key} is loosened from {before} to {'none' if after is None else after}."
            yield Risk(level="medium", code="slo", message=message, remedy="Tell those who rely on it.")
    if a.alerts.receivers and not b.alerts.receivers:
        yield Risk(level="high", code="receivers", message="Nobody is told of an alert any more.", remedy="Keep a receiver.")


def _served(model: Llm | None) -> str | None:
    if model is None or model.model == EXTRACTIVE:
        return None if model is None else EXTRACTIVE
    return f"{model.model} ({model.base_url or model.provider})"


def _vectors(embedder: Embedding) -> str:
    return f"{embedder.model}, {embedder.dimension} ({embedder.base_url or embedder.provider})"


def _reranks(env: Env) -> str:
    return "off" if not env.rerank else _served(env.reranker) or "on, by nobody"


def _on(value: bool) -> str:
    return "on" if value else "off"


def _receivers(alerts: Alerts) -> str:
    told: Mapping[str, object] = {name: ", ".join(receiver.severities) for name, receiver in alerts.receivers.items()}
    return "; ".join(f"{name}: {what}" for name, what in told.items()) or "nobody"


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
