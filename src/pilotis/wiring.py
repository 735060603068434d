"""From the environment to one of each: the only reader of `os.environ`, and the closer of whatever it opened."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pilotis.errors import SetupError

if TYPE_CHECKING:
    from pilotis.adapters.postgres import Schema
    from pilotis.adapters.prometheus import PrometheusMeter
    from pilotis.derive.plan import Embedding, Env, Llm, Plan
    from pilotis.embedded import Addresses
    from pilotis.ports import Deps, Embedder, Generator, Meter, Reranker

DEFAULT_ENV = "dev"
ABANDONED_S = 6 * 3600.0

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
    """The contract's plan and the env this process runs as. Raises ContractError."""
    from pilotis.contract import load
    from pilotis.derive import plan

    derived = plan.derive(load.load(given.contract) if given.contract else load.default())
    return derived, derived.env(given.env)


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
) -> AsyncIterator[Deps]:
    """Open one of each, with that many connections to begin with; close all in reverse order, also where opening the next failed.

    `batch` is for workers: the model then shares the cores instead of answering as fast as it can.

    Raises SetupError for an unknown schema or embedding dimension and for a key that is missing; Transient where a server is away.
    """
    from pilotis.adapters import blobs, celery, kreuzberg, postgres, prometheus
    from pilotis.ports import Deps

    folder = data_folder(given, plan, env)
    async with AsyncExitStack() as opened:
        embedder = await asyncio.to_thread(_embedder, given, env, batch=batch)
        opened.push_async_callback(embedder.close)
        generator = _generator(given, env, embedder)
        if generator:
            opened.push_async_callback(generator.close)
        reranker = _reranker(given, env)
        if reranker:
            opened.push_async_callback(reranker.close)
        pool = await postgres.open_pool(addresses.database_url, min_size=connections, max_size=env.pool_max)
        opened.push_async_callback(pool.close)
        await postgres.check_schema(pool)
        generation = await postgres.open_generation(pool, embedder)
        parser = kreuzberg.KreuzbergParser(timeout_s=env.parse_timeout_s, memory_bytes=env.parse_memory_bytes)
        opened.push_async_callback(parser.close)
        queue = celery.CeleryQueue(addresses.redis_url, namespace=namespace(plan, env))
        opened.push_async_callback(queue.close)
        yield Deps(
            embedder=embedder,
            generator=generator,
            reranker=reranker,
            blobs=blobs.FolderBlobs(folder / "blobs"),
            parser=parser,
            passages=postgres.PostgresPassages(pool, generation, languages=env.languages),
            documents=postgres.PostgresDocuments(pool, generation),
            keys=postgres.PostgresKeys(pool),
            ledger=postgres.PostgresLedger(pool),
            queue=queue,
            meter=meter or prometheus.PrometheusMeter(plan, env),
        )


@asynccontextmanager
async def open_service(given: Settings, plan: Plan, env: Env, *, addresses: Addresses) -> AsyncIterator[Service]:
    """`open_deps` with what the API needs besides."""
    from pilotis.adapters import prometheus

    meter: PrometheusMeter = prometheus.PrometheusMeter(plan, env)
    spool = data_folder(given, plan, env) / "spool"
    spool.mkdir(parents=True, exist_ok=True)
    clear_spool(spool)
    async with open_deps(given, plan, env, addresses=addresses, meter=meter, connections=env.pool_min) as deps:
        yield Service(
            deps=deps,
            probes=probes(deps, env, addresses),
            exposition=meter.exposition,
            spool=spool,
        )


def probes(deps: Deps, env: Env, addresses: Addresses) -> Mapping[str, Probe]:
    """What `/readyz` asks. It takes no key and is asked every few seconds: a remote model, which is paid, is not asked."""
    from pilotis.adapters import celery

    found: dict[str, Probe] = {"postgres": deps.documents.waiting, "redis": lambda: celery.ping(addresses.redis_url)}
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


def _embedder(given: Settings, env: Env, *, batch: bool) -> Embedder:
    wanted = env.embedder
    if wanted.provider == "local":
        # ONNX Runtime would otherwise open a telemetry database in the user's cache folder as it is imported.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        from pilotis.adapters.onnx import OnnxEmbedder

        return OnnxEmbedder(model_cache(), min(2, os.cpu_count() or 1), spin=not batch)
    from pilotis.adapters.openai import OpenAIEmbedder

    return OpenAIEmbedder(
        model=wanted.model,
        dimension=wanted.dimension,
        base_url=wanted.base_url,
        key=_key(given, wanted),
        key_env=wanted.key_env,
    )


def _generator(given: Settings, env: Env, embedder: Embedder) -> Generator | None:
    llm = env.llm
    if llm.provider == "local":
        return None
    from pilotis.adapters.openai import OpenAIGenerator

    return OpenAIGenerator(
        model=llm.model,
        provider=llm.provider,
        base_url=llm.base_url,
        key=_key(given, llm),
        key_env=llm.key_env,
        first_byte_s=env.first_byte_s,
        total_s=env.total_s,
        count_tokens=embedder.count_tokens,
    )


def _reranker(given: Settings, env: Env) -> Reranker | None:
    model = env.reranker
    if not env.rerank or model is None:
        return None
    from pilotis.adapters.rerank import HttpReranker

    return HttpReranker(model=model.model, base_url=model.base_url, key=_key(given, model), key_env=model.key_env)


def _key(given: Settings, model: Llm | Embedding) -> str | None:
    if model.key_env is None:
        return None
    key = given.environ.get(model.key_env, "").strip()
    if not key:
        raise SetupError(
            f"{model.model} needs a key, and {model.key_env} is not set in the environment",
            remedy=f"export {model.key_env}=YOUR-KEY",
        )
    return key


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
