"""What the API serves with: the ports, and what only a process that runs all day needs, a change of index included."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotis import wiring
from pilotis.wiring import Settings

if TYPE_CHECKING:
    from pilotis.adapters.prometheus import PrometheusMeter
    from pilotis.derive.plan import Env, Plan
    from pilotis.embedded import Addresses
    from pilotis.ports import Deps, Embedder, Meter
    from pilotis.ports.trace import Tracer

ABANDONED_S = 6 * 3600.0
YES = frozenset({"1", "true", "yes", "on"})

Probe = Callable[[], Awaitable[object]]
"""Returns where a part of the service answers, and raises where it does not."""


async def _never() -> None:
    """Nothing changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the API serves with: the ports, and what only a long-running process needs."""

    plan: Plan
    env: Env
    """On the index that is searched."""
    deps: Deps
    probes: Mapping[str, Probe]
    """Postgres, Redis and a model of this process, by the name that `/readyz` shows."""
    exposition: Callable[[], bytes]
    """The metrics in Prometheus' text format."""
    spool: Path
    """Where uploads are received before they are stored."""
    switched: Callable[[], Awaitable[Service | None]] = _never
    """The same service on another index, once that one is searched; None while nothing has changed."""
    tracer: Tracer | None = None
    """None where no collector of traces is named."""


@asynccontextmanager
async def open_service(given: Settings, plan: Plan, env: Env, *, addresses: Addresses) -> AsyncIterator[Service]:
    """`open_deps` with what the API needs besides: its measures, and the loops that keep the books."""
    from pilotis.adapters import prometheus

    meter: PrometheusMeter = prometheus.PrometheusMeter(plan, env)
    spool = wiring.data_folder(given, plan, env) / "spool"
    spool.mkdir(parents=True, exist_ok=True)
    clear_spool(spool)
    async with (
        wiring.open_deps(given, plan, env, addresses=addresses, meter=meter, connections=env.pool_min) as deps,
        AsyncExitStack() as opened,
    ):
        agreed, env = env, wiring.in_force(env, deps.generation)
        meter.gauge("rag_process_info", 1, instance=deps.instance)
        ages = _ages(given, plan, env, meter)
        async with _running(*_loops(deps, env, meter), ages), _tracing(given, plan, env, deps) as tracer:
            first = Service(
                plan=plan,
                env=env,
                deps=_traced(deps, env, tracer),
                probes=probes(deps, env, addresses),
                exposition=meter.exposition,
                spool=spool,
                tracer=tracer,
            )
            following = _Following(first, deps, agreed, given=given, addresses=addresses, opened=opened)
            yield replace(first, switched=following.next)


class _Following:
    """The service on whichever index is searched. Requests under way keep what they began with."""

    def __init__(
        self, service: Service, deps: Deps, agreed: Env, *, given: Settings, addresses: Addresses, opened: AsyncExitStack
    ) -> None:
        self._service, self._deps, self._agreed = service, deps, agreed
        self._given, self._addresses, self._opened = given, addresses, opened

    async def next(self) -> Service | None:
        active = await self._deps.generations.active()
        if active.id == self._deps.generation.id:
            return None
        before, env = self._service.env, wiring.in_force(self._agreed, active)
        embedder = self._deps.embedder
        if env.embedder != before.embedder:
            asyncio.get_running_loop().call_later(before.total_s, _close_soon, embedder)
            embedder = await wiring.open_embedder(env, self._given, self._deps.meter)
            self._opened.push_async_callback(embedder.close)
        # The contract that asked for this index names the price of its model; all else of it waits for the next start.
        agreed, _ = wiring.load_plan(self._given)
        passages, documents = self._deps.generations.index(active)
        self._deps = replace(self._deps, embedder=embedder, generation=active, passages=passages, documents=documents)
        self._service = replace(
            self._service,
            plan=replace(self._service.plan, book=agreed.book, fx=agreed.fx),
            env=env,
            deps=_traced(self._deps, env, self._service.tracer),
            probes=probes(self._deps, env, self._addresses),
            switched=self.next,
        )
        return self._service


def _close_soon(embedder: Embedder) -> None:
    _CLOSING.add(task := asyncio.ensure_future(embedder.close()))
    task.add_done_callback(_CLOSING.discard)


_CLOSING: set[asyncio.Future[None]] = set()
"""Held until they have ended, as asyncio asks."""


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


def _ages(given: Settings, plan: Plan, env: Env, meter: Meter) -> Coroutine[Any, Any, None]:
    from pilotis.control import secrets
    from pilotis.derive import workload

    return secrets.watch(partial(wiring.open_secrets, given, plan, env), workload.secrets(env), meter)


@asynccontextmanager
async def _tracing(given: Settings, plan: Plan, env: Env, deps: Deps) -> AsyncIterator[Tracer | None]:
    """With a tracer where a collector is named (OTEL_EXPORTER_OTLP_ENDPOINT); else OpenTelemetry's exporter is not even imported."""
    endpoint = given.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not endpoint:
        yield None
        return
    from pilotis.adapters import otel

    with_content = given.environ.get("PILOTIS_TRACE_CONTENT", "").lower() in YES
    tracer = otel.OtelTracer(plan, env, endpoint=endpoint, instance=deps.instance, with_content=with_content)
    try:
        yield tracer
    finally:
        await tracer.close()


def _traced(deps: Deps, env: Env, tracer: Tracer | None) -> Deps:
    if tracer is None:
        return deps
    from pilotis.adapters import traced

    return traced.traced(deps, env)


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
    if addresses.queues_url != addresses.redis_url:
        found["broker"] = lambda: celery.ping(addresses.queues_url)
    if env.embedder.provider == "local":
        found["model"] = lambda: deps.embedder.embed(["ready"])
    return found


def clear_spool(spool: Path) -> None:
    """Remove uploads whose process was killed: none lasts for so long."""
    for left in spool.iterdir():
        with suppress(FileNotFoundError):  # another process tidies too
            if time.time() - left.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(left, ignore_errors=True)
