"""What a request cost takes the place of what was held for it, before it is acknowledged, and also where it ends early."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from decimal import Decimal
from types import TracebackType
from typing import Self

from pilotis.derive import genai
from pilotis.derive.budget import micro_up
from pilotis.derive.cost import Priced, Usage, Work, elsewhere, price
from pilotis.derive.plan import Env, Plan
from pilotis.errors import PilotisError, Transient
from pilotis.online.admission import Entry, Kind
from pilotis.online.events import Receipt
from pilotis.ports import CostEvent, Deps, Kept, trace

log = logging.getLogger(__name__)


class Tab:
    """Collects what one request consumes. Left unsettled, the block settles what was consumed until then.

    Whoever ends early (a failing model, a client that is gone) has spent all the same: the event is handed over before the exception
    goes on. A cancellation waits for that and is never swallowed. Where nothing was consumed the hold is freed.
    """

    def __init__(self, entry: Entry, kind: Kind, *, env: Env, plan: Plan, deps: Deps) -> None:
        self.id = entry.hold.id
        self._entry, self._env, self._plan, self._deps = entry, env, plan, deps
        self._kind: Kind = kind
        self._usages: list[Usage] = []
        self._begun = False
        self._ending: asyncio.Task[None] | None = None

    def begin(self, provider: str) -> None:
        """Money is about to be spent at `provider`; what runs in the service itself costs none."""
        if not self._begun and provider != "local" and self._entry.hold.micro > 0:
            self._begun = True
            self._deps.admission.begin(self._entry.hold)

    def add(self, usage: Usage) -> None:
        """Put the consumption of one model call on the tab."""
        self._usages.append(usage)

    @contextmanager
    def calling(self, usage: Usage) -> Iterator[None]:
        """Around a call whose consumption is known beforehand. Whoever leaves while a server works, or waits in vain, pays for it."""
        try:
            yield
        except BaseException as error:  # raised again
            is_late = isinstance(error, asyncio.CancelledError) or isinstance(error.__cause__, TimeoutError)
            if is_late and usage.provider != "local":
                self.add(usage)
            raise
        self.add(usage)

    def receipt(self) -> Receipt:
        """What has been consumed so far, and what it costs."""
        lines = [self._price(usage) for usage in self._usages]
        return Receipt(
            usages=tuple(self._usages),
            cost_eur=sum((line.cost_eur for line in lines), Decimal(0)),
            priced=all(line.priced for line in lines),
            price_book=self._plan.book.id,
            fx=next((line.fx for line in lines if line.fx), None),
            elsewhere_eur={},
        )

    async def settle(self, *, work: Work | None = None, keep: Kept | Callable[[Receipt], Kept | None] | None = None) -> Receipt:
        """Hand the event over, then say what it cost, and with `work` what it would have cost elsewhere.

        `keep` goes into the caches with it. Raises what storing raises: the request must then not be acknowledged.
        """
        receipt = self.receipt()
        kept = keep(receipt) if callable(keep) else keep
        self._ending = asyncio.ensure_future(self._settle(receipt, kept))
        others = elsewhere(work, self._env.name, self._plan) if work else {}
        await _undisturbed(self._ending)
        return replace(receipt, elsewhere_eur=others)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._ending is None:
                self._ending = asyncio.ensure_future(self._leave())
            elif _failed(self._ending):
                self._ending = asyncio.ensure_future(self._settle(self.receipt(), None))
            await _undisturbed(self._ending)
        except PilotisError as unsettled:
            if error is None:
                raise
            error.add_note(f"and what it cost could not be stored: {unsettled.message}")

    async def _leave(self) -> None:
        if self._usages:
            await self._settle(self.receipt(), None)
        elif self._entry.hold.is_metered:
            try:
                await self._deps.admission.release(self._entry.hold)
            except Transient as error:
                log.info("a hold is left to expire: %s", error.message)

    def _price(self, usage: Usage) -> Priced:
        day = self._entry.hold.at.date()
        return price(usage, self._plan.book, self._plan.fx, at=day, on_unknown=self._env.on_unknown_price)

    async def _settle(self, receipt: Receipt, keep: Kept | None) -> None:
        event = self._event(receipt)
        if 0 < self._entry.hold.micro < micro_up(event.cost_eur):
            log.warning("request %s cost more than was held for it: %s EUR", self.id, event.cost_eur)
        if self._entry.hold.is_metered:
            try:
                await self._deps.admission.settle(self._entry.hold, event, keep)
            except Transient as error:
                log.warning("request %s is booked in the ledger directly: %s", self.id, error.message)
                await self._deps.ledger.append(event)
        else:
            await self._deps.ledger.append(event)
        self._measure(receipt, event)

    def _event(self, receipt: Receipt) -> CostEvent:
        hold = self._entry.hold
        served = self._entry.rung.env
        return CostEvent(
            id=self.id,
            at=hold.at,
            env=self._env.name,
            plane=hold.plane,
            bu=hold.bu,
            kind="eval" if hold.plane == "batch" else self._kind,
            subject=self.id,
            model=served.llm.model if self._kind == "answer" else served.embedder.model,
            usage={"calls": [asdict(usage) for usage in receipt.usages]},
            cost_eur=receipt.cost_eur,
            price_book=receipt.price_book,
            fx=receipt.fx,
            priced=receipt.priced,
            key=hold.key,
            step=self._entry.rung.step,
            estimated=any(usage.estimated for usage in receipt.usages if usage.provider != "local"),
            instance=self._deps.instance,
        )

    def _measure(self, receipt: Receipt, event: CostEvent) -> None:
        trace.current().root.note({genai.COST: float(receipt.cost_eur), genai.STEP: event.step})
        meter = self._deps.meter
        meter.count("rag_cost_eur_total", float(receipt.cost_eur), plane=event.plane, bu=event.bu, model=event.model)
        if event.estimated:
            meter.count("rag_cost_estimated_total", model=event.model)
        for usage in receipt.usages:
            if not self._price(usage).priced:
                meter.count("rag_cost_unpriced_total", model=usage.model)
            parts = {
                "input": usage.input_tokens - usage.cached_tokens,
                "cached": usage.cached_tokens,
                "output": usage.output_tokens,
            }
            for part, tokens in parts.items():
                if tokens > 0:
                    meter.count("rag_tokens_total", tokens, model=usage.model, **{"class": part})


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


async def _undisturbed(task: asyncio.Task[None]) -> None:
    """Wait for `task` though this one is being cancelled, however often; then let the cancellation go on."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    failure = None if task.cancelled() else task.exception()
    if cancelled is None:
        task.result()
        return
    if failure is not None:
        cancelled.add_note(f"and what it cost could not be stored: {failure}")
    raise cancelled
