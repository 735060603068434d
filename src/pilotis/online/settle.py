"""What a request cost is written to the ledger before it is acknowledged, and also where it ends early."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from types import TracebackType
from typing import Literal, Self

from pilotis.derive.cost import Priced, Usage, Work, elsewhere, price
from pilotis.derive.plan import Env, Plan
from pilotis.errors import PilotisError
from pilotis.ports import CostEvent, Deps

Kind = Literal["answer", "search"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a request consumed and cost, as the ledger holds it."""

    usages: tuple[Usage, ...]
    """One per model call: the question's embedding, the reranking, the writing."""
    cost_eur: Decimal
    priced: bool
    """False where a price was unknown: `cost_eur` is then the part that could be priced."""
    price_book: str
    fx: Mapping[str, str] | None
    """The exchange rate, None where every price was in euros."""
    elsewhere_eur: Mapping[str, Decimal | None]
    """What the same request would have cost in each other env of the contract; None where a price is unknown there."""
    at: datetime


class Tab:
    """Collects what one request consumes. Left unsettled, the block settles what was consumed until then.

    Whoever ends early (a failing model, a client that is gone) has spent all the same: the event is stored before the exception
    goes on. A cancellation waits for the ledger and is never swallowed.
    """

    def __init__(self, request_id: str, bu: str, kind: Kind, *, env: Env, plan: Plan, deps: Deps) -> None:
        self.id = request_id
        self._bu, self._env, self._plan, self._deps = bu, env, plan, deps
        self._kind: Kind = kind
        self._usages: list[Usage] = []
        self._closed: Receipt | None = None
        self._storing: asyncio.Task[None] | None = None
        self._settled = False

    def add(self, usage: Usage) -> None:
        """Put the consumption of one model call on the tab."""
        assert self._closed is None, "the tab is closed"
        self._usages.append(usage)

    def close(self) -> None:
        """Nothing more will be consumed: the event is on its way to the ledger while the request goes on. `settle` waits for it."""
        self._closed = self._receipt()
        self._storing = asyncio.ensure_future(self._store(self._closed))

    async def settle(self, work: Work | None = None) -> Receipt:
        """Store the event, then say what it cost, and with `work` what it would have cost elsewhere.

        Raises what the ledger raises: the request must then not be acknowledged.
        """
        if self._storing is None or _failed(self._storing):
            self.close()
        assert self._closed is not None
        assert self._storing is not None
        others = elsewhere(work, self._env.name, self._plan) if work else {}
        await _undisturbed(self._storing)
        return replace(self._closed, elsewhere_eur=others)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._settled or (not self._usages and self._storing is None):
            return
        try:
            await self.settle()
        except PilotisError as unsettled:
            if error is None:
                raise
            error.add_note(f"and what it cost could not be stored: {unsettled.message}")

    def _receipt(self) -> Receipt:
        lines = [self._price(usage) for usage in self._usages]
        return Receipt(
            usages=tuple(self._usages),
            cost_eur=sum((line.cost_eur for line in lines), Decimal(0)),
            priced=all(line.priced for line in lines),
            price_book=self._plan.book.id,
            fx=next((line.fx for line in lines if line.fx), None),
            elsewhere_eur={},
            at=datetime.now(UTC),
        )

    def _price(self, usage: Usage) -> Priced:
        return price(usage, self._plan.book, self._plan.fx)

    async def _store(self, receipt: Receipt) -> None:
        model = self._env.llm.model if self._kind == "answer" else self._env.embedder.model
        event = CostEvent(
            id=self.id,
            at=receipt.at,
            env=self._env.name,
            plane="online",
            bu=self._bu,
            kind=self._kind,
            subject=self.id,
            model=model,
            usage={"calls": [asdict(usage) for usage in receipt.usages]},
            cost_eur=receipt.cost_eur,
            price_book=receipt.price_book,
            fx=receipt.fx,
            priced=receipt.priced,
        )
        await self._deps.ledger.append(event)
        self._settled = True
        self._deps.meter.count("rag_cost_eur_total", float(receipt.cost_eur), plane="online", bu=self._bu, model=model)
        for usage in receipt.usages:
            if not self._price(usage).priced:
                self._deps.meter.count("rag_cost_unpriced_total", model=usage.model)
            parts = {
                "input": usage.input_tokens - usage.cached_tokens,
                "cached": usage.cached_tokens,
                "output": usage.output_tokens,
            }
            for part, tokens in parts.items():
                if tokens > 0:
                    self._deps.meter.count("rag_tokens_total", tokens, model=usage.model, **{"class": part})


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
