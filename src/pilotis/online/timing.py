"""How long each stage of a request took, and how long a stream may take."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pilotis.derive import genai
from pilotis.errors import Refused
from pilotis.online.stages import Stages
from pilotis.ports import Meter


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
        self.spans = Stages()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside, a failure too. Entered again, a stage adds up."""
        began, token = time.perf_counter(), self.spans.enter(name)
        try:
            yield
        finally:
            self.spans.leave(name, token)
            self._stages[name] = self._stages.get(name, 0.0) + time.perf_counter() - began

    def elapsed_s(self, stage: str | None = None) -> float:
        """Seconds spent in `stage` so far, or since the request began."""
        return time.perf_counter() - self._started if stage is None else self._stages.get(stage, 0.0)

    def report(self) -> None:
        """Tell the meter of each stage."""
        for name, seconds in self._stages.items():
            self._meter.observe("rag_stage_seconds", seconds, stage=name)
        self.spans.end()

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
        watch.spans.note({genai.OUTCOME: outcome.name})
        watch.report()
