"""Releases, splits and what they did, in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pilotis.control import trail as lines
from pilotis.errors import Conflict, NotFound
from pilotis.ports.releases import ENDED, LATENCY_BOUNDS_MS, Approval, Release, Rollout, Seen, Split, Traffic

BUCKET_S = 5


def _now() -> datetime:
    return datetime.now(UTC)


class MemoryReleases:
    """See `ports.releases.Releases`."""

    def __init__(self, *, clock: Callable[[], datetime] = _now) -> None:
        self._clock = clock
        self._releases: dict[str, Release] = {}
        self._stable: str | None = None
        self._rollouts: dict[str, Rollout] = {}
        self._lease: tuple[str, int, float] | None = None
        self._approvals: dict[tuple[str, str], Approval] = {}
        self._lines: list[tuple[str, str]] = []

    async def add(self, release: Release) -> Release:
        return self._releases.setdefault(release.id, release)

    async def get(self, release: str) -> Release:
        found = [one for one in self._releases.values() if one.id.startswith(release)]
        if release in self._releases:
            return self._releases[release]
        if len(found) > 1:
            raise Conflict(f"several releases begin with {release!r}", remedy="write more of its id: pilotis release list")
        if not found:
            raise NotFound(f"there is no release {release!r}", remedy="see: pilotis release list")
        return found[0]

    async def list(self, *, limit: int = 50) -> Sequence[Release]:
        return list(self._releases.values())[::-1][:limit]

    async def stable(self) -> str | None:
        return self._stable

    async def rollout(self, rollout: str | None = None) -> Rollout | None:
        if rollout is not None:
            return self._rollouts.get(rollout)
        return next(iter([*self._rollouts.values()][::-1]), None)

    async def history(self, *, limit: int = 50) -> Sequence[Rollout]:
        return [*self._rollouts.values()][::-1][:limit]

    async def begin(self, rollout: Rollout, *, actor: str) -> bool:
        if rollout.id in self._rollouts or any(one.state not in ENDED for one in self._rollouts.values()):
            return False
        self._store(rollout, actor, {}, None)
        return True

    async def swap(
        self, rollout: Rollout, *, actor: str, figures: Mapping[str, Any], stable: str | None = None, fence: int | None = None
    ) -> bool:
        before = self._rollouts.get(rollout.id)
        if before is None or before.version != rollout.version - 1:
            return False
        if fence is not None and self._lease is not None and self._lease[1] > fence:
            return False
        self._store(rollout, actor, figures, stable)
        return True

    async def lease(self, holder: str, *, ttl_s: float) -> int | None:
        now = time.monotonic()
        if self._lease is not None and self._lease[0] != holder and now < self._lease[2]:
            return None
        fence = 1 if self._lease is None else self._lease[1] + (self._lease[0] != holder)
        self._lease = (holder, fence, now + ttl_s)
        return fence

    async def approve(self, approval: Approval) -> None:
        self._approvals[approval.rollout, approval.role] = approval
        figures = {"role": approval.role, "evidence": approval.evidence, "signature": approval.signature}
        self._note(approval.by, "approved", approval.rollout, figures)

    async def approvals(self, rollout: str) -> Sequence[Approval]:
        return [one for (of, _), one in sorted(self._approvals.items()) if of == rollout]

    async def trail(self, *, rollout: str | None = None, limit: int | None = None) -> Sequence[Mapping[str, Any]]:
        found = [lines.read(*line, n=n) for n, line in enumerate(self._lines, 1)]
        found = [line for line in found if rollout in {None, line["rollout"]}]
        return found if limit is None else found[len(found) - min(limit, len(found)) :]

    async def last(self) -> tuple[int, str]:
        return (len(self._lines), self._lines[-1][1]) if self._lines else (0, "")

    async def note(self, *, actor: str, action: str, rollout: str | None, figures: Mapping[str, Any]) -> None:
        self._note(actor, action, rollout, figures)

    def _store(self, rollout: Rollout, actor: str, figures: Mapping[str, Any], stable: str | None) -> None:
        self._rollouts[rollout.id] = rollout
        self._stable = self._stable if stable is None else stable
        self._note(actor, rollout.state, rollout.id, lines.of(rollout, figures, stable=stable))

    def _note(self, actor: str, action: str, rollout: str | None, figures: Mapping[str, Any]) -> None:
        before = self._lines[-1][1] if self._lines else ""
        n = len(self._lines) + 1
        self._lines.append(
            lines.line(n=n, at=self._clock(), actor=actor, action=action, rollout=rollout, figures=figures, before=before)
        )


class MemorySplits:
    """See `ports.releases.Splits` and `ports.releases.Measures`."""

    def __init__(self, *, clock: Callable[[], datetime] = _now) -> None:
        self._clock = clock
        self._wanted: Split | None = None
        self._seen: dict[str, Seen] = {}
        self._traffic: dict[tuple[str, datetime], Traffic] = {}
        self._examined: dict[str, dict[str, dict[str, bool]]] = {}

    async def wanted(self) -> Split | None:
        return self._wanted

    async def want(self, split: Split) -> None:
        self._wanted = split

    async def seen(self, *, within_s: float) -> Sequence[Seen]:
        now = self._clock()
        latest = [self._seen[one] for one in sorted(self._seen)]
        return [one for one in latest if one.at is not None and (now - one.at).total_seconds() <= within_s]

    async def report(self, seen: Seen, traffic: Mapping[str, Traffic]) -> None:
        now = self._clock()
        self._seen[seen.instance] = replace(seen, at=now)
        begins = datetime.fromtimestamp(now.timestamp() // BUCKET_S * BUCKET_S, tz=UTC)
        for release, done in traffic.items():
            known = self._traffic.get((release, begins))
            self._traffic[release, begins] = _sum(known, done) if known else done

    async def examined(self, rollout: str, release: str, results: Mapping[str, bool]) -> None:
        self._examined.setdefault(rollout, {}).setdefault(release, {}).update(results)

    async def examinations(self, rollout: str) -> Mapping[str, Mapping[str, bool]]:
        return {release: dict(results) for release, results in self._examined.get(rollout, {}).items()}

    async def trim(self) -> None:
        """Memory is not trimmed."""

    async def traffic(self, release: str, *, since: datetime, until: datetime) -> Traffic:
        found = Traffic(since=since, until=until, latency=(0,) * (len(LATENCY_BOUNDS_MS) + 1))
        for (of, begins), done in self._traffic.items():
            if of == release and since <= begins < until:
                found = _sum(found, done)
        return found


def _sum(known: Traffic, added: Traffic) -> Traffic:
    used = [one.saturation for one in (known, added) if one.saturation is not None]
    return replace(
        known,
        requests=known.requests + added.requests,
        errors=known.errors + added.errors,
        latency=tuple(a + b for a, b in zip(known.latency, added.latency, strict=True)),
        paid=known.paid + added.paid,
        cost_eur=known.cost_eur + added.cost_eur,
        cost_sq=known.cost_sq + added.cost_sq,
        saturation=max(used, default=None),
    )
