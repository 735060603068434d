"""A closed loop of callers against a running API: each asks again as soon as it is answered."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, NamedTuple

from pilotis.derive.capacity import Step
from pilotis.errors import Invalid, PilotisError, Transient

WARM_SHARE = 0.1
"""Of a step's seconds: what is answered in it is not counted."""
LIMIT_S = 60.0
"""Of one answer."""


class Used(NamedTuple):
    """What one API process has used since it started."""

    started: float
    cpu_s: float
    requests: float


@dataclass(slots=True, kw_only=True)
class Target:
    """Who is asked, and what all asking has cost."""

    url: str
    """Scheme, host and port."""
    key: str
    questions: tuple[str, ...]
    nonce: str
    """In every question, with a number: so that no answer comes from a cache."""
    max_eur: Decimal = Decimal(0)
    spent_eur: Decimal = Decimal(0)
    asked: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def connect(self) -> HTTPConnection:
        scheme, _, place = self.url.partition("://")
        return (HTTPSConnection if scheme == "https" else HTTPConnection)(place, timeout=LIMIT_S)

    def ask(self, connection: HTTPConnection) -> dict[str, Any]:
        """One question, answered. Raises Invalid for a refusal and where it cost more than allowed, Transient where nobody answers."""
        with self._lock:
            self.asked += 1
            number = self.asked
        question = f"{self.questions[number % len(self.questions)]} ({self.nonce}-{number})"
        headers = {"content-type": "application/json", "x-api-key": self.key}
        try:
            connection.request("POST", "/v1/ask", json.dumps({"question": question}), headers)
            response = connection.getresponse()
            said = json.loads(response.read())
        except (OSError, HTTPException, ValueError) as error:
            raise Transient(
                f"{self.url} does not answer: {error or type(error).__name__}", remedy="start it: pilotis up"
            ) from error
        if response.status != 200:
            raise Invalid(
                f"{self.url} refuses with {response.status}: {said.get('detail', '')}",
                remedy=said.get("remedy") or "use a key with the right to ask, without rate limit",
            )
        with self._lock:
            self.spent_eur += Decimal(response.getheader("x-rag-cost-eur") or 0)
            if self.spent_eur > self.max_eur:
                raise Invalid(
                    f"these questions cost money: {self.spent_eur:f} EUR until now, and --max-eur is {self.max_eur:f}",
                    remedy="measure an env whose llm is extractive, or allow more: --max-eur 1",
                )
        return dict(said)

    def used(self) -> Used | None:
        """What the process that answers `/metrics` has used; None where it does not tell."""
        connection = self.connect()
        try:
            connection.request("GET", "/metrics")
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()
        return read_used(text) if response.status == 200 else None


def read_used(text: str) -> Used | None:
    """From Prometheus' text format."""
    found = {"process_start_time_seconds": 0.0, "process_cpu_seconds_total": 0.0, "rag_requests_total": 0.0}
    seen = set()
    for line in text.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if name in found:
            found[name] += float(line.rpartition(" ")[2])
            seen.add(name)
    return Used(*found.values()) if len(seen) == len(found) else None


def step(target: Target, callers: int, seconds: float, tell: Callable[[float], None]) -> Step:
    """So many callers for so long; `tell` gets the seconds gone. Raises what the first of them raises."""
    stop, failures, times = threading.Event(), list[PilotisError](), list[tuple[float, float]]()
    before, asked_before = target.used(), target.asked
    began = time.monotonic()

    def call() -> None:
        connection = target.connect()
        try:
            while not stop.is_set():
                asked = time.monotonic()
                target.ask(connection)
                times.append((time.monotonic(), time.monotonic() - asked))
        except PilotisError as error:
            failures.append(error)
            stop.set()
        finally:
            connection.close()

    threads = [threading.Thread(target=call, daemon=True) for _ in range(callers)]
    try:
        for thread in threads:
            thread.start()
        while (gone := time.monotonic() - began) < seconds and not stop.wait(min(0.2, seconds - gone)):
            tell(gone)
    finally:
        stop.set()
    ends = time.monotonic()
    for thread in threads:
        thread.join(LIMIT_S)
    if failures:
        raise failures[0]
    asked, after = target.asked - asked_before, target.used()
    found = _counted(callers, times, since=began + seconds * WARM_SHARE, until=ends)
    if before is None or after is None or before.started != after.started or after.requests <= before.requests:
        return found  # several processes behind one address answer in turn: these were two of them
    here = after.requests - before.requests
    vcpu_s = round((after.cpu_s - before.cpu_s) / here, 6) or None
    return replace(found, vcpu_s=vcpu_s, processes=max(1, round(asked / here)))


def _counted(callers: int, times: list[tuple[float, float]], *, since: float, until: float) -> Step:
    counted = [taken * 1e3 for ended, taken in times if since <= ended <= until]
    if len(counted) < 2:
        raise Transient(
            f"{len(counted)} answers in {until - since:.1f} s are too few to measure", remedy="give it longer: --seconds 60"
        )
    hundredths = statistics.quantiles(counted, n=100, method="inclusive")
    rps = round(len(counted) / (until - since), 3)
    return Step(callers=callers, rps=rps, p50_ms=round(hundredths[49], 3), p95_ms=round(hundredths[94], 3))


def doubled(most: int) -> Iterator[int]:
    """1, 2, 4 and so on, up to `most`."""
    callers = 1
    while callers <= most:
        yield callers
        callers *= 2
