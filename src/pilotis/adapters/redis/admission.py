"""Admission, settlement and release: one script each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from pydantic_core import to_json
from redis.exceptions import RedisError

from pilotis.adapters.redis.till import FLIGHT_S, Held, Till, microseconds, moment, tag, windows_at
from pilotis.derive.budget import WINDOWS, Budget, Rate, Span, micro_up, scopes
from pilotis.derive.ladder import rungs
from pilotis.derive.limits import Tight, eur, guarded, interval_us, micro_limit, network, too_dear, too_fast
from pilotis.errors import Limited, Transient
from pilotis.ports import Admitted, CachedAnswer, CostEvent, Hold, Kept, Request

log = logging.getLogger(__name__)

MARGIN_S = 60.0
"""How much longer a hold lasts than its request may: a living process always settles before."""
LARGEST_BYTES = 256 * 1024
"""Of an answer with its passages, or of search results: more is not kept."""
LONGEST_TTL_S = 86_400
JITTER = 0.1
BEGIN_AGAIN_S = 0.25

_EVENT = tuple(CostEvent.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class _Limit:
    """A rate that applies: whose it is, the key of its state, its figures."""

    scope: str
    name: str
    rate: Rate


@dataclass(slots=True)
class _Asked:
    """A request as it is asked of Redis."""

    request: Request
    rates: tuple[_Limit, ...]
    lasts_us: int
    spans: tuple[Span, ...] = ()


class RedisAdmission:
    """See `ports.Admission`. All money is counted in whole micro-euros, rounded up."""

    def __init__(self, till: Till) -> None:
        self._till, self._env = till, till.env
        self._callers = lru_cache(maxsize=4096)(self._caller)
        self._beginning: set[asyncio.Task[None]] = set()
        self._levels: dict[str, int] = {}

    async def admit(self, request: Request) -> Admitted:
        till = self._till
        caller, rates = self._callers(request.plane, request.bu, request.key, request.key_budget)
        of_ip = self._env.rates.ip
        if of_ip and request.ip:
            rates = (*rates, _Limit("ip", f"ip:{network(request.ip)}", of_ip))
        lasts_s = (request.lasts_s or self._env.total_s) + MARGIN_S
        asked = _Asked(request, rates, lasts_us=int(lasts_s * 1e6))
        code, now_us, rest = await self._ask(caller, asked)
        if code in {b"hit", b"other", b"in"}:
            return self._admitted(asked, code, now_us, rest)
        if code == b"unseeded":
            till.notice(None, None)
            raise Transient("budgets are being rebuilt from the ledger", remedy="try again in a few seconds", retry_after_s=2)
        raise self._refused(asked, code, moment(now_us), rest)

    def level(self, bu: str) -> tuple[int, str]:
        scope = max("env", f"bu:{bu}", key=lambda scope: self._levels.get(scope, 0))
        return self._levels.get(scope, 0), scope

    def begin(self, hold: Hold) -> None:
        held = self._till.holds.get(hold.id)
        if hold.micro == 0 or held is None or held.begun:
            return
        held.begun = True
        told = self._till.tell("begin", hold.id)
        task = asyncio.get_running_loop().create_task(self._begin(hold.id, told))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def settle(self, hold: Hold, event: CostEvent, keep: Kept | None = None) -> None:
        till = self._till
        if till.is_settled(event.id):
            return
        held = till.holds.pop(hold.id, None)
        if till.is_stranded(event.id) or (held and hold.micro and held.expires_us < till.now_us()):
            till.remember(event, None)
            raise Transient(f"the hold of request {hold.id} is gone: its cost goes to the ledger", retry_after_s=0)
        one, payloads = _settlement(hold, event, keep, flight=held.flight if held else "", zone=self._env.timezone)
        try:
            code, now, place, epoch, trimmed = await till.script("settle", one, _packed(event), *payloads)
        except BaseException:  # also a cancelled one may have been settled: from here on it is the ledger's
            if held:
                till.given_up[hold.id] = held
            till.remember(event, None)
            raise
        till.tell_time(now)
        till.notice(epoch, trimmed)
        if code == b"late":
            till.remember(event, None)
            raise Transient(f"the hold of request {hold.id} had expired: its cost goes to the ledger", retry_after_s=0)
        if code == b"settled":
            till.remember(event, place if epoch else None)
            if hold.micro < micro_up(event.cost_eur):
                log.warning("request %s cost %s EUR, more than the %s held for it", hold.id, event.cost_eur, eur(hold.micro))

    async def release(self, hold: Hold) -> None:
        held = self._till.holds.pop(hold.id, None)
        if hold.micro == 0 and not (held and held.flight):
            return
        try:
            await self._till.script("release", hold.id, held.flight if held else "")
        except BaseException:  # also a cancelled one: it is released with the next look at the counters
            self._till.orphans[hold.id] = held.flight if held else ""
            raise

    async def announce(self, levels: Mapping[str, int]) -> None:
        """Tell admission at which step of the ladder the guardrail of each scope (`env`, `bu:NAME`) stands."""
        self.know(levels)
        if levels:
            flat = [part for scope, level in levels.items() for part in (f"g|{scope}", level)]
            await self._till.wire.call("HSET", self._till.meter, *flat)

    def know(self, levels: Mapping[str, int]) -> None:
        """The same for this process alone, which goes by it while Redis is away."""
        self._levels |= levels

    async def _ask(self, caller: bytes, asked: _Asked) -> tuple[bytes, int, list[Any]]:
        """One round trip, two where this process' clock is in another hour than Redis'."""
        till = self._till
        for _ in range(3):
            asked.spans = windows_at(till.now_us(), self._env.timezone)
            till.orphans.pop(asked.request.id, None)
            try:
                code, now, *rest = await till.script("admit", caller, _question(asked))
            except BaseException:  # also a cancelled one may have been admitted
                if max(asked.request.ceilings) > 0 or asked.request.answer_keys:
                    till.orphans[asked.request.id] = ""
                raise
            till.tell_time(now)
            if code != b"clock":
                return code, int(now), rest
        raise Transient("Redis' clock cannot be followed", remedy="see that the clocks of your machines run evenly")

    async def _begin(self, hold_id: str, told: asyncio.Future[Any] | None) -> None:
        """Again until Redis knows, or the hold has ended."""
        while True:
            try:
                await (told or self._till.script("begin", hold_id))
            except (Transient, RedisError) as error:
                log.info("a hold has begun and Redis does not know it yet: %s", error)
            else:
                return
            told = None
            await asyncio.sleep(BEGIN_AGAIN_S)
            if hold_id not in self._till.holds:
                return

    def _admitted(self, asked: _Asked, code: bytes, now_us: int, rest: list[Any]) -> Admitted:
        request, level = asked.request, int(rest[0])
        hold = Hold(
            id=request.id,
            at=moment(now_us),
            plane=request.plane,
            bu=request.bu,
            key=request.key,
            micro=int(rest[1]) if code == b"in" else 0,
            spans=asked.spans,
        )
        if code == b"hit":
            answer = CachedAnswer(record=rest[2], shown=rest[3] if request.streamed else None, level=int(rest[1]))
            return Admitted(hold=hold, level=level, answer=answer)
        if code == b"other":
            return Admitted(hold=hold, level=level, flight="other")
        passages, flight = rest[2], rest[3].decode()
        self._till.notice(rest[4], rest[5])
        if hold.micro or flight:
            ladder = rungs(self._env)
            self._till.holds[hold.id] = Held(
                hold=hold,
                expires_us=now_us + asked.lasts_us,
                flight=flight,
                kind=request.kind,
                step=ladder[min(level, len(ladder) - 1)].step,
            )
        return Admitted(hold=hold, level=level, passages=passages, flight="own" if flight else None)

    def _refused(self, asked: _Asked, code: bytes, now: datetime, rest: list[int]) -> Limited:
        request = asked.request
        if code == b"rate":
            which, wait_us = map(int, rest)
            return too_fast(asked.rates[which].scope, asked.rates[which].rate, wait_us=wait_us, now=now)
        if code == b"guard":
            level, of_bu = rest
            return guarded(rungs(self._env)[level].step, f"bu:{request.bu}" if of_bu else "env")
        of, window, spent, held, limit, micro = rest
        scope = scopes(plane=request.plane, bu=request.bu, key=request.key)[of]
        return too_dear(Tight(scope=scope, span=asked.spans[window], spent=spent, held=held, limit=limit), micro=micro, now=now)

    def _caller(self, plane: str, bu: str, key: str | None, own: Budget | None) -> tuple[bytes, tuple[_Limit, ...]]:
        """What stays the same from request to request, and the rates that apply but for that of the address."""
        env, ladder = self._env, rungs(self._env)
        budgets = env.budgets.apply(plane=plane, bu=bu, key=key, own=own)
        fixed = {
            "plane": plane,
            "bu": bu,
            "tag": tag(bu),
            "key": key or False,
            "limits": [
                [-1 if (limit := micro_limit(budgets[scope], window)) is None else limit for window in WINDOWS]
                for scope in scopes(plane=plane, bu=bu, key=key)
            ],
            # The ladder is about answers: what is ingested while it bends is ingested as ever.
            "serves": ["all"] if plane == "batch" else [rung.serves for rung in ladder],
            "steps": [rung.step for rung in ladder],
            "instance": self._till.instance,
        }
        if plane == "batch":  # rates are those of callers; the queues have a pace of their own
            return to_json(fixed), ()
        rates = (("env", "env", env.rates.env), (f"bu:{bu}", f"bu:{tag(bu)}", env.rates.bus.get(bu, env.rates.bu)))
        return to_json(fixed), tuple(_Limit(scope, name, rate) for scope, name, rate in rates if rate)


def jittered_ms(ttl_s: int, of: str) -> int:
    """A time to live, up to a tenth longer or shorter, so that what was written together does not end together."""
    share = int(tag(of)[:8], 16) / 0xFFFFFFFF
    return int(min(ttl_s, LONGEST_TTL_S) * 1000 * (1 - JITTER + 2 * JITTER * share))


def _question(asked: _Asked) -> bytes:
    request, hour = asked.request, asked.spans[0]
    return to_json(
        {
            "id": request.id,
            "spans": [span.id for span in asked.spans],
            "from": microseconds(hour.starts),
            "to": microseconds(hour.ends),
            "ceilings": request.ceilings,
            "weight": request.weight,
            "answers": request.answer_keys,
            "passages": request.passages_keys,
            "streamed": request.streamed,
            "resumed": request.resumed,
            "kind": request.kind,
            "lasts": asked.lasts_us,
            "flies": int(FLIGHT_S * 1000),
            "rates": [[limit.name, interval_us(limit.rate), limit.rate.burst] for limit in asked.rates],
        }
    )


def _settlement(hold: Hold, event: CostEvent, keep: Kept | None, *, flight: str, zone: str) -> tuple[bytes, list[bytes]]:
    spans = hold.spans if event.at == hold.at and hold.spans else windows_at(microseconds(event.at), zone)
    one: dict[str, Any] = {
        "id": hold.id,
        "event": event.id,
        "micro": micro_up(event.cost_eur),
        "plane": event.plane,
        "bu": event.bu,
        "key": event.key or False,
        "spans": [span.id for span in spans],
        "tag": tag(event.bu),
        "flight": flight,
        "keep": False,
    }
    if keep is None or keep.ttl_s <= 0:
        return to_json(one), []
    answer = keep.answer_key if len(keep.record) + len(keep.shown) <= LARGEST_BYTES else None
    passages = keep.passages_key if len(keep.passages) <= LARGEST_BYTES else None
    if not (answer or passages):
        return to_json(one), []
    one["keep"] = {
        "answer": answer or False,
        "passages": passages or False,
        "ttl_ms": jittered_ms(keep.ttl_s, hold.id),
        "tags_ms": 2 * 1000 * min(keep.ttl_s, LONGEST_TTL_S),  # longer than whatever else it was cited in
        "documents": keep.documents,
        "at": microseconds(hold.at),
    }
    return to_json(one), [keep.record if answer else b"", keep.shown if answer else b"", keep.passages if passages else b""]


def _packed(event: CostEvent) -> bytes:
    return to_json({name: getattr(event, name) for name in _EVENT})
