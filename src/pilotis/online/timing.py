"""How long each stage of a request took, and how long a stream may take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from pilotis.errors import Refused, Transient
from pilotis.ports import Meter

T = TypeVar("T")


@dataclass(slots=True)
class Outcome:
    """How a request ended. Nobody sets it for a client that left."""

    name: str = "left"


class Stopwatch:
    """Times the stages of one request."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._started = time.perf_counter()
        self._stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside, a failure too. Entered again, a stage adds up."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._stages[name] = self._stages.get(name, 0.0) + time.perf_counter() - began

    def elapsed_s(self, stage: str | None = None) -> float:
        """Seconds spent in `stage` so far, or since the request began."""
        return time.perf_counter() - self._started if stage is None else self._stages.get(stage, 0.0)

    def report(self) -> None:
        """Tell the meter of each stage."""
        for name, seconds in self._stages.items():
            self._meter.observe("rag_stage_seconds", seconds, stage=name)

    def milliseconds(self) -> Mapping[str, float]:
        """By stage, and `total`."""
        return {name: round(seconds * 1e3, 3) for name, seconds in (*self._stages.items(), ("total", self.elapsed_s()))}


@contextmanager
def counted(meter: Meter, kind: str, watch: Stopwatch) -> Iterator[Outcome]:
    """Count one request, its time and that of its stages, under the outcome set inside or under how it ended: `refused`, `failed`, or `left`."""
    outcome = Outcome()
    try:
        yield outcome
    except Refused:
        outcome.name = "refused"
        raise
    except Exception:  # counted and raised again: whatever it is, this request failed
        outcome.name = "failed"
        raise
    finally:
        meter.count("rag_requests_total", kind=kind, outcome=outcome.name)
        meter.observe("rag_request_seconds", watch.elapsed_s(), kind=kind)
        watch.report()


async def timely(
    stream: AsyncIterator[T], watch: Stopwatch, *, first_byte_s: float, total_s: float, model: str
) -> AsyncGenerator[T, None]:
    """Pass `stream` on as the stage `generate`, and close it in the end, whatever happens.

    The clock stands still while the consumer works: a slow reader is not a slow model.

    Raises:
        Transient: the first item is not there after `first_byte_s`, or the last one after `total_s`.
    """
    missing, limit_s = "first token", min(first_byte_s, total_s)
    try:
        while True:
            try:
                async with asyncio.timeout(limit_s - watch.elapsed_s("generate")):
                    with watch.stage("generate"):
                        item = await anext(stream)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise Transient(
                    f"{model} did not send its {missing} within {limit_s:g} s",
                    remedy="try again; if it lasts, raise perf.first_byte_s or perf.total_s in the contract",
                ) from error
            missing, limit_s = "last token", total_s
            yield item
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()
