"""What a request cost is written to the ledger before it is acknowledged, and also where it ends early."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from types import TracebackType
from typing import Literal, Self

from pilotis.derive.cost import Usage, Work, elsewhere, price
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
        self._settled = False

    def add(self, usage: Usage) -> None:
        """Put the consumption of one model call on the tab."""
        self._usages.append(usage)

    async def settle(self, work: Work | None = None) -> Receipt:
        """Store the event, then say what it cost, and with `work` what it would have cost elsewhere.

        Raises what the ledger raises: the request must then not be acknowledged.
        """
        receipt = self._receipt(elsewhere(work, self._env.name, self._plan) if work else {})
        await _undisturbed(self._store(receipt))
        return receipt

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._settled or not self._usages:
            return
        try:
            await self.settle()
        except PilotisError as unsettled:
            if error is None:
                raise
            error.add_note(f"and what it cost could not be stored: {unsettled.message}")

    def _receipt(self, others_eur: Mapping[str, Decimal | None]) -> Receipt:
        lines = [price(usage, self._plan.book, self._plan.fx) for usage in self._usages]
        return Receipt(
            usages=tuple(self._usages),
            cost_eur=sum((line.cost_eur for line in lines), Decimal(0)),
            priced=all(line.priced for line in lines),
            price_book=self._plan.book.id,
            fx=next((line.fx for line in lines if line.fx), None),
            elsewhere_eur=others_eur,
            at=datetime.now(UTC),
        )

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
        if not receipt.priced:
            self._deps.meter.count("rag_cost_unpriced_total", model=model)
        for usage in receipt.usages:
            parts = {
                "input": usage.input_tokens - usage.cached_tokens,
                "cached": usage.cached_tokens,
                "output": usage.output_tokens,
            }
            for part, tokens in parts.items():
                if tokens > 0:
                    self._deps.meter.count("rag_tokens_total", tokens, model=usage.model, **{"class": part})


async def _undisturbed(work: Coroutine[object, object, None]) -> None:
    """Finish `work` though this task is being cancelled, however often; then let the cancellation go on."""
    task = asyncio.ensure_future(work)
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
