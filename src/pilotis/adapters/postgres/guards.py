"""The guardrail's levels: the truth is here, admission has a copy in Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from pilotis.adapters.postgres.pool import translated
from pilotis.adapters.postgres.queries import statements
from pilotis.ports import Evidence, GuardState

_SQL = statements("guards")


class PostgresGuards:
    """See `ports.Guards`. `tell` is how admission learns levels by scope, `know` how this process does whenever it looks."""

    def __init__(
        self,
        pool: AsyncConnectionPool,
        *,
        env: str,
        tell: Callable[[Mapping[str, int]], Awaitable[None]],
        know: Callable[[Mapping[str, int]], None],
    ) -> None:
        self._pool, self._env, self._tell, self._know = pool, env, tell, know

    async def states(self) -> Sequence[GuardState]:
        async with translated(), self._pool.connection() as connection:
            rows = connection.cursor(row_factory=dict_row)
            found = [GuardState(**row) for row in await (await rows.execute(_SQL["states"], {"env": self._env})).fetchall()]
        self._know({state.scope: state.level for state in found})
        return found

    async def evidence(self, since: datetime, states: Sequence[GuardState]) -> Mapping[str, Evidence]:
        moved = {state.scope: max(state.since, since) for state in states}
        fields = {
            "env": self._env,
            "since": since,
            "env_since": moved.get("env", since),
            "scopes": list(moved),
            "sinces": list(moved.values()),
        }
        async with translated(), self._pool.connection() as connection:
            rows = await (await connection.execute(_SQL["evidence"], fields)).fetchall()
        return {
            scope: Evidence(since=moved.get(scope, since), answers=answers, cost_eur=cost_eur)
            for scope, answers, cost_eur in rows
        }

    async def move(self, state: GuardState, *, actor: str, figures: Mapping[str, Any]) -> bool:
        fields = asdict(state) | {"env": self._env, "actor": actor, "figures": Jsonb(dict(figures))}
        async with translated(), self._pool.connection() as connection:
            moved = await (await connection.execute(_SQL["move"], fields)).fetchone()
        if moved is None:
            return False
        await self._tell({state.scope: state.level})
        return True

    async def announce(self) -> None:
        await self._tell({state.scope: state.level for state in await self.states()})

    async def history(self, *, limit: int = 100, scope: str | None = None) -> Sequence[Mapping[str, Any]]:
        fields = {"env": self._env, "limit": limit, "scope": scope}
        async with translated(), self._pool.connection() as connection:
            rows = connection.cursor(row_factory=dict_row)
            return await (await rows.execute(_SQL["history"], fields)).fetchall()
