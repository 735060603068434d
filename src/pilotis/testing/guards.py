"""The guardrail's levels in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from pilotis.ports import CostEvent, Evidence, GuardState


class MemoryGuards:
    """Judges by the events it is given. `told` is what admission was told last."""

    def __init__(
        self, events: Sequence[CostEvent] = (), *, tell: Callable[[Mapping[str, int]], Awaitable[None]] | None = None
    ) -> None:
        self.events = list(events)
        self.told: dict[str, int] = {}
        self._tell = tell
        self._states: dict[str, GuardState] = {}
        self._history: list[dict[str, Any]] = []

    async def states(self) -> Sequence[GuardState]:
        return [self._states[scope] for scope in sorted(self._states)]

    async def evidence(self, since: datetime, states: Sequence[GuardState]) -> Mapping[str, Evidence]:
        moved = {state.scope: max(state.since, since) for state in states}
        answers = [event for event in self.events if event.plane == "online" and event.kind == "answer"]
        found = {}
        for scope in ("env", *{f"bu:{event.bu}" for event in answers if event.at >= since}):
            begins = moved.get(scope, since)
            costs = [event.cost_eur for event in answers if event.at >= begins and scope in {"env", f"bu:{event.bu}"}]
            if costs or scope == "env":
                found[scope] = Evidence(since=begins, answers=len(costs), cost_eur=sum(costs, Decimal(0)))
        return found

    async def move(self, state: GuardState, *, actor: str, figures: Mapping[str, Any]) -> bool:
        before = self._states.get(state.scope)
        if state.version != (before.version if before else 0) + 1:
            return False
        self._states[state.scope] = state
        self._history.append(
            {
                "at": state.since,
                "scope": state.scope,
                "from_level": before.level if before else None,
                "to_level": state.level,
                "actor": actor,
                "reason": state.reason,
                "figures": dict(figures),
            }
        )
        await self._told({state.scope: state.level})
        return True

    async def announce(self) -> None:
        await self._told({state.scope: state.level for state in self._states.values()})

    async def history(self, *, limit: int = 100, scope: str | None = None) -> Sequence[Mapping[str, Any]]:
        return [move for move in self._history[::-1] if scope in {None, move["scope"]}][:limit]

    async def _told(self, levels: Mapping[str, int]) -> None:
        self.told.update(levels)
        if self._tell:
            await self._tell(levels)
