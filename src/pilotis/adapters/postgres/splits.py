"""The split that API processes follow, what they say is in force, and what each release did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from pilotis.adapters.postgres.pool import translated
from pilotis.adapters.postgres.queries import statements
from pilotis.ports.releases import LATENCY_BOUNDS_MS, Seen, Split, Traffic

_SQL = statements("splits")


class PostgresSplits:
    """See `ports.releases.Splits`."""

    def __init__(self, pool: AsyncConnectionPool, *, env: str) -> None:
        self._pool, self._env = pool, env

    async def wanted(self) -> Split | None:
        rows = await self._rows("wanted")
        return Split(stable=rows[0][0], candidate=rows[0][1], weight=rows[0][2]) if rows else None

    async def want(self, split: Split) -> None:
        await self._run("want", **asdict(split))

    async def seen(self, *, within_s: float) -> Sequence[Seen]:
        return [_seen(*row) for row in await self._rows("seen", within_s=within_s)]

    async def report(self, seen: Seen, traffic: Mapping[str, Traffic]) -> None:
        split = asdict(seen.split or Split(stable="")) | ({} if seen.split else {"stable": None})
        word = {"instance": seen.instance, "url": seen.url, "release": seen.release, "inside": Jsonb(dict(seen.inside))}
        async with translated(), self._pool.connection() as connection, connection.transaction():
            await connection.execute(_SQL["report"], {"env": self._env, **word, **split})
            for release, done in sorted(traffic.items()):
                counted = asdict(done) | {"latency": list(done.latency), "of": release}
                await connection.execute(_SQL["count"], counted | {"env": self._env, "instance": seen.instance})

    async def examined(self, rollout: str, release: str, results: Mapping[str, bool]) -> None:
        told = {"questions": list(results), "hits": list(results.values())}
        await self._run("examined", rollout=rollout, release=release, **told)

    async def examinations(self, rollout: str) -> Mapping[str, Mapping[str, bool]]:
        found: dict[str, dict[str, bool]] = {}
        for release, question, hit in await self._rows("examinations", rollout=rollout):
            found.setdefault(release, {})[question] = hit
        return found

    async def trim(self) -> None:
        await self._run("trim")

    async def _run(self, name: str, **asked: Any) -> None:
        async with translated(), self._pool.connection() as connection:
            await connection.execute(_SQL[name], asked | {"env": self._env})

    async def _rows(self, name: str, **asked: Any) -> list[tuple[Any, ...]]:
        async with translated(), self._pool.connection() as connection:
            return await (await connection.execute(_SQL[name], asked | {"env": self._env})).fetchall()


class PostgresMeasures:
    """See `ports.releases.Measures`: the log of requests of the API processes themselves, in steps of five seconds."""

    def __init__(self, pool: AsyncConnectionPool, *, env: str) -> None:
        self._pool, self._env = pool, env

    async def traffic(self, release: str, *, since: datetime, until: datetime) -> Traffic:
        asked = {"env": self._env, "release": release, "since": since, "until": until}
        async with translated(), self._pool.connection() as connection:
            row = await (await connection.execute(_SQL["traffic"], asked)).fetchone()
        assert row is not None
        return Traffic(
            since=since,
            until=until,
            requests=row[0],
            errors=row[1],
            latency=tuple(row[2] or (0,) * (len(LATENCY_BOUNDS_MS) + 1)),
            paid=row[3],
            cost_eur=row[4],
            cost_sq=row[5],
            saturation=row[6],
        )


def _seen(*row: Any) -> Seen:
    instance, url, release, stable, candidate, weight, inside, at = row
    split = None if stable is None else Split(stable=stable, candidate=candidate, weight=weight)
    return Seen(instance=instance, url=url, release=release, split=split, inside=inside, at=at)
