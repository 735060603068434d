"""Releases, rollouts and their trail: every change of a rollout is stored together with its line, or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from pilotis.adapters.postgres.pool import translated
from pilotis.adapters.postgres.queries import statements
from pilotis.control import trail as lines
from pilotis.errors import Conflict, NotFound
from pilotis.ports.releases import ENDED, Approval, Release, Rollout

_SQL = statements("releases")
_MOMENTS = ("began_at", "since", "confirmed_at", "ends_at")
_FIELDS = frozenset(field.name for field in fields(Rollout))
NO_FENCE = 2**62
"""Of a person's word, which no lease outvotes."""


class PostgresReleases:
    """See `ports.releases.Releases`."""

    def __init__(self, pool: AsyncConnectionPool, *, env: str) -> None:
        self._pool, self._env = pool, env

    async def add(self, release: Release) -> Release:
        known = asdict(release) | {"env": self._env, "settings": list(release.settings)}
        async with translated(), self._pool.connection() as connection:
            await connection.execute(_SQL["add"], known)
        return await self.get(release.id)

    async def get(self, release: str) -> Release:
        found = await self._releases("find", id=release)
        exact = [one for one in found if one.id == release]
        if len(exact or found) == 1:
            return (exact or found)[0]
        if found:
            raise Conflict(f"several releases begin with {release!r}", remedy="write more of its id: pilotis release list")
        raise NotFound(f"there is no release {release!r} in env {self._env}", remedy="see: pilotis release list")

    async def list(self, *, limit: int = 50) -> Sequence[Release]:
        return await self._releases("list", limit=limit)

    async def stable(self) -> str | None:
        async with translated(), self._pool.connection() as connection:
            row = await (await connection.execute(_SQL["stable"], {"env": self._env})).fetchone()
        return row[0] if row else None

    async def rollout(self, rollout: str | None = None) -> Rollout | None:
        found = await self._rollouts(id=rollout, limit=1)
        return found[0] if found else None

    async def history(self, *, limit: int = 50) -> Sequence[Rollout]:
        return await self._rollouts(id=None, limit=limit)

    async def begin(self, rollout: Rollout, *, actor: str) -> bool:
        return await self._change("begin", rollout, actor=actor, figures={}, stable=None, fence=None)

    async def swap(
        self, rollout: Rollout, *, actor: str, figures: Mapping[str, Any], stable: str | None = None, fence: int | None = None
    ) -> bool:
        return await self._change("swap", rollout, actor=actor, figures=figures, stable=stable, fence=fence)

    async def lease(self, holder: str, *, ttl_s: float) -> int | None:
        asked = {"env": self._env, "holder": holder, "ttl_s": ttl_s}
        async with translated(), self._pool.connection() as connection:
            row = await (await connection.execute(_SQL["lease"], asked)).fetchone()
        return row[0] if row else None

    async def approve(self, approval: Approval) -> None:
        figures = {"role": approval.role, "evidence": approval.evidence, "signature": approval.signature}
        async with translated(), self._pool.connection() as connection, connection.transaction():
            head = await self._head(connection)
            await connection.execute(_SQL["approve"], asdict(approval) | {"env": self._env})
            await self._note(connection, head, actor=approval.by, action="approved", rollout=approval.rollout, figures=figures)

    async def approvals(self, rollout: str) -> Sequence[Approval]:
        async with translated(), self._pool.connection() as connection:
            rows = connection.cursor(row_factory=dict_row)
            found = await (await rows.execute(_SQL["approvals"], {"env": self._env, "rollout": rollout})).fetchall()
        return [Approval(**row) for row in found]

    async def trail(self, *, rollout: str | None = None, limit: int | None = None) -> Sequence[Mapping[str, Any]]:
        asked = {"env": self._env, "rollout": rollout, "limit": limit}
        async with translated(), self._pool.connection() as connection:
            found = await (await connection.execute(_SQL["trail"], asked)).fetchall()
        return [lines.read(text, hashed, n=n) for text, hashed, n in found]

    async def last(self) -> tuple[int, str]:
        async with translated(), self._pool.connection() as connection:
            row = await (await connection.execute(_SQL["last"], {"env": self._env})).fetchone()
        return (row[0], row[1]) if row else (0, "")

    async def note(self, *, actor: str, action: str, rollout: str | None, figures: Mapping[str, Any]) -> None:
        async with translated(), self._pool.connection() as connection, connection.transaction():
            await self._note(
                connection, await self._head(connection), actor=actor, action=action, rollout=rollout, figures=figures
            )

    async def _change(
        self,
        how: str,
        rollout: Rollout,
        *,
        actor: str,
        figures: Mapping[str, Any],
        stable: str | None,
        fence: int | None,
    ) -> bool:
        asked = {
            "env": self._env,
            "id": rollout.id,
            "state": rollout.state,
            "has_ended": rollout.state in ENDED,
            "version": rollout.version,
            "body": Jsonb(_body(rollout)),
            "fence": NO_FENCE if fence is None else fence,
        }
        async with translated(), self._pool.connection() as connection, connection.transaction():
            head = await self._head(connection)
            if await (await connection.execute(_SQL[how], asked)).fetchone() is None:
                return False
            if stable is not None:
                await connection.execute(_SQL["set_stable"], {"env": self._env, "stable": stable})
            told = lines.of(rollout, figures, stable=stable)
            await self._note(connection, head, actor=actor, action=rollout.state, rollout=rollout.id, figures=told)
        return True

    async def _head(self, connection: AsyncConnection) -> tuple[int, str, datetime]:
        """The last line, locked until the transaction ends: two that add at once wait for each other."""
        await connection.execute(_SQL["found_trail"], {"env": self._env})
        row = await (await connection.execute(_SQL["head"], {"env": self._env})).fetchone()
        assert row is not None
        return row[0], row[1], row[2]

    async def _note(
        self,
        connection: AsyncConnection,
        head: tuple[int, str, datetime],
        *,
        actor: str,
        action: str,
        rollout: str | None,
        figures: Mapping[str, Any],
    ) -> None:
        n, before, at = head
        text, hashed = lines.line(n=n + 1, at=at, actor=actor, action=action, rollout=rollout, figures=figures, before=before)
        added = {"env": self._env, "n": n + 1, "rollout": rollout, "line": text, "hash": hashed}
        await connection.execute(_SQL["add_line"], added)

    async def _releases(self, name: str, **asked: Any) -> Sequence[Release]:
        async with translated(), self._pool.connection() as connection:
            rows = connection.cursor(row_factory=dict_row)
            found = await (await rows.execute(_SQL[name], asked | {"env": self._env})).fetchall()
        return [Release(**row | {"settings": tuple(row["settings"])}) for row in found]

    async def _rollouts(self, **asked: Any) -> Sequence[Rollout]:
        async with translated(), self._pool.connection() as connection:
            found = await (await connection.execute(_SQL["rollouts"], asked | {"env": self._env})).fetchall()
        return [_rollout(body, state, version) for body, state, version in found]


def _body(rollout: Rollout) -> dict[str, Any]:
    held = asdict(rollout)
    return held | {name: held[name].isoformat() for name in _MOMENTS if held[name] is not None}


def _rollout(body: Mapping[str, Any], state: str, version: int) -> Rollout:
    """Fields that a later version has added are left aside."""
    held = {name: value for name, value in body.items() if name in _FIELDS}
    moments = {name: datetime.fromisoformat(held[name]) for name in _MOMENTS if held.get(name) is not None}
    return Rollout(**held | moments | {"state": state, "version": version, "stages": tuple(held["stages"])})
