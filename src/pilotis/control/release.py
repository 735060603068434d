"""What is done with releases before and around a rollout: made, compared, checked, begun, agreed to, sent back."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from pilotis.contract import freeze
from pilotis.control import rollout as states
from pilotis.derive import release as bundles
from pilotis.derive.check import check
from pilotis.derive.estimate import at_list_price, estimate_env
from pilotis.derive.plan import Env, Plan, derive
from pilotis.derive.variant import variant
from pilotis.errors import Conflict, Invalid, NotFound, PilotisError
from pilotis.ports import Generation, Generations
from pilotis.ports.releases import ENDED, Approval, Release, Releases, Rollout

AGREED_FOR = timedelta(hours=24)
"""After which an approval has to be given again: what was agreed to then is old news."""
PROD = "prod"


async def create(
    releases: Releases,
    plan: Plan,
    env: Env,
    changes: Sequence[str],
    *,
    author: str,
    now: datetime,
    prompt: str | None = None,
    image: str | None = None,
    generation: int | None = None,
    note: str = "",
) -> Release:
    """Store a release of this env; the one that is there where the same was made before. Raises Invalid and ContractError."""
    settings = bundles.settings(plan.contract, env.name, changes, prompt=prompt)
    digest = bundles.digest_of(image) if image else None
    made = Release(
        id=bundles.release_id(env.name, plan.digest, settings, image=digest, generation=generation),
        env=env.name,
        settings=settings,
        contract=plan.digest,
        author=author,
        created_at=now,
        image=digest,
        generation=generation,
        note=note,
    )
    return await releases.add(made)


async def founded(releases: Releases, plan: Plan, env: Env, *, author: str, now: datetime) -> Release:
    """The stable release; where none was ever made, the contract as it stands is the first."""
    stable = await releases.stable()
    if stable is not None:
        return await releases.get(stable)
    return await create(releases, plan, env, (), author=author, now=now, note="the contract as it stands")


def faults(
    plan: Plan, release: Release, *, prompts: Sequence[str], generations: Sequence[Generation], today: datetime
) -> list[str]:
    """Why this release may not go out under this contract: each with its figures; empty where nothing speaks against it.

    What the contract itself is refused for already counts against no release.
    """
    try:
        changed = derive(variant(plan.contract, release.env, release.settings))
    except PilotisError as error:
        return [error.message]
    env = changed.env(release.env)
    before = {found.message for found in check(plan, today.date()) if found.severity == "error"}
    found = [
        one.message
        for one in check(changed, today.date())
        if one.severity == "error" and one.env in {None, release.env} and one.message not in before
    ]
    if env.prompt not in prompts:
        found.append(f"there is no prompt {env.prompt!r}; there are {', '.join(prompts)}")
    if release.generation is not None and release.generation not in {one.id for one in generations}:
        found.append(f"there is no index generation {release.generation}")
    return found


def difference(plan: Plan, stable: Release, candidate: Release) -> dict[str, Any]:
    """What changes from the one to the other, and what a thousand answers cost before and after, in euros, as estimated."""
    old, new = (dict(setting.split("=", 1) for setting in release.settings) for release in (stable, candidate))
    changes = {key: [old.get(key), new.get(key)] for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)}
    for key in ("image", "generation"):
        if (before := getattr(stable, key)) != (after := getattr(candidate, key)):
            changes[key] = [before, after]
    return {
        "stable": stable.id,
        "candidate": candidate.id,
        "changes": changes,
        "eur_per_1k": [_price(plan, stable), _price(plan, candidate)],
        "list_eur_per_1k": [_price(plan, stable, listed=True), _price(plan, candidate, listed=True)],
    }


async def start(
    releases: Releases,
    plan: Plan,
    candidate: Release,
    stable: Release,
    *,
    router: str,
    author: str,
    now: datetime,
    from_broken: bool = False,
) -> Rollout:
    """Begin the move from `stable` to `candidate`; a controller takes it from there.

    Raises Conflict where another rollout is under way, nothing would change, or a freeze is in force.
    """
    if candidate.id == stable.id:
        raise Conflict(f"release {candidate.id} is stable already", remedy="create another one: pilotis release create --set …")
    deploy = plan.contract.deploy
    if window := freeze.in_force(deploy.freeze, now, zone=plan.contract.timezone):
        raise Conflict(
            f"nothing is released during {window} (deploy.freeze)", remedy="wait for its end, or change the contract"
        )
    stages = deploy.stages if deploy.strategy == "canary" else (100,)
    begun = Rollout(
        id=_name(candidate.id, now),
        env=candidate.env,
        candidate=candidate.id,
        stable=stable.id,
        state="pending",
        stages=stages,
        stage=0,
        weight=0,
        author=author,
        began_at=now,
        since=now,
        reason="rolls forward from a broken stable release" if from_broken else "",
        hard=from_broken,
        router=router,
        ends_at=now + states.PENDING_FOR,
    )
    if not await releases.begin(begun, actor=author):
        raise await _under_way(releases)
    return begun


async def ask(releases: Releases, what: str, *, by: str, reason: str = "") -> Rollout:
    """Note a person's wish, `abort` or `promote`, on the rollout that is under way. Raises NotFound, and Conflict where it has ended."""
    for _ in range(20):
        rollout = await releases.rollout()
        if rollout is None:
            raise NotFound("there is no rollout", remedy="begin one with: pilotis release start ID")
        if rollout.state in ENDED:
            raise Conflict(
                f"rollout {rollout.id} has ended: {rollout.state}",
                remedy="to go back to the release of before: pilotis release rollback",
            )
        following = states.asked(rollout, "abort" if what == "abort" else "promote", by)
        if following is None:
            return rollout
        if await releases.swap(following, actor=by, figures={"asked": what, "why": reason}):
            return following
    raise Conflict("the rollout moves too fast to be written to", remedy="try again")


async def roll_back(releases: Releases, *, by: str, now: datetime, reason: str = "") -> Rollout:
    """From any state to the release of before, in one step: a rollout under way is aborted, one that has ended is undone.

    Raises NotFound where nothing was ever released, or everything was undone already.
    """
    last = await releases.rollout()
    if last is not None and last.state not in ENDED:
        return await ask(releases, "abort", by=by, reason=reason)
    stable = await releases.stable()
    undone = await _undoable(releases, stable)
    if undone is None:
        raise NotFound("there is no release to go back from", remedy="see: pilotis release history")
    back = states.back(
        replace(
            undone,
            id=_name(undone.candidate, now),
            author=by,
            began_at=now,
            version=0,
            verdict={},
            asked="abort",
            asked_by=by,
            drift=0,
        ),
        reason or f"rolled back by {by}",
        now,
    )
    if not await releases.begin(back, actor=by):
        raise await _under_way(releases)
    return back


async def approve(
    releases: Releases,
    rollout: Rollout,
    evidence: Mapping[str, Any],
    *,
    role: str,
    by: str,
    secret: str,
    roles: Sequence[str],
    now: datetime,
) -> Approval:
    """Agree to a rollout in a role, signed with one's API key over what was shown.

    Raises Invalid for a role that the contract does not ask for; Conflict for one's own release, a second role of the same key, and a
    rollout that has ended.
    """
    if role not in roles:
        raise Invalid(
            f"the contract asks for no approval by {role!r}", remedy=f"one of: {', '.join(roles)}", code="invalid_role"
        )
    if rollout.state in ENDED:
        raise Conflict(f"rollout {rollout.id} has ended: {rollout.state}", remedy="see: pilotis release status")
    if by == rollout.author:
        raise Conflict(
            "nobody agrees to a release of their own", remedy="let somebody else look at it, with a key of their own"
        )
    given = await releases.approvals(rollout.id)
    if other := next((one.role for one in given if one.by == by and one.role != role and now < one.expires_at), None):
        raise Conflict(f"this key has agreed as {other} already", remedy="each role is another person, with a key of their own")
    shown = hashlib.sha256(json.dumps(evidence, sort_keys=True, default=str).encode()).hexdigest()
    expires_at = now + AGREED_FOR
    signed = json.dumps([rollout.id, role, by, now.isoformat(), expires_at.isoformat(), shown])
    approval = Approval(
        rollout=rollout.id,
        role=role,
        by=by,
        at=now,
        expires_at=expires_at,
        evidence=shown,
        signature=hmac.new(secret.encode(), signed.encode(), hashlib.sha256).hexdigest(),
    )
    await releases.approve(approval)
    return approval


def standing(rollout: Rollout, approvals: Sequence[Approval], roles: Sequence[str], *, now: datetime) -> dict[str, Any]:
    """A rollout as people and scripts read it."""
    fields = asdict(rollout) | {"ended": rollout.state in ENDED, "stages": list(rollout.stages)}
    left = states.missing(roles, approvals, author=rollout.author, now=now) if rollout.state not in ENDED else ()
    agreed = [{"role": one.role, "by": one.by, "at": one.at, "expires_at": one.expires_at} for one in approvals]
    return fields | {"verdict": dict(rollout.verdict), "approvals": agreed, "waits_for": list(left)}


def roles_of(plan: Plan, env: str) -> tuple[str, ...]:
    """Who has to agree before a release reaches this env: the contract's roles for prod, nobody elsewhere."""
    return plan.contract.deploy.approvals if env == PROD else ()


async def generations_of(generations: Generations) -> list[Generation]:
    return [standing.generation for standing in await generations.all()]


async def _undoable(releases: Releases, stable: str | None) -> Rollout | None:
    """The rollout that brought the stable release."""
    history = await releases.history(limit=1000)
    return next((one for one in history if one.state == "completed" and one.candidate == stable), None)


async def _under_way(releases: Releases) -> Conflict:
    other = await releases.rollout()
    name = other.id if other else "another one"
    return Conflict(
        f"rollout {name} is under way", remedy="wait for its end, or: pilotis release abort; see: pilotis release status"
    )


def _name(release: str, now: datetime) -> str:
    return f"{now:%Y%m%dT%H%M%S}-{release}"


def _price(plan: Plan, release: Release, *, listed: bool = False) -> Decimal | None:
    changed, env = bundles.applied(plan, release.env, release.settings)
    quote = estimate_env(env, changed)
    return (at_list_price(quote, env, changed) if listed else quote).total_eur_per_1k
