"""From the environment to one of each: the only reader of `os.environ`, and the closer of whatever it opened."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from pilotis.errors import SetupError

if TYPE_CHECKING:
    from pilotis.adapters.postgres import Schema
    from pilotis.adapters.prometheus import PrometheusMeter
    from pilotis.derive.plan import Env, Plan
    from pilotis.embedded import Addresses
    from pilotis.ports import Deps, Embedder, Generator, Meter, Reranker
    from pilotis.ports.trace import Tracer

DEFAULT_ENV = "dev"
ABANDONED_S = 6 * 3600.0
YES = frozenset({"1", "true", "yes", "on"})
MOST_HOPS = 10

Probe = Callable[[], Awaitable[object]]
"""Returns where a part of the service answers, and raises where it does not."""


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
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Where keys of models are looked up, under the names the contract gives."""

    @property
    def is_embedded(self) -> bool:
        """Whether Postgres and Redis are ours to start."""
        return self.database_url is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the API serves with: the ports, and what only a long-running process needs."""

    deps: Deps
    probes: Mapping[str, Probe]
    """Postgres, Redis and a model of this process, by the name that `/readyz` shows."""
    exposition: Callable[[], bytes]
    """The metrics in Prometheus' text format."""
    spool: Path
    """Where uploads are received before they are stored."""
    tracer: Tracer | None = None
    """None where no collector of traces is named."""


def settings(
    *,
    contract: Path | None = None,
    env: str | None = None,
    data: Path | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """Complete the options by the environment.

    Raises ContractError where `folder` (the current one) holds two contracts; SetupError where only one of the two server
    addresses is given.
    """
    from pilotis.contract import load

    environ = os.environ if environ is None else environ
    database_url = environ.get("PILOTIS_DATABASE_URL") or None
    redis_url = environ.get("PILOTIS_REDIS_URL") or None
    if (database_url is None) != (redis_url is None):
        given, missing = ("DATABASE", "REDIS") if database_url else ("REDIS", "DATABASE")
        raise SetupError(
            f"PILOTIS_{given}_URL is set and PILOTIS_{missing}_URL is not",
            remedy="set both to use your servers, or neither to use the embedded ones",
        )
    return Settings(
        contract=load.find(folder or Path.cwd(), contract, environ),
        env=env or environ.get("PILOTIS_ENV") or DEFAULT_ENV,
        data=data or _path(environ.get("PILOTIS_DATA")),
        database_url=database_url,
        redis_url=redis_url,
        environ=environ,
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
        yield embedded.Addresses(database_url=given.database_url, redis_url=given.redis_url)
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
    }
    if given.contract:
        told["PILOTIS_CONTRACT"] = str(given.contract.absolute())
    return {**given.environ, **told}


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
) -> AsyncIterator[Deps]:
    """Open one of each, with that many connections to begin with; close all in reverse order, also where opening the next failed.

    `batch` is for workers: the model then shares the cores. Who never `asks` needs no keys of models that answer.
    Raises SetupError for an unknown schema or embedding dimension and for a key that is missing; Transient where a server is away.
    """
    from pilotis.adapters import blobs, celery, keyring, kreuzberg, postgres, prometheus, redis
    from pilotis.ports import Deps

    folder, instance, name = data_folder(given, plan, env), uuid4().hex[:16], namespace(plan, env)
    meter = meter or prometheus.PrometheusMeter(plan, env)
    async with AsyncExitStack() as opened:
        embedder, generators, reranker = await _models(opened, given, env, meter, batch=batch, asks=asks)
        pool = await postgres.open_pool(addresses.database_url, min_size=connections, max_size=env.pool_max)
        _close(opened, pool)
        await postgres.check_schema(pool)
        generation = await postgres.open_generation(pool, embedder)
        parser = kreuzberg.open_parser(env, given.environ)
        queue = celery.CeleryQueue(addresses.redis_url, namespace=name)
        keys = keyring.CachedKeys(postgres.PostgresKeys(pool), addresses.redis_url, namespace=name)
        money = redis.RedisMoney(addresses.redis_url, env=env, namespace=name, instance=instance)
        _close(opened, parser, queue, keys, money)
        yield Deps(
            embedder=embedder,
            generators=generators,
            reranker=reranker,
            blobs=blobs.FolderBlobs(folder / "blobs"),
            parser=parser,
            passages=postgres.PostgresPassages(pool, generation, languages=env.languages),
            documents=postgres.PostgresDocuments(pool, generation),
            keys=keys,
            ledger=postgres.PostgresLedger(pool, env=env.name, zone=env.timezone),
            admission=money.admission,
            cache=money.cache,
            outbox=money.outbox,
            guards=postgres.PostgresGuards(pool, env=env.name, tell=money.announce),
            queue=queue,
            meter=meter,
            instance=instance,
        )


class _Closing(Protocol):
    async def close(self) -> None: ...


def _close(opened: AsyncExitStack, *parts: _Closing) -> None:
    for part in parts:
        opened.push_async_callback(part.close)


async def _models(
    opened: AsyncExitStack, given: Settings, env: Env, meter: Meter, *, batch: bool, asks: bool
) -> tuple[Embedder, Mapping[str, Generator], Reranker | None]:
    from pilotis.adapters import models

    # ONNX Runtime would otherwise open a telemetry database in the user's cache folder as it is imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

    def watch(model: str, is_open: float) -> None:
        meter.gauge("rag_breaker_open", is_open, model=model)

    cache = model_cache()
    embedder = await asyncio.to_thread(models.open_embedder, env, given.environ, cache=cache, batch=batch, watch=watch)
    _close(opened, embedder)
    generators = models.open_generators(env, given.environ, embedder, watch) if asks else {}
    reranker = models.open_reranker(env, given.environ, watch) if asks else None
    _close(opened, *generators.values(), *([reranker] if reranker else []))
    return embedder, generators, reranker


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


@asynccontextmanager
async def open_service(given: Settings, plan: Plan, env: Env, *, addresses: Addresses) -> AsyncIterator[Service]:
    """`open_deps` with what the API needs besides: its measures, and the loops that keep the books."""
    from pilotis.adapters import prometheus

    meter: PrometheusMeter = prometheus.PrometheusMeter(plan, env)
    spool = data_folder(given, plan, env) / "spool"
    spool.mkdir(parents=True, exist_ok=True)
    clear_spool(spool)
    async with open_deps(given, plan, env, addresses=addresses, meter=meter, connections=env.pool_min) as deps:
        meter.gauge("rag_process_info", 1, instance=deps.instance)
        async with _running(*_loops(deps, env, meter)), _traced(given, plan, env, deps) as (seen, tracer):
            yield Service(
                deps=seen,
                probes=probes(deps, env, addresses),
                exposition=meter.exposition,
                spool=spool,
                tracer=tracer,
            )


def _loops(deps: Deps, env: Env, meter: Meter) -> tuple[Coroutine[Any, Any, None], ...]:
    """What each API process does besides serving; of several, one leads."""
    from pilotis.batch import purge
    from pilotis.control import guardrail
    from pilotis.online import booking

    return (
        booking.keep_books(
            deps.outbox,
            deps.ledger,
            meter,
            instance=deps.instance,
            zone=env.timezone,
            announce=deps.guards.announce,
        ),
        guardrail.watch(
            deps.guards,
            meter,
            env,
            leads=lambda: deps.outbox.lead(deps.instance, ttl_s=booking.LEASE_S),
            every_s=guardrail.EVERY_S,
        ),
        purge.keep_purging(deps.documents, deps.cache),
    )


@asynccontextmanager
async def _traced(given: Settings, plan: Plan, env: Env, deps: Deps) -> AsyncIterator[tuple[Deps, Tracer | None]]:
    """With a tracer where a collector is named (OTEL_EXPORTER_OTLP_ENDPOINT); else OpenTelemetry's exporter is not even imported."""
    endpoint = given.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not endpoint:
        yield deps, None
        return
    from pilotis.adapters import otel, traced

    with_content = given.environ.get("PILOTIS_TRACE_CONTENT", "").lower() in YES
    tracer = otel.OtelTracer(plan, env, endpoint=endpoint, instance=deps.instance, with_content=with_content)
    try:
        yield traced.traced(deps, env), tracer
    finally:
        await tracer.close()


def start_logs(process: str, *, form: str = "json", environ: Mapping[str, str] | None = None) -> None:
    """The log of this process, as PILOTIS_LOG (json, text) and PILOTIS_LOG_LEVEL say. Raises SetupError where they make no sense."""
    from pilotis.adapters import logs

    environ = os.environ if environ is None else environ
    logs.start(form=environ.get("PILOTIS_LOG") or form, level=environ.get("PILOTIS_LOG_LEVEL") or "info", process=process)


@asynccontextmanager
async def _running(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run what never ends beside the block, and end it with the block."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def probes(deps: Deps, env: Env, addresses: Addresses) -> Mapping[str, Probe]:
    """What `/readyz` asks. It takes no key and is asked every few seconds: a remote model, which is paid, is not asked."""
    from pilotis.adapters import celery

    # One look-up by key: what waits is counted for `/metrics`, which is asked less often.
    found: dict[str, Probe] = {
        "postgres": lambda: deps.documents.find("", limit=1),
        "redis": lambda: celery.ping(addresses.redis_url),
    }
    if env.embedder.provider == "local":
        found["model"] = lambda: deps.embedder.embed(["ready"])
    return found


def clear_spool(spool: Path) -> None:
    """Remove uploads whose process was killed: none lasts for so long."""
    for left in spool.iterdir():
        with suppress(FileNotFoundError):  # another process tidies too
            if time.time() - left.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(left, ignore_errors=True)


async def _found(database_url: str) -> None:
    from pilotis.adapters import postgres

    if (await postgres.schema(database_url)).current is None:
        await postgres.migrate(database_url)


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
