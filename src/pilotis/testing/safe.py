"""The state that a Redis holds, in memory: counters, holds, flights, caches and the stream. One step of it is one call."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal

from pilotis.derive.budget import MICRO, Span, micro_up, scopes
from pilotis.ports import CostEvent, Hold

Place = tuple[str, str]
"""A scope and the id of a span; or a business unit and a key."""


@dataclass(slots=True, kw_only=True)
class Put:
    """Money put aside, and what is needed to book it where nobody settles it."""

    hold: Hold
    expires: datetime
    env: str
    kind: Literal["answer", "search", "ingest", "eval"]
    model: str
    step: str
    instance: str
    begun: bool = False
    lost: bool = False


@dataclass(slots=True, kw_only=True)
class Entry:
    """A cached answer, or search results."""

    record: bytes
    shown: bytes
    at: datetime
    ends: datetime
    micro: int
    documents: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Safe:
    """Whoever shares one shares one Redis. `lose` is its flush."""

    epoch: str | None = "epoch 0"
    seeded: datetime | None = None
    spent: Counter[Place] = field(default_factory=Counter)
    held: Counter[Place] = field(default_factory=Counter)
    puts: dict[str, Put] = field(default_factory=dict)
    flights: dict[Place, str] = field(default_factory=dict)
    arrivals: dict[str, datetime] = field(default_factory=dict)
    levels: dict[str, int] = field(default_factory=dict)
    stream: list[tuple[str, CostEvent]] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    answers: dict[Place, Entry] = field(default_factory=dict)
    passages: dict[Place, Entry] = field(default_factory=dict)
    gone: dict[Place, datetime] = field(default_factory=dict)
    counts: Counter[Place] = field(default_factory=Counter)
    """By what is counted (hits, misses, passage_hits, saved) and business unit."""
    leader: tuple[str, datetime] | None = None
    """Who leads, and until when."""
    places: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def lose(self) -> None:
        """As a flush does; places go on."""
        fresh = Safe(epoch=None, places=self.places)
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))

    def append(self, event: CostEvent) -> None:
        self.stream.append((f"{next(self.places):012}", event))

    def hold(self, hold: Hold, micro: int) -> None:
        """Add to what its scopes hold."""
        for scope in scopes(plane=hold.plane, bu=hold.bu, key=hold.key):
            for span in hold.spans:
                self.held[scope, span.id] += micro

    def spend(self, event: CostEvent, windows: Sequence[Span]) -> None:
        """Add to what its scopes have spent."""
        self.done.add(event.id)
        for scope in scopes(plane=event.plane, bu=event.bu, key=event.key):
            for span in windows:
                self.spent[scope, span.id] += micro_up(event.cost_eur)

    def drop(self, hold_id: str) -> bool:
        """Free a hold; False where there is none."""
        put = self.puts.pop(hold_id, None)
        if put is None:
            return False
        self.hold(put.hold, -put.hold.micro)
        self.land(hold_id)
        return True

    def land(self, hold_id: str) -> None:
        self.flights = {flight: owner for flight, owner in self.flights.items() if owner != hold_id}

    def reap(self, now: datetime) -> None:
        """End expired holds: what had not begun is freed, what had is held on until the ledger has taken it as spent."""
        for put in [put for put in self.puts.values() if put.expires <= now and not put.lost]:
            if put.begun:
                put.lost = True
                self.append(_lost(put))
                self.land(put.hold.id)
            else:
                self.drop(put.hold.id)

    def fresh(self, cache: dict[Place, Entry], bu: str, key: str, now: datetime) -> Entry | None:
        """A cached entry that has not ended."""
        entry = cache.get((bu, key))
        return entry if entry and entry.ends > now else None

    def is_stale(self, bu: str, documents: Sequence[str], at: datetime) -> bool:
        return any((bu, document) in self.gone and self.gone[bu, document] >= at for document in (*documents, ""))

    def sweep(self, is_out: Callable[[str, Entry], bool]) -> int:
        """Remove entries by business unit and content; return how many."""
        removed = 0
        for cache in (self.answers, self.passages):
            out = [place for place, entry in cache.items() if is_out(place[0], entry)]
            for place in out:
                del cache[place]
            removed += len(out)
        return removed

    def count(self, bu: str | None) -> Mapping[str, int]:
        found: Counter[str] = Counter()
        for (what, whose), n in self.counts.items():
            found[what] += n if bu in {None, whose} else 0
        return found


def _lost(put: Put) -> CostEvent:
    hold = put.hold
    return CostEvent(
        id=hold.id,
        at=hold.at,
        env=put.env,
        plane=hold.plane,
        bu=hold.bu,
        kind=put.kind,
        subject=hold.id,
        model=put.model,
        usage={"lost": True},
        cost_eur=Decimal(hold.micro) / MICRO,
        price_book="",
        fx=None,
        priced=True,
        key=hold.key,
        step=put.step,
        estimated=True,
        instance=put.instance,
    )
