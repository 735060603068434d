"""What every page of the runbook can say: words in one language, figures of the main env, commands, queries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotis.contract.model import EXTRACTIVE
from pilotis.derive.budget import Rate
from pilotis.derive.plan import Env
from pilotis.derive.site import Site
from pilotis.derive.workload import SERVERS
from pilotis.render.diagrams.diagrams import path_of
from pilotis.render.diagrams.road import address
from pilotis.render.files import Scene
from pilotis.render.runbook.commands import commands
from pilotis.render.runbook.facts import Facts, facts, half_more
from pilotis.render.runbook.queries import queries
from pilotis.render.wording import Wording

STEPS = {
    "full": "the full service | le service complet",
    "no_rerank": "passages are not reranked | les passages ne sont pas reclassés",
    "smaller_top_k": "{compact_top_k} passages instead of {top_k} | {compact_top_k} passages au lieu de {top_k}",
    "compact_model": "`{compact}` writes instead of `{llm}` | `{compact}` rédige à la place de `{llm}`",
    "cache_only": "only what was answered before | seulement ce qui a déjà été répondu",
    "refuse": "nothing: 503 | rien : 503",
}
KEEPERS = {
    "environment": "the environment of its processes | l'environnement de ses processus",
    "file": "files, one each | des fichiers, un par secret",
    "vault": "Vault, KV version 2",
    "aws": "AWS Secrets Manager",
}
OPENS = {
    "PILOTIS_DATABASE_URL": "Postgres",
    "PILOTIS_REDIS_URL": "Redis of budgets and caches | Redis des budgets et des caches",
    "PILOTIS_BROKER_URL": "Redis of the queues | Redis des files d'attente",
}


def said(scene: Scene, words: Wording) -> dict[str, Any]:
    """The variables of the templates, those of the alerts left out."""
    site, contract = scene.main, scene.plan.contract
    env, found = site.env, facts(site, scene.plan)
    before = [name for name in scene.sites if name != env.name]
    place = f" --at {env.snapshot.place}" if env.snapshot else ""
    return {
        "name": contract.name,
        "contract": contract,
        "slo": contract.slo,
        "sites": scene.sites,
        "site": site,
        "env": env,
        "facts": found,
        "q": queries(site),
        "do": commands(site),
        "commands_of": commands,
        "api_more": {"api": half_more(found.roles["api"].replicas)},
        "workers_more": {role.name: half_more(role.most or role.replicas) for role in found.workers},
        "as_before": {"api": found.roles["api"].replicas}
        | {role.name: role.replicas if site.is_prod else 0 for role in found.workers},
        "receivers": sorted(site.alerts.receivers.items()),
        "before": before[-1] if before else "",
        "at": "" if place else f" --at {words.pick('PLACE | ENDROIT')}",
        "flags": [f"`{flag}`" for flag in flags(env)],
        "smaller_top_k": min(env.compact_top_k, env.top_k),
        "rates": _rates(env),
        "models": _models(env, words),
        "what": _steps(env, words),
        "steps_end": _steps_end(found, words),
        "picture": lambda name: f"../../{path_of(name, words.language)}",
        **_secrets(site, found, words),
    }


def flags(env: Env) -> tuple[str, ...]:
    """As the contract writes them."""
    named = {"hybrid": env.hybrid, "rerank": env.rerank, f"prompt_{env.prompt}": env.prompt != "v1"}
    return tuple(name for name, is_on in named.items() if is_on)


def _steps(env: Env, words: Wording) -> Mapping[str, str]:
    known = {
        "compact_top_k": env.compact_top_k,
        "top_k": env.top_k,
        "compact": env.compact.model if env.compact else "",
        "llm": env.llm.model,
    }
    return {name: words.pick(text).format_map(known) for name, text in STEPS.items()}


def _steps_end(found: Facts, words: Wording) -> str:
    least = words.span(found.dwell_s)
    return words.say(
        f"It ends by itself, one step at a time, after {least} at the earliest; set it again where it is still needed.",
        f"Ce cran ne dure pas : le service remonte d'un cran à la fois, au plus tôt après {least}. Le reposer s'il le faut encore.",
    )


def _rates(env: Env) -> list[tuple[str, Rate]]:
    named = {"env": env.rates.env, "ip": env.rates.ip, "bu:*": env.rates.bu}
    named |= {f"bu:{name}": rate for name, rate in sorted(env.rates.bus.items())}
    return [(scope, rate) for scope, rate in named.items() if rate]


def _models(env: Env, words: Wording) -> list[dict[str, str]]:
    uses = {
        "writes | rédige": env.llm,
        "writes at the step `compact_model` | rédige au cran `compact_model`": env.compact,
        "writes where the first is away | rédige en secours": env.fallback,
        "embeds | vectorise": env.embedder,
        "reranks | reclasse": env.reranker if env.rerank else None,
    }
    rows = []
    for use, model in uses.items():
        if model is not None and model.provider != "local":
            server = address(model) if model.provider == "custom" else model.provider
            rows.append({"model": model.model, "use": words.pick(use), "server": server})
    return rows


def _secrets(site: Site, found: Facts, words: Wording) -> dict[str, Any]:
    env, kept = site.env, site.secrets
    used: dict[str, list[str]] = {}
    for model in (env.llm, env.compact, env.fallback, env.embedder, env.reranker if env.rerank else None):
        if model is not None and model.key_env and model.model != EXTRACTIVE:
            used.setdefault(model.key_env, []).append(f"`{model.model}`")

    def opens(name: str) -> str:
        return words.pick(OPENS[name]) if name in OPENS else ", ".join(dict.fromkeys(used.get(name, [])))

    keys = [name for name in found.secrets if name not in SERVERS]
    return {
        "opens": opens,
        "keeper": words.pick(KEEPERS[kept.provider]),
        "model_secret": keys[0] if keys else "",
    }
