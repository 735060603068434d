"""A circuit breaker: an endpoint that keeps failing is left alone for a while, and then tried by one request.

The pattern is M. Nygard's (Release It!, 2007). The libraries for it that are kept up count in threads or know no half-open
state for coroutines; this is all that is needed of one.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Literal

FAILURES = 8
"""So many attempts in a row open it: more than one request makes by itself."""
REST_S = 5.0
LONGEST_REST_S = 60.0
PROBE_S = 30.0
"""A probe that never says how it ended is forgotten after this time."""


class Breaker:
    """For one endpoint and one event loop. `watch` is told 1 when it opens and 0 when it closes."""

    def __init__(self, *, watch: Callable[[float], None] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._watch, self._clock = watch or _nobody, clock
        self._failures = 0
        self._rest_s = REST_S
        self._open_until: float | None = None
        self._probing_since: float | None = None

    @property
    def state(self) -> Literal["closed", "open", "half-open"]:
        if self._open_until is None:
            return "closed"
        return "open" if self._clock() < self._open_until else "half-open"

    def retry_after_s(self) -> float | None:
        """None where a request may go out, which then says how it ended; else how long the endpoint is left alone."""
        if self._open_until is None:
            return None
        now = self._clock()
        if now < self._open_until:
            return self._open_until - now
        if self._probing_since is not None and now - self._probing_since < PROBE_S:
            return 1.0
        self._probing_since = now
        return None

    def succeeded(self) -> None:
        """The endpoint answers."""
        if self._open_until is not None:
            self._watch(0)
        self._failures, self._rest_s, self._open_until, self._probing_since = 0, REST_S, None, None

    def failed(self) -> None:
        """It does not, in a way that another try may mend. A probe that fails makes the next rest twice as long."""
        self._failures += 1
        probed, self._probing_since = self._probing_since is not None, None
        if not probed and self._failures < FAILURES:
            return
        if self._open_until is None:
            self._watch(1)
        elif probed:
            self._rest_s = min(2 * self._rest_s, LONGEST_REST_S)
        self._open_until = self._clock() + self._rest_s * random.uniform(0.8, 1.2)  # noqa: S311 - spreads processes, protects nothing

    def abandoned(self) -> None:
        """The request was given up by its caller: that says nothing of the endpoint."""
        self._probing_since = None


def _nobody(_: float) -> None:
    """Nobody wants to know."""
