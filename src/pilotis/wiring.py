"""From the environment to one of each: the only reader of `os.environ`, and the closer of whatever it opened."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from pilotis.errors import SetupError

if TYPE_CHECKING:
    from pilotis.adapters.postgres import Schema
    from pilotis.adapters.redis import RedisMoney
    from pilotis.derive.plan import Env, Plan
    from pilotis.embedded import Addresses
    from pilotis.ports import Blobs, Deps, Embedder, Generation, Generator, Meter, Reranker
    from pilotis.ports.secrets import Secrets

DEFAULT_ENV = "dev"
MOST_HOPS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a process was told: by its options first, then by its environment. Secrets stay out of the repr."""

    contract: Path | None
    """None takes the built-in contract."""
    env: str
    data: Path | None
    """None takes the user's data folder; see `data_folder`."""
    database_url: str | None = field(default=None, repr=False)
    redis_url: str | None = field(default=None, repr=False)
    broker_url: str | None = field(default=None, repr=False)
    """The Redis of the queues; None takes `redis_url`."""
    blobs: str | None = None
    """Where the original files are: a folder, or s3://bucket/prefix. None takes the data folder."""
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Where keys of models are looked up, under the names the contract gives."""
    fetched: frozenset[str] = frozenset()
    """Which of them came from where the contract keeps its secrets. Children fetch them by themselves."""

    @property
    def is_embedded(self) -> bool:
        """Whether Postgres and Redis are ours to start."""
        return self.database_url is None


def settings(
    *,
    contract: Path | None = None,
    env: str | None = None,
    data: Path | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """Complete the options by the environment.

    Secrets that it lacks are fetched from where the contract keeps them. Raises ContractError where `folder` (the current one) holds two
    contracts; SetupError where only some of the servers' addresses are given, or secrets cannot be had; Transient where their keeper is
    away. What is wrong in the contract itself is for `load_plan` to say.
    """
    from pilotis.contract import load

    environ = os.environ if environ is None else environ
    path, env = load.find(folder or Path.cwd(), contract, environ), env or environ.get("PILOTIS_ENV") or DEFAULT_ENV
    fetched = _fetched(path, env, environ)
    environ = {**environ, **fetched} if fetched else environ
    database_url, redis_url, broker_url = (environ.get(f"PILOTIS_{of}_URL") or None for of in ("DATABASE", "REDIS", "BROKER"))
    _require_both(database_url, redis_url, broker_url)
    return Settings(
        contract=path,
        env=env,
        data=data or _path(environ.get("PILOTIS_DATA")),
        database_url=database_url,
        redis_url=redis_url,
        broker_url=broker_url,
        blobs=environ.get("PILOTIS_BLOBS") or None,
        environ=environ,
        fetched=frozenset(fetched),
    )


def open_secrets(given: Settings, plan: Plan, env: Env) -> Secrets:
    """Who keeps the secrets of this env. Connects to nothing. Raises SetupError."""
    from pilotis.adapters import secrets

    return secrets.open_secrets(plan.contract, env.name, given.environ, base=_base(given.contract))


def _fetched(path: Path | None, env: str, environ: Mapping[str, str]) -> dict[str, str]:
    from pilotis.contract import load
    from pilotis.errors import ContractError

    if path is None:
        return {}
    try:
        contract = load.load(path)
    except ContractError:
        return {}
    from pilotis.adapters import secrets

    return secrets.complete(contract, env, environ, base=_base(path))


def _base(contract: Path | None) -> Path:
    """Where relative paths of a contract begin."""
    return contract.absolute().parent if contract else Path.cwd()


def _require_both(database_url: str | None, redis_url: str | None, broker_url: str | None) -> None:
    told = {"DATABASE": database_url, "REDIS": redis_url, "BROKER": broker_url}
    given = [name for name, url in told.items() if url]
    missing = [name for name in ("DATABASE", "REDIS") if not told[name]]
    if given and missing:
        raise SetupError(
            f"PILOTIS_{given[0]}_URL is set and PILOTIS_{missing[0]}_URL is not",
            remedy="set PILOTIS_DATABASE_URL and PILOTIS_REDIS_URL to use your servers, or none of them to use the embedded ones",
        )


def load_plan(given: Settings) -> tuple[Plan, Env]:
    """The contract's plan and the env this process runs as. Raises ContractError, and SetupError for a number that is none.

    PILOTIS_TRUSTED_HOPS comes before the contract: how many proxies stand before a process is known where it is started.
    """
    from pilotis.contract import load
    from pilotis.derive import plan

    derived = plan.derive(load.load(given.contract) if given.contract else load.default())
    env = derived.env(given.env)
    told = given.environ.get("PILOTIS_TRUSTED_HOPS", "").strip()
    if not told:
        return derived, env
    if not told.isdecimal() or int(told) > MOST_HOPS:
        raise SetupError(
            f"PILOTIS_TRUSTED_HOPS is {told!r}", remedy=f"set how many proxies write X-Forwarded-For, 0 to {MOST_HOPS}"
        )
    return derived, replace(env, trusted_hops=int(told))


def data_folder(given: Settings, plan: Plan, env: Env) -> Path:
    """The folder of this contract and env, absolute; it need not exist."""
    if given.data:
        return given.data.expanduser().absolute()
    import platformdirs

    return platformdirs.user_data_path("pilotis") / plan.contract.name / env.name


def model_cache() -> Path:
    """Where local models are unpacked, once for all contracts."""
    import platformdirs

    return platformdirs.user_cache_path("pilotis") / "models"


def namespace(plan: Plan, env: Env) -> str:
    """What this contract and env put before their keys, so that several may share one Redis."""
    return f"pilotis:{plan.contract.name}:{env.name}"


@contextmanager
def stack(given: Settings, plan: Plan, env: Env, *, prepare: bool = True) -> Iterator[Addresses]:
    """The servers: yours where their addresses are set, else the embedded ones, which end with this block.

    A data folder that is brand-new gets its schema at once, unless `prepare` is false; an older one is refused by `open_deps`.
    """
    from pilotis import embedded

    if given.database_url and given.redis_url:
        yield embedded.Addresses(database_url=given.database_url, redis_url=given.redis_url, broker_url=given.broker_url)
        return
    with embedded.running(data_folder(given, plan, env)) as addresses:
        if prepare:
            asyncio.run(_found(addresses.database_url))
        yield addresses


async def migrate(addresses: Addresses, *, check: bool) -> Schema:
    """Bring the schema to this version, or only look; returns where it stood. Raises SetupError for one that is newer."""
    from pilotis.adapters import postgres

    return await postgres.migrate(addresses.database_url, check=check)


def child_environ(given: Settings, plan: Plan, env: Env, addresses: Addresses) -> dict[str, str]:
    """The environment of a process that shall see what this one sees."""
    told = {
        "PILOTIS_ENV": env.name,
        "PILOTIS_DATA": str(data_folder(given, plan, env)),
        "PILOTIS_DATABASE_URL": addresses.database_url,
        "PILOTIS_REDIS_URL": addresses.redis_url,
        "PILOTIS_BLOBS": _blobs_place(given, plan, env),
    }
    if addresses.broker_url:
        told["PILOTIS_BROKER_URL"] = addresses.broker_url
    if given.contract:
        told["PILOTIS_CONTRACT"] = str(given.contract.absolute())
    return {name: value for name, value in {**given.environ, **told}.items() if name not in given.fetched}


@asynccontextmanager
async def open_deps(
    given: Settings,
    plan: Plan,
    env: Env,
    *,
    addresses: Addresses,
    meter: Meter | None = None,
    connections: int = 1,
    batch: bool = False,
    asks: bool = True,
    embeds: bool = True,
) -> AsyncIterator[Deps]:
    """Open one of each, with that many connections to begin with; close all in reverse order, also where opening the next failed.

    `batch` is for workers: the model then shares the cores. Who never `asks` needs no keys of models
    that answer; who never `embeds` loads no embedding model.
    Raises SetupError for an unknown schema or embedding dimension and for a key that is missing; Transient where a server is away.
    """
    from pilotis.adapters import celery, keyring, kreuzberg, postgres, prometheus, redis
    from pilotis.adapters import models as models_of
    from pilotis.derive import site

    name, instance, meter = namespace(plan, env), uuid4().hex[:16], meter or prometheus.PrometheusMeter(plan, env)
    # ONNX Runtime would otherwise open a telemetry database in the user's cache folder as it is imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    models_of.require_keys(env, given.environ, asks=asks, embeds=embeds, kept=site.kept(plan.contract, env.name))
    stored = open_blobs(given, plan, env)
    async with AsyncExitStack() as opened:
        sizes = {"min_size": connections, "max_size": env.pool_max}
        database = await postgres.open_database(addresses.database_url, env, **sizes)
        _close(opened, database[0])
        env = in_force(env, database[1])
        models = await models_of.open_models(
            env, given.environ, meter, cache=model_cache(), batch=batch, asks=asks, embeds=embeds
        )
        _close(opened, *models_of.closing(models))
        parser = kreuzberg.open_parser(env, given.environ)
        queue = celery.CeleryQueue(addresses.queues_url, namespace=name)
        keys = keyring.CachedKeys(postgres.PostgresKeys(database[0]), addresses.redis_url, namespace=name)
        money = redis.RedisMoney(addresses.redis_url, env=env, namespace=name, instance=instance)
        _close(opened, parser, queue, keys, money)
        yield _assembled(
            env, models, database, money, blobs=stored, parser=parser, keys=keys, queue=queue, meter=meter, instance=instance
        )


def _assembled(
    env: Env,
    models: tuple[Embedder, Mapping[str, Generator], Reranker | None],
    database: tuple[Any, Generation],
    money: RedisMoney,
    **others: Any,
) -> Deps:
    from pilotis.adapters import postgres
    from pilotis.ports import Deps

    pool, generation = database
    generations = postgres.PostgresGenerations(pool, languages=env.languages)
    passages, documents = generations.index(generation)
    return Deps(
        embedder=models[0],
        generators=models[1],
        reranker=models[2],
        generation=generation,
        generations=generations,
        passages=passages,
        documents=documents,
        backlog=postgres.PostgresBacklog(pool),
        source_items=postgres.PostgresSourceItems(pool),
        ledger=postgres.PostgresLedger(pool, env=env.name, zone=env.timezone),
        guards=postgres.PostgresGuards(pool, env=env.name, tell=money.announce, know=money.admission.know),
        releases=postgres.PostgresReleases(pool, env=env.name),
        splits=postgres.PostgresSplits(pool, env=env.name),
        measures=postgres.PostgresMeasures(pool, env=env.name),
        evaluations=postgres.PostgresEvaluations(pool, env=env.name),
        feedback=postgres.PostgresFeedback(pool, env=env.name),
        admission=money.admission,
        cache=money.cache,
        outbox=money.outbox,
        pace=money.pace,
        **others,
    )


def open_blobs(given: Settings, plan: Plan, env: Env) -> Blobs:
    """Where the original files are: as PILOTIS_BLOBS says, else in the data folder. Connects to nothing.

    Raises SetupError where the contract wants a bucket and servers of your own are used without one: files in the folder of one
    machine, or of a pod, would be lost to the others.
    """
    from pilotis.adapters import blobs

    return blobs.open_blobs(_blobs_place(given, plan, env), endpoint=given.environ.get("PILOTIS_BLOBS_ENDPOINT") or None)


def _blobs_place(given: Settings, plan: Plan, env: Env) -> str:
    if given.blobs is None and plan.contract.infra.blobs == "s3" and not given.is_embedded:
        raise SetupError('infra.blobs is "s3" and PILOTIS_BLOBS is not set', remedy="export PILOTIS_BLOBS=s3://BUCKET/PREFIX")
    return given.blobs or str(data_folder(given, plan, env) / "blobs")


async def open_embedder(env: Env, given: Settings, meter: Meter) -> Embedder:
    """The embedding model of an env, for whoever questions."""
    from pilotis.adapters import models as models_of

    models = await models_of.open_models(env, given.environ, meter, cache=model_cache(), batch=False, asks=False, embeds=True)
    return models[0]


def in_force(env: Env, generation: Generation) -> Env:
    """The env with the embedder and the passages of the index that is searched, whatever the contract asks for by now."""
    from pilotis.derive import plan

    return plan.on(
        env,
        generation.embedder,
        passage_tokens=generation.passage_tokens,
        passage_overlap=generation.passage_overlap,
    )


class _Closing(Protocol):
    async def close(self) -> None: ...


def _close(opened: AsyncExitStack, *parts: _Closing) -> None:
    for part in parts:
        opened.push_async_callback(part.close)


@asynccontextmanager
async def booked(deps: Deps, env: Env) -> AsyncIterator[None]:
    """For a program that ends: what could cost something waits until budgets can be kept, and in the end all is in the ledger."""
    from pilotis.errors import Transient
    from pilotis.online import booking

    if deps.generators:
        announce = deps.guards.announce
        await booking.open_books(deps.outbox, deps.ledger, instance=deps.instance, zone=env.timezone, announce=announce)
    yield
    with suppress(Transient):  # it is in the outbox: whoever comes next brings it to the ledger
        await booking.book_all(deps.outbox, deps.ledger)


def start_logs(process: str, *, form: str = "json", environ: Mapping[str, str] | None = None) -> None:
    """The log of this process, as PILOTIS_LOG (json, text) and PILOTIS_LOG_LEVEL say. Raises SetupError where they make no sense."""
    from pilotis.adapters import logs

    environ = os.environ if environ is None else environ
    logs.start(form=environ.get("PILOTIS_LOG") or form, level=environ.get("PILOTIS_LOG_LEVEL") or "info", process=process)


async def _found(database_url: str) -> None:
    from pilotis.adapters import postgres

    if (await postgres.schema(database_url)).current is None:
        await postgres.migrate(database_url)


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
