"""The architecture of one env: what stands where, how many and how large, and who talks to whom."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from pilotis.contract.model import EXTRACTIVE
from pilotis.derive.plan import Env, Plan
from pilotis.derive.site import Site
from pilotis.derive.workload import Role, bucket, roles
from pilotis.render.diagrams.graph import Box, Graph, Group, Line
from pilotis.render.diagrams.paths import STORES
from pilotis.render.diagrams.road import address
from pilotis.render.wording import Wording

EDGE, INSIDE, OUTSIDE = 0, 1, 2
"""The columns: who comes in, the processes, what they use."""


def architecture(site: Site, plan: Plan, words: Wording) -> Graph:
    say, env = words.say, site.env
    online, batch, alone = _processes(site, words)
    data, models, watch = list(_data(site, words)), list(_models(env, words)), list(_watch(site, words))
    inside = [*online, *batch, *alone]
    outside = _stacked([*data, *models, *watch], OUTSIDE)
    edge = _edge(site, plan, words, batch_row=batch[0].row)
    groups = [
        Group(id="online", title=say("Online plane: latency", "Plan online : latence"), members=_ids(online)),
        Group(id="batch", title=say("Batch plane: throughput", "Plan batch : débit"), members=_ids(batch)),
        Group(id="keepers", title=say("Upkeep: one of each", "Entretien : un de chaque"), members=_ids(alone)),
        Group(id="place", title=_place(site, words), members=("online", "batch", "keepers")),
        Group(id="data", title=say("Stored state", "État stocké"), members=_ids(data)),
    ]
    if models:
        groups.append(Group(id="models", title=say("Models, over the network", "Modèles, par le réseau"), members=_ids(models)))
    groups.append(Group(id="watching", title=say("Observability", "Observabilité"), members=_ids(watch)))
    size = site.size
    return Graph(
        title=say(f"Architecture of {site.name}", f"Architecture de {site.name}"),
        subtitle=say(
            f"Sized for {words.number(size.rps)} requests a second · {site.infra.region} · network {site.cidr}",
            f"Dimensionné pour {words.number(size.rps)} requêtes par seconde · {site.infra.region} · réseau {site.cidr}",
        ),
        boxes=(*edge, *inside, *outside),
        lines=tuple(_lines(site, _ids(edge), _ids(data), models)),
        groups=tuple(groups),
        down=False,
    )


def _ids(boxes: list[Box]) -> tuple[str, ...]:
    return tuple(box.id for box in boxes)


def _stacked(boxes: list[Box], column: int, first: int = 0) -> list[Box]:
    return [
        Box(id=box.id, title=box.title, notes=box.notes, kind=box.kind, column=column, row=first + n)
        for n, box in enumerate(boxes)
    ]


def _place(site: Site, words: Wording) -> str:
    if site.hosts:
        return words.say(f"{len(site.hosts)} virtual machines", f"{len(site.hosts)} machines virtuelles")
    return words.say(f"Kubernetes, namespace {site.name}", f"Kubernetes, espace {site.name}")


def _edge(site: Site, plan: Plan, words: Wording, *, batch_row: int) -> list[Box]:
    say, env = words.say, site.env
    rates = [
        f"{words.number(rate.per_s)} {unit}"
        for rate, unit in (
            (env.rates.env, say("requests/s in all", "requêtes/s en tout")),
            (env.rates.ip, say("per address", "par adresse")),
            (env.rates.bu, say("per business unit", "par unité métier")),
        )
        if rate
    ]
    gate = (
        Box(
            id="gateway",
            title="HAProxy",
            notes=(site.host, say("two colours per host", "deux couleurs par machine"), *site.hosts),
        )
        if site.hosts
        else Box(id="gateway", title=say("Gateway", "Passerelle"), notes=(site.host, "TLS"))
    )
    boxes = [
        Box(id="clients", title="Clients", notes=tuple(rates), kind="person"),
        gate,
    ]
    found = _stacked(boxes, EDGE)
    sources = plan.sources_of(env.name)
    if sources:
        shown = [f"{one.name}: {one.kind}" for one in sources[:6]]
        more = [say(f"and {len(sources) - 6} more", f"et {len(sources) - 6} autres")] if len(sources) > 6 else []
        box = Box(id="sources", title=say("Sources of documents", "Sources de documents"), notes=(*shown, *more), kind="person")
        found += _stacked([box], EDGE, max(batch_row, 2))
    return found


def _processes(site: Site, words: Wording) -> tuple[list[Box], list[Box], list[Box]]:
    """Those of the online plane, of the batch plane, and those there is one of."""
    found: tuple[list[Role], list[Role], list[Role]] = ([], [], [])
    for role in roles(site):
        found[0 if role.port else 1 if role.queue else 2].append(role)
    row, columns = 0, []
    for those in found:
        columns.append(_stacked([_process(role, site.env, words) for role in those], INSIDE, row))
        row += len(those)
    online, batch, alone = columns
    return online, batch, alone


def _process(role: Role, env: Env, words: Wording) -> Box:
    most = "" if role.most is None or role.most == role.replicas else words.say(f" to {role.most}", f" à {role.most}")
    whole = role.memory_mib % 1024 == 0
    memory = f"{role.memory_mib // 1024} {words.say('GiB', 'Gio')}" if whole else f"{role.memory_mib} {words.say('MiB', 'Mio')}"
    notes = [f"{role.replicas}{most} × {words.number(role.vcpu)} vCPU, {memory}"]
    if role.port:
        notes.append(f"port {role.port}")
        if env.llm.model == EXTRACTIVE:
            notes.append(words.say("answers in sentences of the documents", "répond par les phrases des documents"))
    if env.embedder.provider == "local" and (role.port or role.queue == "embed"):
        notes.append(words.say(f"embeds by itself: {env.embedder.model}", f"vectorise lui-même : {env.embedder.model}"))
    return Box(id=role.name.replace("-", "_"), title=role.name, notes=tuple(notes), kind="process")


def _data(site: Site, words: Wording) -> Iterator[Box]:
    say, size, vector = words.say, site.size, site.infra.vector
    own = vector == "pgvector"
    yield Box(
        id="postgres",
        title=STORES["pgvector"] if own else "Postgres",
        notes=(
            say("documents, passages, vectors", "documents, passages, vecteurs")
            if own
            else say("documents, passages", "documents, passages"),
            say("ledger, keys, queues' state", "grand livre, clés, état des files"),
            *([say("in two zones", "dans deux zones")] if site.is_prod else []),
            say(f"≤ {site.env.pool_max} connections a process", f"≤ {site.env.pool_max} connexions par processus"),
        ),
        kind="store",
    )
    if site.is_prod:
        yield Box(
            id="replica",
            title=say("Read replica", "Réplique en lecture"),
            notes=(say("a second copy of the index", "une seconde copie de l'index"),),
            kind="store",
        )
    if not own:
        shards = say(f"{size.shards} shards, 2 copies", f"{size.shards} fragments, 2 copies")
        yield Box(id="vectors", title=STORES[vector], notes=(shards,), kind="store")
    yield Box(
        id="redis_cache",
        title=say(f"Redis, cache {size.cache}", f"Redis, cache {size.cache}"),
        notes=(
            say("budgets, rates, caches", "budgets, débits, caches"),
            say("evicts what has a time to live", "n'évince que ce qui expire"),
        ),
        kind="cache",
    )
    yield Box(
        id="redis_broker",
        title=say("Redis, queues", "Redis, files d'attente"),
        notes=("ingest, embed, eval", say("evicts nothing", "n'évince rien")),
        kind="cache",
    )
    where = bucket(site) if site.infra.blobs == "s3" else say("shared volume", "volume partagé")
    yield Box(id="blobs", title=say("Original files", "Fichiers originaux"), notes=(where,), kind="store")
    if (snapshot := site.env.snapshot) is not None:
        kept = say(
            f"daily after {snapshot.hour}:00, {snapshot.keep_days} days, {snapshot.keep_months} months",
            f"chaque jour après {snapshot.hour} h, {snapshot.keep_days} jours, {snapshot.keep_months} mois",
        )
        yield Box(id="snapshots", title="Snapshots", notes=(snapshot.place, kept), kind="store")


def _models(env: Env, words: Wording) -> Iterator[Box]:
    """One box for each server, with what it does for us."""
    say = words.say
    uses = (
        (env.llm, say("writes", "rédige")),
        (env.compact, say("writes when costs rise", "rédige quand le coût monte")),
        (env.fallback, say("writes when the first is away", "rédige en secours")),
        (env.embedder, say("embeds", "vectorise")),
        (env.reranker if env.rerank else None, say("reranks", "reclasse")),
    )
    servers: dict[str, list[str]] = defaultdict(list)
    for model, what in uses:
        if model is not None and model.provider != "local":
            servers[address(model) if model.provider == "custom" else model.provider].append(f"{model.model}: {what}")
    for n, (server, notes) in enumerate(servers.items()):
        yield Box(id=f"model{n}", title=server, notes=tuple(notes), kind="model")


def _watch(site: Site, words: Wording) -> Iterator[Box]:
    say = words.say
    days = site.alerts.retention_days
    yield Box(
        id="prometheus",
        title="Prometheus, Grafana",
        notes=(say(f"{days} days of measurements", f"{days} jours de mesures"),),
        kind="watch",
    )
    told = sorted(site.alerts.receivers)
    shown = [*told[:5], *([say(f"and {len(told) - 5} more", f"et {len(told) - 5} autres")] if len(told) > 5 else [])]
    yield Box(
        id="alertmanager",
        title="Alertmanager",
        notes=(
            say("tells: ", "prévient : ") + ", ".join(shown)
            if told
            else say("tells nobody yet", "ne prévient encore personne"),
        ),
        kind="watch",
    )
    share = words.percent(site.env.trace_sampling)
    yield Box(
        id="collector",
        title=say("OTel collector", "Collecteur OTel"),
        notes=(say(f"{share} of the traces", f"{share} des traces"),),
        kind="watch",
    )


def _lines(site: Site, edge: tuple[str, ...], data: tuple[str, ...], models: list[Box]) -> Iterator[Line]:
    env = site.env
    yield Line(source="clients", target="gateway", label="HTTPS")
    yield Line(source="gateway", target="api")
    if "sources" in edge:
        yield Line(source="sources", target="batch")
    yield from (Line(source="api", target=one) for one in data if one not in {"replica", "snapshots"})
    if models:
        yield Line(source="api", target="models")
    yield from (Line(source="batch", target=one) for one in data if one not in {"replica", "snapshots"})
    if env.embedder.provider != "local" and models:
        yield Line(source="batch", target="models")
    yield from (Line(source="keepers", target=one) for one in data if one in {"postgres", "redis_cache", "blobs", "snapshots"})
    if "replica" in data:
        yield Line(source="postgres", target="replica", dashed=True)
    yield Line(source="place", target="watching", dashed=True)
    yield Line(source="prometheus", target="alertmanager", dashed=True)
