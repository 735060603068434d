"""The road of a release, a tick at a time: lease -> load -> converge -> look -> judge -> advance -> store -> converge.

A controller may be killed anywhere on it: what it knew is stored, the router is asked what it has, and whoever ticks next goes on from
there. Two at once do no harm: one has the lease, and who has lost it without noticing is refused by its fence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pilotis.control.judge import Gates, Verdict, judge
from pilotis.control.rollout import Facts, Rules, advance, back
from pilotis.errors import Permanent, Refused, Transient
from pilotis.ports import Generation, Generations
from pilotis.ports.releases import (
    ENDED,
    Arms,
    Examiner,
    Measures,
    Releases,
    Rollout,
    Splits,
    Traffic,
    TrafficRouter,
)

log = logging.getLogger(__name__)

EVERY_S = 1.0
LEASE_S = 15.0
"""Longer than a tick may take."""
CONFIRM_S, POLL_S = 2.0, 0.05
"""How long a weight that was set is waited for within one tick."""
ACTOR = "control"
JUDGED = frozenset({"progressing", "holding", "promoting"})


async def _nothing(_: Rollout) -> None:
    """Nobody is told."""


@dataclass(slots=True, kw_only=True)
class Controller:
    """What one process that controls an env acts with. Whatever must outlive it is stored; `ill_since` may be forgotten."""

    holder: str
    releases: Releases
    splits: Splits
    measures: Measures
    routers: Mapping[str, TrafficRouter]
    examiner: Examiner
    rules: Rules
    gates: Gates
    frozen: Callable[[datetime], str]
    generations: Generations
    tell: Callable[[Rollout], Awaitable[None]] = _nothing
    ill_since: dict[str, datetime] = field(default_factory=dict)


async def tick(by: Controller, now: datetime) -> Rollout | None:
    """One step of the latest rollout; the rollout as it stands then, None where there is none or somebody else controls this env.

    Raises Transient where the store is away.
    """
    fence = await by.releases.lease(by.holder, ttl_s=LEASE_S)
    rollout = await by.releases.rollout()
    if fence is None or rollout is None:
        return None
    found = await converge(rollout, by)
    if rollout.state in ENDED:
        return rollout
    facts = await look(rollout, by, found, now)
    following = advance(rollout, facts, by.rules, now)
    if following is None:
        return rollout
    following = await _with_its_index(rollout, following, by, now)
    if not await store(following, facts, by, fence):
        return None
    await converge(following, by)
    await by.tell(following)
    return following


async def converge(rollout: Rollout, by: Controller) -> int | None:
    """Bring the router to the weight that is stored, and read it back; None where nobody can say.

    A weight that had been confirmed and is found changed is returned as it was found, so that it is noted, and put right besides.
    """
    router, arms = by.routers.get(rollout.router), arms_of(rollout)
    if router is None:
        log.warning("rollout %s is moved by %s, which this controller does not reach", rollout.id, rollout.router)
        return None
    try:
        found = await router.read(arms)
        if found == rollout.weight:
            return found
        if rollout.state in ENDED and found is None:
            return None  # the arm is gone, as it may be once all is over
        await router.set(arms, rollout.weight)
        after = await _confirmed(router, arms, rollout.weight)
    except (Transient, Permanent) as error:
        log.warning("the router of rollout %s: %s", rollout.id, error.message)
        return None
    return found if rollout.confirmed_at is not None and found is not None else after


async def look(rollout: Rollout, by: Controller, found: int | None, now: datetime) -> Facts:
    """What can be known of a rollout at this moment."""
    healthy = await _asked(by, rollout, "healthy")
    ill_since = _ill_since(by, rollout, healthy=healthy, now=now)
    verdict, requests = None, 0
    if rollout.state in JUDGED and rollout.confirmed_at is not None and found == rollout.weight:
        verdict, requests = await _judged(rollout, by, now)
    return Facts(
        weight=found,
        healthy=healthy,
        ill_since=ill_since,
        drained=await _asked(by, rollout, "drained") if rollout.state == "rolling_back" else None,
        verdict=verdict,
        requests=requests,
        approvals=await by.releases.approvals(rollout.id),
        frozen=by.frozen(now),
    )


async def store(following: Rollout, facts: Facts, by: Controller, fence: int) -> bool:
    """By compare-and-swap, with its line in the trail. False where somebody else was first: then the next tick begins anew."""
    stable = {"completed": following.candidate, "rolled_back": following.stable}.get(following.state)
    stored = await by.releases.swap(following, actor=ACTOR, figures=_figures(facts), stable=stable, fence=fence)
    if stored:
        log.info("rollout %s: %s at %d %%: %s", following.id, following.state, following.weight, following.reason)
    return stored


def arms_of(rollout: Rollout) -> Arms:
    return Arms(stable=rollout.stable, candidate=rollout.candidate)


async def _confirmed(router: TrafficRouter, arms: Arms, weight: int) -> int | None:
    """The weight that is read, as soon as it is the wanted one."""
    for _ in range(round(CONFIRM_S / POLL_S)):
        if await router.read(arms) == weight:
            return weight
        await asyncio.sleep(POLL_S)
    return await router.read(arms)


async def _asked(by: Controller, rollout: Rollout, what: str) -> bool | None:
    router, arms = by.routers.get(rollout.router), arms_of(rollout)
    if router is None:
        return None
    try:
        return await (router.healthy(arms, "candidate") if what == "healthy" else router.drained(arms))
    except (Transient, Permanent) as error:
        log.warning("the router of rollout %s: %s", rollout.id, error.message)
        return None


def _ill_since(by: Controller, rollout: Rollout, *, healthy: bool | None, now: datetime) -> datetime | None:
    """Since when this process has seen the candidate unable to serve, without a break."""
    if healthy is None:
        return by.ill_since.get(rollout.id)
    if healthy:
        by.ill_since.pop(rollout.id, None)
        return None
    return by.ill_since.setdefault(rollout.id, now)


async def _judged(rollout: Rollout, by: Controller, now: datetime) -> tuple[Verdict, int]:
    assert rollout.confirmed_at is not None
    await _examine(rollout, by)
    candidate = await _traffic(rollout.candidate, by, rollout.confirmed_at, now)
    alone = rollout.hard or rollout.weight == 100
    stable = None if alone else await _traffic(rollout.stable, by, rollout.confirmed_at, now)
    examined = await by.splits.examinations(rollout.id)
    candidate, stable = paired(candidate, stable, examined.get(rollout.candidate, {}), examined.get(rollout.stable, {}))
    return judge(candidate, stable, by.gates, hard=alone), candidate.requests if candidate else 0


def paired(
    candidate: Traffic | None, stable: Traffic | None, found: Mapping[str, bool], before: Mapping[str, bool]
) -> tuple[Traffic | None, Traffic | None]:
    """With the golden questions that were put to both; to the candidate alone where no stable release is compared with."""
    both = found.keys() & before.keys() if stable is not None else found.keys()
    won = sum(found[one] and not before.get(one, True) for one in both)
    lost = sum(before.get(one, False) and not found[one] for one in both)
    if candidate is not None:
        candidate = replace(candidate, asked=len(both), hits=sum(found[one] for one in both), won=won)
    if stable is not None:
        stable = replace(stable, asked=len(both), hits=sum(before[one] for one in both), won=lost)
    return candidate, stable


async def _traffic(release: str, by: Controller, since: datetime, until: datetime) -> Traffic | None:
    try:
        return await by.measures.traffic(release, since=since, until=until)
    except Transient as error:
        log.warning("what release %s did is unknown: %s", release, error.message)
        return None


async def _examine(rollout: Rollout, by: Controller) -> None:
    """Put golden questions to both arms, a few at each tick: an abort must not wait for the rest."""
    questions = by.examiner.questions
    if not questions:
        return
    stored = await by.splits.examinations(rollout.id)
    for release in (rollout.candidate, rollout.stable):
        left = questions - stored.get(release, {}).keys()
        if not left:
            continue
        try:
            results = await by.examiner.examine(release, left=frozenset(left))
        except (Transient, Permanent) as error:
            log.warning("golden questions to release %s: %s", release, error.message)
            continue
        await by.splits.examined(rollout.id, release, results)


async def _with_its_index(rollout: Rollout, following: Rollout, by: Controller, now: datetime) -> Rollout:
    """Before a rollout ends: search the candidate's index, or the one again that was searched before. One that cannot be had sends
    the release back.
    """
    if following.state not in {"completed", "rolled_back"}:
        return following
    wanted, active = (await by.releases.get(rollout.candidate)).generation, (await by.generations.active()).id
    try:
        if following.state == "completed" and wanted not in {None, active}:
            figures = {"before": active, "after": wanted}
            await by.releases.note(actor=ACTOR, action="generation", rollout=rollout.id, figures=figures)
            await by.generations.activate(await _generation(by, wanted))
        elif following.state == "rolled_back" and wanted == active:
            lines = [line["figures"] for line in await by.releases.trail() if line["action"] == "generation"]
            before = [figures["before"] for figures in lines if figures["after"] == wanted]
            if before:
                await by.generations.activate(await _generation(by, before[-1]))
    except (Refused, Permanent) as error:
        if following.state == "completed":
            return back(rollout, error.message, now)
        return replace(following, reason=f"{following.reason}; {error.message}")
    return following


async def _generation(by: Controller, wanted: int | None) -> Generation:
    for standing in await by.generations.all():
        if standing.generation.id == wanted:
            return standing.generation
    raise Permanent(f"index generation {wanted} is gone", remedy="see: pilotis index list")


def _figures(facts: Facts) -> dict[str, Any]:
    found: dict[str, Any] = {"seen_weight": facts.weight, "healthy": facts.healthy, "requests": facts.requests}
    return found | ({"verdict": facts.verdict.figures()} if facts.verdict else {})
