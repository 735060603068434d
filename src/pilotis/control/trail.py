"""The trail of releases: lines that are only added, each of which holds the hash of the one before, so that none can be changed or lost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from pilotis.ports.releases import Rollout

UNREADABLE = "unreadable"
"""The action of a line whose text is none, or is that of another line."""

_FIELDS = frozenset({"n", "at", "actor", "action", "rollout", "figures", "before"})


def line(
    *, n: int, at: datetime, actor: str, action: str, rollout: str | None, figures: Mapping[str, Any], before: str
) -> tuple[str, str]:
    """A line as text, and its SHA-256 (hex) over that text. `before` is the hash of the line before, empty for the first.

    The text is JSON in ASCII, its keys sorted, `at` in UTC to the microsecond: a name with bytes that are no text breaks no trail.
    """
    held = {
        "n": n,
        "at": at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": actor,
        "action": action,
        "rollout": rollout,
        "figures": dict(figures),
        "before": before,
    }
    text = json.dumps(held, sort_keys=True, separators=(",", ":"), default=str)
    return text, sha256(text.encode()).hexdigest()


def read(text: str, hashed: str, *, n: int) -> dict[str, Any]:
    """The fields of line `n`, with its `hash` and its `text`.

    Of a text that is none, or that is another line's, `action` is UNREADABLE and `before` is None: that is for `verify` to tell.
    """
    try:
        fields: dict[str, Any] = json.loads(text)
        if fields.keys() != _FIELDS or fields["n"] != n:
            raise ValueError(text)
        held = fields | {"at": datetime.fromisoformat(fields["at"])}
    except (ValueError, TypeError, AttributeError, RecursionError):
        nothing: dict[str, Any] = {"actor": "", "action": UNREADABLE, "rollout": None, "figures": {}, "before": None}
        held = {"n": n, "at": datetime.fromtimestamp(0, UTC), **nothing}
    return held | {"hash": hashed, "text": text}


def verify(lines: Sequence[Mapping[str, Any]], *, last: tuple[int, str] | None = None) -> list[tuple[int, str]]:
    """What is wrong with a whole trail: the number of a line and what it is; nothing where all hold together.

    `last` is the number and the hash of the last line as they are kept elsewhere: lines cut off at the end leave no other mark.
    """
    faults, before, expected = [], "", 1
    for one in lines:
        number = int(one["n"])
        if number != expected:
            faults.append((expected, f"line {expected} is missing: the next there is, is {number}"))
        elif one["before"] is None:
            faults.append((number, "it is no line of a trail, or another one's"))
        elif one["before"] != before:
            faults.append((number, "it does not follow on from the line before, which was changed or replaced"))
        if sha256(str(one["text"]).encode()).hexdigest() != one["hash"]:
            faults.append((number, "its text was changed"))
        before, expected = str(one["hash"]), number + 1
    if last is not None and last != (expected - 1, before):
        faults.append((expected, f"the last line is {expected - 1}, and {last[0]} were written"))
    return faults


def of(rollout: Rollout, figures: Mapping[str, Any], *, stable: str | None) -> dict[str, Any]:
    """The figures of the line that stands for a change of a rollout."""
    told = {
        "state": rollout.state,
        "stage": rollout.stage,
        "weight": rollout.weight,
        "reason": rollout.reason,
        "candidate": rollout.candidate,
        "from": rollout.stable,
    }
    return told | dict(figures) | ({"stable": stable} if stable is not None else {})
