"""How old the secrets are: for whoever has to replace them in time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pilotis.errors import PilotisError
from pilotis.ports import Meter
from pilotis.ports.secrets import Secrets

EVERY_S = 3600.0
"""Of 90 days an hour is nothing, and a keeper may be paid by the call."""
AGAIN_S = 300.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Age:
    """Of one secret that is there. None where its keeper does not know."""

    name: str
    place: str
    age: timedelta | None


def ages(keeper: Secrets, names: Collection[str], *, now: datetime) -> tuple[Age, ...]:
    """Of those that are there, in the order of `names`. Blocks. Raises SetupError, Transient."""
    found = keeper.read(names)
    return tuple(
        Age(name=name, place=keeper.place(name), age=max(timedelta(0), now - at) if (at := found[name].at) else None)
        for name in names
        if name in found
    )


async def watch(opened: Callable[[], Secrets], names: Collection[str], meter: Meter) -> None:
    """Measure `rag_secret_age_seconds` again and again; never ends. Ages that nobody knows are not measured: 0 would be a lie.

    A process that is told its secrets by others may have no right to ask their keeper: that is logged once, and stops nothing.
    """
    complained = ""
    while True:
        try:
            measured = await asyncio.to_thread(lambda: ages(opened(), names, now=datetime.now(UTC)))
        except PilotisError as error:
            if complained != error.message:
                _log.warning("the ages of secrets are unknown: %s", error.message)
            complained = error.message
            await asyncio.sleep(AGAIN_S)
            continue
        complained = ""
        for each in measured:
            if each.age is not None:
                meter.gauge("rag_secret_age_seconds", each.age.total_seconds(), name=each.name)
        await asyncio.sleep(EVERY_S)
