"""Who asks while others delete: no answer may know what was gone when its question began."""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2


@dataclass
class Witness:
    """What was acknowledged as deleted, when, and the answers that tell of it nevertheless. For several threads."""

    asked: Counter[str] = field(default_factory=Counter)
    """Answers by where they came from (`hit`, `miss`, `off`), and what else became of a question."""
    wrong: list[str] = field(default_factory=list)
    _gone: dict[tuple[str, str], float] = field(default_factory=dict)
    _told: Counter[tuple[str, str]] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def cited(self) -> int:
        """How many answers told of something that went later."""
        return sum(times for trace, times in self._told.items() if trace in self._gone)

    def gone(self, bu: str, *traces: str, after_s: float = 0.0) -> None:
        """These ids of documents and words of theirs are gone as of now, or then: call it once the 204 is there."""
        now = time.monotonic() + after_s
        with self._lock:
            for trace in traces:
                self._gone.setdefault((bu, trace), now)

    def hear(self, bu: str, told: dict[str, Any], *, began: float, source: str) -> None:
        """Judge an answer to a question that began then, or passages that were found."""
        cited = [*told.get("citations", []), *told.get("passages", [])]
        traces = {one["document_id"] for one in cited}
        quoted = " ".join([told.get("answer", ""), *(one.get("quote", one.get("text", "")) for one in cited)])
        traces.update(re.findall(r"mark\d+v\d+", quoted))
        with self._lock:
            self.asked[source] += 1
            self._told.update((bu, trace) for trace in traces)
            late = sorted(trace for trace in traces if self._gone.get((bu, trace), began) < began)
            self.wrong += [
                f"{trace}, {began - self._gone[bu, trace]:.3f} s after its deletion, from {source}" for trace in late
            ]


def ask_until(  # noqa: PLR0917 - started as a thread
    over: threading.Event,
    http: httpx2.Client,
    witness: Witness,
    bu: str,
    subject: Callable[[random.Random], str],
    chance: random.Random,
) -> None:
    """Ask about one subject after the other, some of them again at once; a service that is away is asked later."""
    question = ""
    while not over.is_set():
        if not question or chance.random() < 0.6:
            question = f"What is the toll of the {subject(chance)} bridge?"
        began = time.monotonic()
        try:
            answer = http.post("/v1/ask", json={"question": question})
        except httpx2.TransportError:
            witness.asked["unreached"] += 1
            over.wait(0.2)
            continue
        if answer.status_code == 200:
            told = answer.json()
            witness.hear(bu, told, began=began, source=told["cache"])
        else:
            witness.asked[str(answer.status_code)] += 1
            over.wait(0.1)
