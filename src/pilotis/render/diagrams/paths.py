"""The roads of a question, of a document and of a release, with the figures of the contract's main env."""

from __future__ import annotations

from pilotis.contract.model import EXTRACTIVE
from pilotis.derive.budget import MICRO
from pilotis.derive.cost import ceiling
from pilotis.derive.plan import Env
from pilotis.render.diagrams.graph import Graph
from pilotis.render.diagrams.road import LEFT, RIGHT, Road
from pilotis.render.files import Scene
from pilotis.render.wording import Wording

STORES = {"pgvector": "Postgres + pgvector", "opensearch": "OpenSearch", "weaviate": "Weaviate"}


def online(scene: Scene, words: Wording) -> Graph:
    site, road = scene.main, Road(words)
    env = site.env
    road.step("request", "A question comes in | Une question arrive", "POST /v1/ask", site.host, kind="person")
    busy = words.number(env.in_flight)
    road.step(
        "read",
        "Read | Lire",
        "the key says which business unit | la clé dit de quelle unité métier",
        f"≤ {busy} under way in a process | ≤ {busy} en cours par processus",
    )
    most = ceiling(env, scene.plan).micro
    held = words.eur(most / MICRO)
    hold = f"holds its ceiling, {held} | réserve son plafond, {held}" if most else "costs nothing | ne coûte rien"
    road.step("admit", "Admit | Admettre", "rates, budgets, guardrail | débits, budgets, garde-fou", hold)
    codes = ("429 rate · 402 budget | 429 débit · 402 budget", "503 guardrail | 503 garde-fou")
    road.right("refuse", "Refused | Refusée", *codes, kind="stop", dashed=True)
    if env.cache_ttl_s:
        kept = words.span(env.cache_ttl_s)
        road.step("cached", "Answered before? | Déjà répondue ?", f"kept for {kept} | gardée {kept}")
        road.right("again", "The same answer | La même réponse", "costs 0 € | coûte 0 €", kind="step", label="yes | oui")
    road.step("embed", "Embed the question | Vectoriser la question")
    road.model("embedder", env.embedder)
    how = "vectors and words together | vecteurs et mots ensemble" if env.hybrid else "by vectors | par vecteurs"
    road.step("search", "Search | Chercher", f"{env.top_k} passages", how)
    only = "of this business unit alone | de cette unité métier seule"
    road.right("index", STORES[site.infra.vector], only, kind="store")
    if env.rerank and env.reranker:
        road.step("rerank", "Rerank | Reclasser")
        road.model("reranker", env.reranker)
    _write(road, env)
    road.step("cite", "Cite | Citer", "each source with its passage | chaque source avec son passage")
    road.step("settle", "Settle | Régler", "the cost replaces the hold | le coût remplace la réserve")
    booked = "every request, to the micro-euro | chaque requête, au micro-euro"
    road.right("ledger", "Ledger, in Postgres | Grand livre, dans Postgres", booked, kind="store")
    road.step("answer", "Answer | Réponse", "with sources and cost | avec sources et coût", kind="person")
    used = [step.id for step in road.steps if step.id in {"admit", "cached", "settle"}]
    road.along("redis", "Redis", "budgets, rates, | budgets, débits,", "caches", kind="cache", steps=used, side=LEFT)
    return road.graph(
        "The road of a question | Le chemin d'une question",
        f"Online plane, figures of {env.name} | Plan online, chiffres de {env.name}",
    )


def batch(scene: Scene, words: Wording) -> Graph:
    site, limits, road = scene.main, scene.plan.contract.limits, Road(words)
    env = site.env
    sources = [one.name for one in scene.plan.sources_of(env.name)]
    shown = [*sources[:4], *(["…"] if len(sources) > 4 else [])]
    ways = ("POST /v1/documents", "pilotis ingest", *([f"pilotis sync: {', '.join(shown)}"] if shown else []))
    road.step("document", "A document comes in | Un document arrive", *ways, kind="person")
    road.step("receive", "Receive | Recevoir", f"≤ {limits.max_file_mib} MiB a file | ≤ {limits.max_file_mib} Mio par fichier")
    blobs = "S3" if site.infra.blobs == "s3" else "Original files | Fichiers originaux"
    road.right("blobs", blobs, "by their SHA-256, once | sous leur SHA-256, une fois", kind="store")
    memory, time = limits.parse_memory_mib, words.span(limits.parse_timeout_s)
    child = f"in a child: {time}, {memory} MiB at most | dans un enfant : {time}, {memory} Mio au plus"
    road.step("parse", "Parse | Lire le fichier", "worker-ingest", child, kind="process")
    again = ("pilotis queue list", "pilotis queue retry --all")
    road.right("failed", "Set aside, with the reason | Mis de côté, avec la raison", *again, kind="stop", dashed=True)
    tokens, twice = env.passage_tokens, env.passage_overlap
    cut = [f"passages of {tokens} tokens | passages de {tokens} jetons"]
    road.step("cut", "Cut | Découper", *cut, *([f"{twice} repeated | {twice} répétés"] if twice else []))
    at_once = f"{env.batch_emb} passages at once | {env.batch_emb} passages à la fois"
    road.step("embed", "Embed | Vectoriser", "worker-embed", at_once, kind="process")
    road.model("embedder", env.embedder)
    road.step("publish", "Publish | Publier", "all passages in one transaction | tous les passages en une transaction")
    road.right("index", "Postgres", "documents, passages, ledger | documents, passages, grand livre", kind="store")
    road.step("found", "Found by questions | Trouvé par les questions", kind="person")
    woken = ("a message only wakes | un message ne fait que", "a worker: what waits | réveiller : ce qui attend")
    steps = ["receive", "parse", "embed"]
    there = "stands in Postgres | est dans Postgres"
    road.along("broker", "Redis, queues | Redis, files", *woken, there, kind="cache", steps=steps, side=LEFT)
    return road.graph(
        "The road of a document | Le chemin d'un document",
        f"Batch plane, figures of {env.name} | Plan batch, chiffres de {env.name}",
    )


def release(scene: Scene, words: Wording) -> Graph:
    contract, main, road = scene.plan.contract, scene.main, Road(words)
    road.step("commit", "A commit, a contract | Un commit, un contrat", "pilotis contract check", kind="person")
    image = "one image, named by its digest | une image, nommée par son empreinte"
    road.step("build", "Build and scan | Construire et analyser", image, contract.infra.image)
    before = [name for name in scene.sites if name != main.env.name]
    if before:
        last = scene.sites[before[-1]]
        road.step("staging", f"Deploy to {last.env.name} | Déployer en {last.env.name}", last.host, kind="process")
        road.step("golden", "Smoke test and golden set | Essai et jeu de référence", *goals(scene, words))
        missed = "a figure is missed | un chiffre n'est pas tenu"
        road.right("stopped", "Not released | Pas livrée", missed, kind="stop", dashed=True)
    names = [{"sre": "SRE", "business": "business | métier"}.get(name, name) for name in contract.deploy.approvals]
    asked = words.several([words.pick(name) for name in names]) if names else "none asked for | aucune demandée"
    road.step("approve", "Approvals | Approbations", asked, kind="person")
    road.step("migrate", "Migrate | Migrer", "the version before goes on running | la version d'avant continue")
    stages = _stages(road, scene)
    kept = "the image before stays at hand | l'image d'avant reste disponible"
    road.step("released", "Released | Livrée", kept, kind="person")
    verdict = (
        *("release against | la version contre", "what runs: | celle en place :", "pass, fail, | oui, non,"),
        *("too little data, | trop peu de données,", "or no answer | ou sans réponse"),
    )
    road.along("verdict", "Verdict", *verdict, kind="watch", steps=stages, side=LEFT)
    by = "by hand | à la main" if contract.deploy.rollback_on == "never" else "by itself | automatique"
    back = ("traffic to 0 %, | trafic à 0 %,", "image N-1, | image N-1,", "flags at risk off | drapeaux à risque coupés", by)
    road.along("rollback", "Rollback | Retour arrière", *back, kind="stop", steps=stages, side=RIGHT, dashed=True)
    return road.graph(
        "The road of a release | Le chemin d'une version",
        f"{contract.name}, to {main.env.name} | {contract.name}, vers {main.env.name}",
    )


def goals(scene: Scene, words: Wording) -> list[str]:
    """What the contract's objectives ask of a release, those that are stated."""
    slo = scene.plan.contract.slo
    errors = words.percent(slo.error_rate)
    return [
        f"errors ≤ {errors} | erreurs ≤ {errors}",
        *([f"P95 ≤ {words.number(slo.p95_ms)} ms"] if slo.p95_ms else []),
        *([f"hit@5 ≥ {words.number(slo.hit_at_5)}"] if slo.hit_at_5 else []),
        *(
            [f"≤ {words.eur(slo.eur_per_req)} a request | ≤ {words.eur(slo.eur_per_req)} par requête"]
            if slo.eur_per_req
            else []
        ),
    ]


def _write(road: Road, env: Env) -> None:
    if env.llm.model == EXTRACTIVE:
        road.step("write", "Choose sentences | Choisir des phrases", "word for word | mot pour mot")
        return
    words = road.words
    read, written, first, all_of_it = (
        *(words.number(env.tok_in_max), words.number(env.tok_out_max)),
        *(words.span(env.first_byte_s), words.span(env.total_s)),
    )
    road.step(
        "write",
        "Write, streamed | Rédiger, en flux" if env.streaming else "Write | Rédiger",
        f"≤ {read} tokens in, {written} out | ≤ {read} jetons lus, {written} écrits",
        f"first byte within {first} | premier octet sous {first}",
        f"all of it within {all_of_it} | le tout sous {all_of_it}",
    )
    away = [f"if away: {env.fallback.model} | en secours : {env.fallback.model}"] if env.fallback else []
    road.model("writer", env.llm, *away)


def _stages(road: Road, scene: Scene) -> list[str]:
    deploy, main, words = scene.plan.contract.deploy, scene.main, road.words
    sample, longest = words.number(deploy.min_sample), words.span(deploy.max_hold_s)
    enough = f"≥ {sample} requests, ≤ {longest} | ≥ {sample} requêtes, ≤ {longest}"
    if deploy.strategy == "canary":
        return [
            road.step(
                f"stage{share}",
                f"{share} % of {main.env.name} | {share} % de {main.env.name}",
                main.host if share == 100 else enough,
                kind="process",
            )
            for share in deploy.stages
        ]
    return [
        road.step("green", "Green beside blue | Vert à côté de bleu", "no traffic yet | encore sans trafic", kind="process"),
        road.step("switch", "Switch | Basculer", main.host, enough, kind="process"),
    ]
