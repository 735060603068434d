"""What `pilotis ingest` says while nothing moves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pilotis.batch.embed import embed_waiting
from pilotis.batch.ingest import parse_waiting
from pilotis.cli import ingest
from pilotis.cli.progress import Progress
from pilotis.errors import Transient

if TYPE_CHECKING:
    from unit.batch.conftest import Town


class NoWorkers:
    """Workers that do nothing."""

    log = Path("workers.log")

    def watch(self) -> None:
        """Nothing died."""


async def test_ingest_tells_what_the_documents_wait_for(
    town: Town, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ingest, "POLL_S", 0.01)
    monkeypatch.setattr(ingest, "ASK_AFTER_S", 0.02)
    monkeypatch.setattr(ingest, "STALLED_S", 0.2)

    async def away(texts: Sequence[str]) -> Any:
        raise Transient("the embedding server cannot be reached")

    monkeypatch.setattr(town.embedder, "embed", away)
    document, _ = await town.send()
    await town.send("b.md", bu="south")
    await parse_waiting(town.env, town.deps)
    with pytest.raises(Transient):
        await embed_waiting(town.plan, replace(town.env, batch_emb=1), town.deps)
    tally = ingest.Tally(total=1, skipped=0, failed=[], waiting={document.id: document.name}, offered=1)
    stored = asyncio.create_task(asyncio.sleep(0))
    workers: Any = NoWorkers()
    with (
        Progress(1, quiet=False) as progress,
        pytest.raises(Transient, match=r"1 documents wait .*: the embedding server cannot be reached"),
    ):
        await ingest.wait(stored, town.deps, tally, progress=progress, running=workers, bu="north")
    assert capsys.readouterr().err.count("waiting: the embedding server cannot be reached") == 1
