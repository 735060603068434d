"""What holds of API keys whoever stores them: which may be made, until when one is good, how a date or a duration is written."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from pilotis.derive.budget import WINDOWS, Budget
from pilotis.errors import Conflict, Invalid, Unauthorised

RIGHTS = ("ask", "ingest", "admin", "examine")
APPROVE = "approve:"
"""Before the role in which a key may agree to releases, as `deploy.approvals` names it."""

EVERY_BU = "*"
"""The business unit of an operator's key: it manages the keys of every business unit, and reads the documents of none."""

MOST_EUR = Decimal(10**9)

_NAME = re.compile(r"[\w][\w .@/-]{0,99}")
_APPROVES = re.compile(rf"{APPROVE}[a-z][a-z0-9_-]{{0,30}}")
_DURATION = re.compile(r"([0-9]{1,6}) ?([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_REMEDY = "make one with: pilotis keys create"


def check(*, bu: str, name: str, rights: Collection[str], budget: Budget | None) -> None:
    """Raises Invalid for a business unit or a name that is empty, over 100 characters or unprintable, and for rights or a budget
    that make no sense.
    """
    for what, value in (("business unit", bu), ("key name", name)):
        if not _NAME.fullmatch(value) and (what, value) != ("business unit", EVERY_BU):
            raise Invalid(f"{what} {value!r} is not valid", remedy="use 1 to 100 letters, digits, spaces or . _ - @ /")
    unknown = sorted(right for right in rights if right not in RIGHTS and not _APPROVES.fullmatch(right))
    if unknown or not rights:
        raise Invalid(
            f"{', '.join(map(repr, unknown))} is no right" if unknown else "a key without any right is good for nothing",
            remedy=f"name one or more of: {', '.join(RIGHTS)}, {APPROVE}ROLE",
        )
    if bu == EVERY_BU and set(rights) != {"admin"}:
        raise Invalid("a key of every business unit has the right admin alone", remedy="make another key to ask or to ingest")
    for window in WINDOWS if budget else ():
        amount = budget.limit(window) if budget else None
        if amount is not None and not (amount.is_finite() and 0 <= amount <= MOST_EUR):
            raise Invalid(f"a budget of {amount} € an {window} is not valid", remedy="name an amount of 0 or more, in euros")


def require_good(*, prefix: str, revoked_at: datetime | None, expires_at: datetime | None, now: datetime | None = None) -> None:
    """Raises Unauthorised for a key that is revoked, or past its date by the clock of this process (or by `now`)."""
    if revoked_at is not None:
        raise Unauthorised(f"API key {prefix}… was revoked on {revoked_at:%Y-%m-%d}", remedy=_REMEDY)
    if expires_at is not None and (now or datetime.now(UTC)) >= expires_at:
        raise Unauthorised(f"API key {prefix}… expired on {expires_at:%Y-%m-%d}", remedy=_REMEDY)


def require_rotatable(*, prefix: str, revoked_at: datetime | None, expires_at: datetime | None, now: datetime) -> None:
    """Raises Conflict for a key that has ended: its successor would bring back what somebody took away."""
    try:
        require_good(prefix=prefix, revoked_at=revoked_at, expires_at=expires_at, now=now)
    except Unauthorised as ended:
        raise Conflict(ended.message, remedy=_REMEDY) from None


def unknown() -> Unauthorised:
    """The refusal of a key that nobody made."""
    return Unauthorised("this API key is not known", remedy=_REMEDY)


def rotated(prefix: str, successor: str) -> Conflict:
    """The refusal to put a second key in the place of one."""
    return Conflict(
        f"API key {prefix}… was rotated before: {successor}… took its place", remedy="rotate that one, or make a new key"
    )


def successor_ends(created_at: datetime, expires_at: datetime | None, now: datetime) -> datetime | None:
    """Until when the key is good that takes the place of one with these dates: as long as that one was made for."""
    return None if expires_at is None else now + (expires_at - created_at)


def seconds(text: str) -> float:
    """`30s`, `15m`, `24h`, `90d`, `2w` as seconds. Raises Invalid."""
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise Invalid(f"{text!r} is not a duration", remedy="write it as 30s, 15m, 24h, 90d or 2w")
    return float(int(found[1]) * _SECONDS[found[2]])


def expiry(text: str, *, now: datetime, zone: str) -> datetime:
    """When a key ends: a duration from `now`, the end of a day in `zone` (`2027-01-31`), or a time with its offset from UTC.

    Raises Invalid for what is none of these, and for what is past.
    """
    try:
        ends = _end(text.strip(), now, zone)
    except (ValueError, OverflowError):
        raise Invalid(f"{text!r} is neither a duration nor a date", remedy="write it as 90d, 24h or 2027-01-31") from None
    if ends <= now:
        raise Invalid(f"{text!r} is past", remedy="name a date to come")
    return ends


def _end(text: str, now: datetime, zone: str) -> datetime:
    if _DURATION.fullmatch(text):
        return now + timedelta(seconds=seconds(text))
    if len(text) == len("2027-01-31"):
        day = date.fromisoformat(text) + timedelta(days=1)
        return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    ends = datetime.fromisoformat(text)
    if ends.tzinfo is None:
        raise ValueError("without an offset it is no point in time")
    return ends.astimezone(UTC)
