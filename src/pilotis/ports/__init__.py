"""What we ask of the world: small protocols named by role, the records they exchange, and `Deps` that holds one of each.

No logic lives here. Adapters implement these against one technology each; `testing` implements them in memory;
one conformance suite runs over both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pilotis.ports.backlog import EVERYBODY, Backlog, Pace, Pause, Quota, Waiting, WorkQueue
from pilotis.ports.books import CostEvent, Ledger, Line, Outbox, Plane, Spending
from pilotis.ports.content import (
    Blobs,
    Claim,
    Document,
    Documents,
    Hit,
    NewDocument,
    Parser,
    Passages,
    Pending,
    Query,
    Queue,
    State,
)
from pilotis.ports.generations import Generation, Generations, Standing
from pilotis.ports.models import Embedder, Generator, Reranker, Vectors
from pilotis.ports.money import (
    Admission,
    Admitted,
    ApiKey,
    Cache,
    CachedAnswer,
    CacheStats,
    Evidence,
    Guards,
    GuardState,
    Hold,
    Kept,
    Keys,
    Meter,
    Request,
    Right,
)
from pilotis.ports.quality import Evaluations, Feedback
from pilotis.ports.releases import Measures, Releases, Splits
from pilotis.ports.sources import Fetched, Item, Known, Run, Source, SourceItems, Unlisted

__all__ = [
    "EVERYBODY",
    "Admission",
    "Admitted",
    "ApiKey",
    "Backlog",
    "Blobs",
    "Cache",
    "CacheStats",
    "CachedAnswer",
    "Claim",
    "CostEvent",
    "Deps",
    "Document",
    "Documents",
    "Embedder",
    "Evaluations",
    "Evidence",
    "Feedback",
    "Fetched",
    "Generation",
    "Generations",
    "Generator",
    "GuardState",
    "Guards",
    "Hit",
    "Hold",
    "Item",
    "Kept",
    "Keys",
    "Known",
    "Ledger",
    "Line",
    "Meter",
    "NewDocument",
    "Outbox",
    "Pace",
    "Parser",
    "Passages",
    "Pause",
    "Pending",
    "Plane",
    "Query",
    "Queue",
    "Quota",
    "Request",
    "Reranker",
    "Right",
    "Run",
    "Source",
    "SourceItems",
    "Spending",
    "Standing",
    "State",
    "Unlisted",
    "Vectors",
    "Waiting",
    "WorkQueue",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deps:
    """One of each, opened and closed by `wiring`."""

    embedder: Embedder
    generators: Mapping[str, Generator]
    """By model: the env's, its compact one, its fallback. An answer by a model that is not here is extractive."""
    reranker: Reranker | None
    blobs: Blobs
    parser: Parser
    generation: Generation
    """The index that is searched: `passages` is of it, and `embedder` its model."""
    generations: Generations
    passages: Passages
    documents: Documents
    backlog: Backlog
    source_items: SourceItems
    keys: Keys
    ledger: Ledger
    admission: Admission
    cache: Cache
    outbox: Outbox
    pace: Pace
    guards: Guards
    releases: Releases
    splits: Splits
    measures: Measures
    """What each release did, as the API processes of this env log it."""
    evaluations: Evaluations
    feedback: Feedback
    queue: Queue
    meter: Meter
    instance: str
    """Which process this is, as its costs and its metrics say."""
