"""Fakes of the queues: what waits in a `MemoryDocuments`, a provider's pace, who was woken."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from pilotis.ports import EVERYBODY, Pause, Quota, State, Waiting, WorkQueue
from pilotis.ports.backlog import Nudged
from pilotis.testing.batch import MemoryDocuments, Row


class MemoryBacklog:
    """The queues of a `MemoryDocuments`."""

    def __init__(self, documents: MemoryDocuments) -> None:
        self._documents = documents

    async def waiting(self) -> Sequence[Waiting]:
        names: dict[State, Literal["ingest", "embed", "failed"]] = {
            "received": "ingest",
            "parsing": "ingest",
            "embedding": "embed",
            "failed": "failed",
        }
        found: dict[tuple[Literal["ingest", "embed", "failed"], str], list[Row]] = {}
        for row in self._documents.rows.values():
            if row.document.state in names:
                found.setdefault((names[row.document.state], row.document.bu), []).append(row)
        return [self._waiting(queue, bu, rows) for (queue, bu), rows in sorted(found.items())]

    async def retry(self, bu: str | None = None, ids: Sequence[str] | None = None) -> int:
        again = [
            row
            for row in self._documents.rows.values()
            if row.document.state == "failed" and bu in {None, row.document.bu} and (ids is None or row.document.id in ids)
        ]
        for row in again:
            row.set(state="received", error=None, failed_in=None, attempts=0)
            row.deaths, row.next_try, row.lease_until = 0, time.monotonic(), 0.0
        return len(again)

    async def cancel(self, bu: str, ids: Sequence[str], *, reason: str) -> Sequence[str]:
        found = []
        for row in self._documents.rows.values():
            document = row.document
            if document.bu == bu and document.id in ids and document.state not in {"indexed", "failed"}:
                row.set(failed_in=document.state, state="failed", error=reason)
                row.lease_until, row.staged, row.drafts = 0.0, {}, []
                found.append(document.id)
        return found

    async def pause(self, queue: WorkQueue, bu: str, *, until: datetime | None, reason: str) -> None:
        ends = until or datetime(9999, 1, 1, tzinfo=UTC)
        self._documents.pauses[queue, bu] = Pause(queue=queue, bu=bu, until=ends, reason=reason)

    async def resume(self, queue: WorkQueue | None = None, bu: str | None = None) -> int:
        ended = [one for one in await self.pauses() if queue in {None, one.queue} and bu in {None, one.bu}]
        for one in ended:
            del self._documents.pauses[one.queue, one.bu]
        return len(ended)

    async def pauses(self) -> Sequence[Pause]:
        now = datetime.now(UTC)
        return sorted((one for one in self._documents.pauses.values() if one.until > now), key=lambda one: (one.queue, one.bu))

    def _waiting(self, queue: Literal["ingest", "embed", "failed"], bu: str, rows: list[Row]) -> Waiting:
        now = datetime.now(UTC)
        pauses = [self._documents.pauses.get((queue, one)) for one in (bu, EVERYBODY) if queue != "failed"]
        pause = next((one for one in pauses if one and one.until > now), None)
        return Waiting(
            queue=queue,
            bu=bu,
            documents=len(rows),
            passages=sum(draft.vector is None for row in rows for draft in row.drafts) if queue == "embed" else 0,
            oldest_s=(now - min(row.document.received_at for row in rows)).total_seconds(),
            paused_until=pause.until if pause else None,
            reason=pause.reason if pause else None,
        )


class MemoryPace:
    """Lets everybody through, but for models that rest."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, int]] = []
        self.resting: dict[str, float] = {}

    async def take(self, model: str, quota: Quota, *, tokens: int) -> float:  # noqa: ARG002
        left = self.resting.get(model, 0.0) - time.monotonic()
        if left <= 0:
            self.taken.append((model, tokens))
        return max(0.0, left)

    async def rest(self, model: str, seconds: float) -> None:
        self.resting[model] = time.monotonic() + seconds


class MemoryQueue:
    """Remembers who was woken."""

    def __init__(self) -> None:
        self.nudges: list[str] = []

    async def nudge(self, queue: Nudged) -> None:
        self.nudges.append(queue)
