"""The record of a release that was brought back: what happened when, by which figures, what to tell people, and what is still owed.

It is computed from the trail, which nobody can change afterwards; only its closing is written, as a line of that trail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from pilotis.errors import Conflict, Invalid, NotFound
from pilotis.ports.releases import Releases, Rollout

if TYPE_CHECKING:
    from jinja2 import Template

LANGUAGES = ("en", "fr")
RCA_WITHIN = timedelta(hours=24)
"""After which the analysis of the cause is due."""
CLOSED = "incident_closed"
BROKEN = frozenset({"rolled_back", "failed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One rollout that ended badly. Its id is the rollout's."""

    id: str
    env: str
    candidate: str
    stable: str
    state: str
    """The rollout's: rolled_back or failed."""
    cause: str
    author: str
    began_at: datetime
    detected_at: datetime
    """When it was decided to go back."""
    ended_at: datetime
    """When all traffic was back."""
    most_weight: int
    """The largest share of traffic that the candidate had, in per cent."""
    rca_due_at: datetime
    gates: Sequence[Mapping[str, Any]]
    """The figures of the verdict that it was judged by, as `Verdict.figures` has them."""
    timeline: Sequence[Mapping[str, Any]]
    """The lines of the trail."""
    closed_at: datetime | None = None
    closed_by: str = ""
    rca: str = ""

    @property
    def back_in_s(self) -> float:
        """How long it took from the decision to the last request of the candidate."""
        return (self.ended_at - self.detected_at).total_seconds()


async def incidents(releases: Releases, *, limit: int = 1000) -> list[Incident]:
    """Those of the last `limit` rollouts, the latest first."""
    ended = [rollout for rollout in await releases.history(limit=limit) if rollout.state in BROKEN]
    read_ = [read(rollout, await releases.trail(rollout=rollout.id)) for rollout in ended]
    return [incident for incident in read_ if incident is not None]


async def find(releases: Releases, name: str | None) -> Incident:
    """By its id or the beginning of its release's, the latest without a name. Raises NotFound."""
    for incident in await incidents(releases):
        if name is None or name in {incident.id, incident.candidate} or incident.candidate.startswith(name):
            return incident
    what = f"incident {name!r}" if name else "incident"
    raise NotFound(f"there is no {what}", remedy="see: pilotis incident list")


async def close(releases: Releases, incident: Incident, *, by: str, rca: str) -> None:
    """Write down what the cause was. Raises Invalid without it, Conflict where it is closed."""
    if incident.closed_at is not None:
        raise Conflict(f"incident {incident.id} was closed by {incident.closed_by}", remedy="see: pilotis incident show")
    if not rca.strip():
        raise Invalid("an incident is closed with its cause", remedy='give it: --rca "what it was, and what is done about it"')
    await releases.note(actor=by, action=CLOSED, rollout=incident.id, figures={"rca": rca})


def read(rollout: Rollout, trail: Sequence[Mapping[str, Any]]) -> Incident | None:
    """What the trail tells of a rollout; None where its candidate never had traffic and a person gave it up."""
    moves = [line for line in trail if line["rollout"] == rollout.id]
    weights = [int(line["figures"].get("weight", 0)) for line in moves]
    most = 100 if _undoes(moves) else max(weights, default=0)
    if most == 0 and rollout.asked == "abort":
        return None
    decided = next((line["at"] for line in moves if line["action"] == "rolling_back"), rollout.since)
    closing = next((line for line in moves if line["action"] == CLOSED), None)
    return Incident(
        id=rollout.id,
        env=rollout.env,
        candidate=rollout.candidate,
        stable=rollout.stable,
        state=rollout.state,
        cause=rollout.reason,
        author=rollout.author,
        began_at=rollout.began_at,
        detected_at=decided,
        ended_at=rollout.since,
        most_weight=most,
        rca_due_at=decided + RCA_WITHIN,
        gates=_gates(moves),
        timeline=moves,
        closed_at=closing["at"] if closing else None,
        closed_by=closing["actor"] if closing else "",
        rca=closing["figures"]["rca"] if closing else "",
    )


def document(incident: Incident, *, language: str, zone: str, difference: Mapping[str, Any] | None = None) -> str:
    """The record as Markdown, in English or French, with its times on the clocks of `zone`."""
    local = ZoneInfo(zone)

    def at(moment: datetime, form: str = "%Y-%m-%d %H:%M:%S") -> str:
        return moment.astimezone(local).strftime(form)

    return _template(language).render(
        i=incident, at=at, zone=zone, difference=difference or {}, message=message(incident, language)
    )


def message(incident: Incident, language: str) -> str:
    """A status message that is ready to send: what users saw, since when, that it is over, and what follows."""
    share, minutes = incident.most_weight, max(1, round((incident.ended_at - incident.began_at).total_seconds() / 60))
    if language == "fr":
        return (
            f"Une nouvelle version du service ({incident.env}) a été retirée après {minutes} min : elle servait au plus {share} % "
            f"des requêtes. Le service est revenu à la version précédente. Aucun document n'est perdu. L'analyse suit sous 24 h."
        )
    return (
        f"A new version of the service ({incident.env}) was withdrawn after {minutes} min, having served at most {share} % of "
        "requests. The service is back on the version before. No document is lost. The analysis follows within 24 h."
    )


def _gates(moves: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Of the verdict that decided: the last one in the trail that did not pass, else the last."""
    verdicts = [line["figures"]["verdict"] for line in moves if line["figures"].get("verdict")]
    bad = [verdict for verdict in verdicts if verdict["outcome"] != "pass"]
    found: Sequence[Mapping[str, Any]] = (bad or verdicts or [{}])[-1].get("gates", ())
    return found


def _undoes(moves: Sequence[Mapping[str, Any]]) -> bool:
    """Whether it began by going back: the candidate was stable until then, with all traffic."""
    return bool(moves) and moves[0]["figures"].get("state", moves[0]["action"]) == "rolling_back"


@cache
def _template(language: str) -> Template:
    from jinja2 import Environment, StrictUndefined

    text = files("pilotis.control").joinpath("texts", f"incident.{language}.md.j2").read_text(encoding="utf-8")
    options = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    return Environment(**options).from_string(text)  # type: ignore[arg-type]  # noqa: S701 - Markdown, not HTML
