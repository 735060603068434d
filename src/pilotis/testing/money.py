"""Admission, caches and the outbox in memory, as strict as Redis'."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from pilotis.derive.budget import MICRO, WINDOWS, Budget, Span, micro_up, spans
from pilotis.derive.ladder import Rung, rungs
from pilotis.derive.limits import Tight, guarded, interval_us, micro_limit, network, too_dear, too_fast
from pilotis.derive.plan import Env
from pilotis.errors import Limited, Transient
from pilotis.ports import Admitted, CachedAnswer, CacheStats, CostEvent, Hold, Kept, Request, Spending
from pilotis.testing.safe import Entry, Put, Safe

__all__ = ["MemoryMoney", "Safe"]

MARGIN_S = 60.0
LARGEST_BYTES = 256 * 1024


class MemoryMoney:
    """One process' `ports.Admission`, `ports.Cache` and `ports.Outbox`. Set `away` for a Redis that cannot be reached."""

    def __init__(
        self, env: Env, *, instance: str = "test", safe: Safe | None = None, clock: Callable[[], datetime] | None = None
    ) -> None:
        self.env, self.instance = env, instance
        self.safe = safe or Safe()
        self.away: str | None = None
        self.own: dict[str, Put] = {}
        self.settled: dict[str, CostEvent] = {}
        self._epochs: dict[str, str | None] = {}
        self._clock = clock or (lambda: datetime.now(UTC))

    @property
    def admission(self) -> MemoryMoney:
        return self

    @property
    def cache(self) -> MemoryMoney:
        return self

    @property
    def outbox(self) -> MemoryMoney:
        return self

    async def admit(self, request: Request) -> Admitted:
        safe = self._reached()
        if safe.epoch is None:
            raise Transient("budgets are being rebuilt from the ledger", retry_after_s=2)
        now = self._reap()
        self.safe.drop(request.id)
        level, guard = self._level(request)
        rung = rungs(self.env)[level] if level < len(rungs(self.env)) else rungs(self.env)[0]
        found = None if rung.serves == "nothing" else self._find(request, level)
        arrived = {} if request.resumed else self._arrivals(request, 1.0 if found else request.weight, now)
        if rung.serves == "nothing" or (rung.serves == "cache" and not found):
            raise guarded(rung.step, guard)
        windows = self._windows(now)
        free = Hold(id=request.id, at=now, plane=request.plane, bu=request.bu, key=request.key, micro=0, spans=windows)
        if found:
            safe.arrivals |= arrived
            return Admitted(hold=free, level=level, answer=self._take(*found, request))
        flight = (request.bu, request.answer_keys[level]) if request.answer_keys else None
        if flight and safe.flights.get(flight, request.id) != request.id:
            safe.arrivals |= arrived
            return Admitted(hold=free, level=level, flight="other")
        micro = request.ceilings[level]
        if micro:
            self._require_room(request, windows, micro, now)
        safe.arrivals |= arrived
        hold = Hold(id=request.id, at=now, plane=request.plane, bu=request.bu, key=request.key, micro=micro, spans=windows)
        self._put(request, hold, rung)
        passages = safe.fresh(safe.passages, request.bu, request.passages_keys[level], now) if request.passages_keys else None
        if flight:
            safe.flights[flight] = request.id
            safe.counts["misses", request.bu] += 1
        if passages:
            safe.counts["passage_hits", request.bu] += 1
        return Admitted(
            hold=hold, level=level, passages=passages.record if passages else None, flight="own" if flight else None
        )

    def level(self, bu: str) -> tuple[int, str]:
        scope = max("env", f"bu:{bu}", key=lambda scope: self.safe.levels.get(scope, 0))
        return self.safe.levels.get(scope, 0), scope

    def begin(self, hold: Hold) -> None:
        if put := self.safe.puts.get(hold.id):
            put.begun = True

    async def settle(self, hold: Hold, event: CostEvent, keep: Kept | None = None) -> None:
        self.own.pop(hold.id, None)
        try:
            safe = self._reached()
        except Transient:
            self.settled[event.id], self._epochs[event.id] = event, None
            raise
        put = safe.puts.get(hold.id)
        self.safe.land(hold.id)
        if put and put.lost:
            raise Transient(f"the hold of request {hold.id} had expired: its cost goes to the ledger", retry_after_s=0)
        if event.id in safe.done:
            return
        self.settled[event.id], self._epochs[event.id] = event, safe.epoch
        safe.append(event)
        self.safe.drop(hold.id)
        if safe.epoch is None:
            return
        safe.spend(event, self._windows(event.at))
        if keep and keep.ttl_s > 0:
            self._keep(hold, event, keep)

    async def release(self, hold: Hold) -> None:
        self.own.pop(hold.id, None)
        self._reached()
        self.safe.land(hold.id)
        if (put := self.safe.puts.get(hold.id)) and not put.lost:
            self.safe.drop(hold.id)

    async def announce(self, levels: Mapping[str, int]) -> None:
        """Tell admission at which step of the ladder the guardrail of each scope (`env`, `bu:NAME`) stands."""
        self._reached().levels.update(levels)

    async def peek(self, bu: str, answer_key: str, *, streamed: bool = False) -> tuple[CachedAnswer | None, bool]:
        entry = self._reached().fresh(self.safe.answers, bu, answer_key, self._now())
        if entry is None:
            return None, (bu, answer_key) in self.safe.flights
        return self._taken(entry, bu, streamed=streamed), False

    async def forget(self, bu: str, document_ids: Sequence[str]) -> int:
        safe = self._reached()
        if not document_ids:
            return 0
        gone = {"*", *document_ids}
        safe.gone |= {(bu, document): self._now() for document in gone}
        return safe.sweep(lambda whose, entry: whose == bu and bool(gone & {*entry.documents}))

    async def clear(self, bu: str | None = None) -> int:
        safe = self._reached()
        safe.gone |= {
            (whose, ""): self._now() for whose in {bu, *(whose for whose, _ in (*safe.answers, *safe.flights))} if whose
        }
        return safe.sweep(lambda whose, _: bu in {None, whose})

    async def sources(self) -> Collection[str]:
        safe = self._reached()
        return {one for kept in (safe.answers, safe.passages) for entry in kept.values() for one in entry.documents} - {"*"}

    async def stats(self, bu: str | None = None) -> CacheStats:
        safe = self._reached()
        answers = [entry for (whose, _), entry in safe.answers.items() if bu in {None, whose}]
        passages = [entry for (whose, _), entry in safe.passages.items() if bu in {None, whose}]
        counts = safe.count(bu)
        return CacheStats(
            answers=len(answers),
            passages=len(passages),
            bytes=sum(len(entry.record) + len(entry.shown) for entry in (*answers, *passages)),
            hits=counts.get("hits", 0),
            misses=counts.get("misses", 0),
            passage_hits=counts.get("passage_hits", 0),
            saved_eur=Decimal(counts.get("saved", 0)) / MICRO,
        )

    async def lead(self, instance: str, *, ttl_s: float) -> bool:
        safe = self._reached()
        if safe.epoch is not None:
            self._reap()
        now = self._now()
        if safe.leader is None or safe.leader[0] == instance or safe.leader[1] <= now:
            safe.leader = instance, now + timedelta(seconds=ttl_s)
        return safe.leader[0] == instance

    async def read(self, *, limit: int) -> Sequence[tuple[str, CostEvent]]:
        return self._reached().stream[:limit]

    async def remove(self, upto: str) -> None:
        safe = self._reached()
        for place, event in safe.stream:
            if place <= upto:
                self.settled.pop(event.id, None)
        safe.stream = [entry for entry in safe.stream if entry[0] > upto]

    async def waiting(self) -> int:
        return len(self._reached().stream)

    async def unconfirmed(self) -> Sequence[CostEvent]:
        epoch = self._reached().epoch
        return [event for event in self.settled.values() if self._epochs[event.id] is None or self._epochs[event.id] != epoch]

    async def count(self, event: CostEvent, *, epoch: str) -> None:
        safe = self._reached()
        if safe.epoch != epoch:
            raise Transient("the counters were made anew meanwhile", remedy="look again")
        if event.id in safe.puts:
            self.safe.drop(event.id)
        elif event.id in safe.done:
            return
        safe.spend(event, self._windows(event.at))

    async def free(self, ids: Sequence[str]) -> int:
        known = [each for each in ids if each in self._reached().puts]
        for each in known:
            self.safe.drop(each)
            if self.safe.epoch is not None:  # else nobody knows yet whether the sums to come hold them
                self.safe.done.add(each)
        return len(known)

    async def epoch(self) -> str | None:
        if self._reached().epoch:
            await self.rejoin()
        return self.safe.epoch

    async def is_seeded(self) -> bool:
        return await self.epoch() is not None

    async def rejoin(self) -> float:
        safe = self._reached()
        for put in self.own.values():
            if put.hold.id not in safe.puts and put.hold.id not in safe.done and put.hold.micro:
                safe.puts[put.hold.id] = put
                self.safe.hold(put.hold, put.hold.micro)
        return 0.0

    async def seed(self, spent: Sequence[Spending], *, epoch: str, instance: str) -> bool:
        safe = self._reached()
        leads = safe.leader is not None and safe.leader[0] == instance and safe.leader[1] > self._now()
        if not leads or safe.epoch is not None or safe.stream:
            return False
        safe.spent = Counter({(one.scope, one.span.id): one.spent for one in spent})
        safe.held.clear()
        for put in safe.puts.values():
            self.safe.hold(put.hold, put.hold.micro)
        safe.epoch, safe.seeded = epoch, self._now()
        return True

    async def unseed(self) -> None:
        self._reached().epoch = None

    async def spending(self, spans: Sequence[Span] | None = None) -> Sequence[Spending]:
        safe = self._reached()
        wanted = {span.id: span for span in spans or self._windows(self._now())}
        return [
            Spending(
                scope=scope,
                span=wanted[span],
                spent=safe.spent[scope, span],
                held=safe.held[scope, span],
                limit=self._limit(scope, wanted[span]),
            )
            for scope, span in sorted({**safe.spent, **safe.held})
            if span in wanted and (safe.spent[scope, span] or safe.held[scope, span])
        ]

    async def close(self) -> None:
        """Nothing to close."""

    def _reached(self) -> Safe:
        if self.away:
            raise Transient(f"Redis is away: {self.away}")
        return self.safe

    def _now(self) -> datetime:
        return self._clock()

    def _windows(self, at: datetime) -> tuple[Span, Span, Span]:
        return spans(at, self.env.timezone)

    def _reap(self) -> datetime:
        now = self._now()
        self.safe.reap(now)
        return now

    def _limit(self, scope: str, span: Span) -> int | None:
        budgets = self.env.budgets
        kind, _, name = scope.partition(":")
        found = {
            "env": budgets.env,
            "plane": budgets.planes.get(name, Budget()),
            "bu": budgets.bus.get(name, budgets.bu),
            "key": budgets.key,
        }
        return micro_limit(found[kind], span.window)

    def _keep(self, hold: Hold, event: CostEvent, keep: Kept) -> None:
        safe, now = self.safe, self._now()
        if (safe.seeded and hold.at <= safe.seeded) or safe.is_stale(event.bu, keep.documents, hold.at):
            return

        def entry(record: bytes, shown: bytes) -> Entry:
            ends = now + timedelta(seconds=keep.ttl_s)
            return Entry(
                record=record, shown=shown, at=hold.at, ends=ends, micro=micro_up(event.cost_eur), documents=keep.documents
            )

        if keep.answer_key and len(keep.record) + len(keep.shown) <= LARGEST_BYTES:
            safe.answers[event.bu, keep.answer_key] = entry(keep.record, keep.shown)
        if keep.passages_key and len(keep.passages) <= LARGEST_BYTES:
            safe.passages[event.bu, keep.passages_key] = entry(keep.passages, b"")

    def _level(self, request: Request) -> tuple[int, str]:
        level, scope = self.level(request.bu)
        return 0 if request.plane == "batch" else min(level, len(request.ceilings) - 1), scope

    def _find(self, request: Request, level: int) -> tuple[Entry, int] | None:
        for at, key in enumerate(request.answer_keys[: level + 1]):
            if entry := self.safe.fresh(self.safe.answers, request.bu, key, self._now()):
                return entry, at
        return None

    def _take(self, entry: Entry, level: int, request: Request) -> CachedAnswer:
        taken = self._taken(entry, request.bu, streamed=request.streamed)
        return CachedAnswer(record=taken.record, shown=taken.shown, level=level)

    def _taken(self, entry: Entry, bu: str, *, streamed: bool) -> CachedAnswer:
        self.safe.counts["hits", bu] += 1
        self.safe.counts["saved", bu] += entry.micro
        return CachedAnswer(record=entry.record, shown=entry.shown if streamed else None, level=0)

    def _arrivals(self, request: Request, weight: float, now: datetime) -> dict[str, datetime]:
        """The generic cell rate algorithm (ITU-T I.371): when the next request would come if all came at the agreed rate."""
        if request.plane == "batch":
            return {}
        rates = self.env.rates
        applying = [("env", "env", rates.env), (f"bu:{request.bu}",) * 2 + (rates.bus.get(request.bu, rates.bu),)]
        if request.ip:
            applying.insert(1, ("ip", f"ip:{network(request.ip)}", rates.ip))
        arrived: dict[str, datetime] = {}
        worst: Limited | None = None
        for scope, name, rate in applying:
            if rate is None:
                continue
            step = timedelta(microseconds=interval_us(rate))
            most = now + rate.burst * step
            arrived[name] = min(max(now, self.safe.arrivals.get(name, now)), most) + min(weight, rate.burst) * step
            wait_us = int((arrived[name] - most) / timedelta(microseconds=1))
            if wait_us > 0 and (worst is None or wait_us / 1e6 > worst.retry_after_s):
                worst = too_fast(scope, rate, wait_us=wait_us, now=now)
        if worst:
            raise worst
        return arrived

    def _require_room(self, request: Request, windows: tuple[Span, ...], micro: int, now: datetime) -> None:
        tight: Tight | None = None
        budgets = self.env.budgets.apply(plane=request.plane, bu=request.bu, key=request.key, own=request.key_budget)
        for scope, budget in budgets.items():
            for span in windows:
                limit = micro_limit(budget, span.window)
                spent, held = self.safe.spent[scope, span.id], self.safe.held[scope, span.id]
                if limit is None or spent + held + micro <= limit:
                    continue
                found = Tight(scope=scope, span=span, spent=spent, held=held, limit=limit)
                if tight is None or (micro > found.left and (micro <= tight.left or not _is_longer(tight.span, span))):
                    tight = found
        if tight:
            raise too_dear(tight, micro=micro, now=now)

    def _put(self, request: Request, hold: Hold, rung: Rung) -> None:
        if hold.micro == 0:
            return
        expires = hold.at + timedelta(seconds=(request.lasts_s or self.env.total_s) + MARGIN_S)
        put = Put(
            hold=hold,
            expires=expires,
            env=self.env.name,
            kind=request.kind,
            model=(rung.env.llm if request.kind in {"answer", "eval"} else rung.env.embedder).model,
            step=rung.step,
            instance=self.instance,
        )
        self.safe.puts[hold.id] = self.own[hold.id] = put
        self.safe.hold(hold, hold.micro)


def _is_longer(span: Span, other: Span) -> bool:
    return WINDOWS.index(span.window) > WINDOWS.index(other.window)
