"""Ingestion of real files through real workers, against the bare embedding of the same passages by the same model.

    python bench/ingest.py SOURCE [--passages 2000] [--json]

SOURCE is a folder of Markdown files or of judged sets. Whole: files are received, parsed, cut, embedded and published by the Celery
workers, the clock running from the first file to the last document visible. Bare: the same passages through the embedder alone, once
the workers are gone. The bar: at least 0.85 of the bare rate.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import psycopg

from common import parser, private_stack, report
from pilotis.adapters.onnx import OnnxEmbedder
from pilotis.batch.ingest import receive
from pilotis.cli import workers
from pilotis.derive.plan import Env
from pilotis.ports import Deps
from pilotis.wiring import open_deps
from synthetic import real_passages

BU, PER_FILE = "bench", 20


async def ingest(folder: Path, env: Env, deps: Deps) -> float:
    """Seconds from the first file to the last document visible."""
    files = sorted(folder.iterdir())
    began = time.perf_counter()
    ids = []
    for path in files:
        document, _ = await receive(
            path, env, deps, bu=BU, collection="default", name=path.name, media_type="text/markdown", metadata={}
        )
        ids.append(document.id)
    while (counts := await deps.documents.counts(BU, ids)).get("indexed", 0) < len(ids):
        assert not counts.get("failed"), counts
        await asyncio.sleep(0.05)
    return time.perf_counter() - began


async def bare(model: OnnxEmbedder, texts: list[str], batch: int) -> float:
    began = time.perf_counter()
    for start in range(0, len(texts), batch):
        await model.embed(texts[start : start + batch])
    return time.perf_counter() - began


def run(source: Path, count: int, *, as_json: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, private_stack() as (given, plan, env, addresses):
        passages = real_passages(source, count)
        for n in range(0, len(passages), PER_FILE):
            sections = [f"## Section {n + i}\n\n{text}\n" for i, text in enumerate(passages[n : n + PER_FILE])]
            Path(folder, f"{n:06}.md").write_text("\n".join(sections), encoding="utf-8")

        async def whole() -> float:
            async with open_deps(given, plan, env, addresses=addresses) as deps:
                await _warm(Path(folder), env, deps)
                return await ingest(Path(folder), env, deps)

        async def alone(texts: list[str]) -> float:
            async with open_deps(given, plan, env, addresses=addresses, batch=True) as deps:
                assert isinstance(deps.embedder, OnnxEmbedder)
                return await bare(deps.embedder, texts, env.batch_emb)

        with workers.running(given, plan, env, addresses):
            whole_s = asyncio.run(whole())
        with psycopg.connect(addresses.database_url) as connection:
            texts = [
                row[0]
                for row in connection.execute("SELECT indexed_text FROM passage JOIN entry USING (key) WHERE bu = %s", (BU,))
            ]
        # Measured when the workers are gone, so that the model has the machine to itself, as the bar asks.
        bare_s = asyncio.run(alone(texts))
    rows: list[dict[str, object]] = [
        {"what": "bare embedding", "passages": len(texts), "passages/s": len(texts) / bare_s},
        {"what": "whole ingestion", "passages": len(texts), "passages/s": len(texts) / whole_s, "ratio": bare_s / whole_s},
    ]
    report("Ingestion", rows, as_json=as_json)


async def _warm(folder: Path, env: Env, deps: Deps) -> None:
    """One file of another unit, so that the workers are up and the model is loaded."""
    first = next(iter(sorted(folder.iterdir())))
    document, _ = await receive(
        first, env, deps, bu="warm", collection="c", name="warm.md", media_type="text/markdown", metadata={}
    )
    while (await deps.documents.get("warm", document.id)).state != "indexed":  # noqa: ASYNC110
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("source", type=Path)
    arguments.add_argument("--passages", type=int, default=2000)
    options = arguments.parse_args()
    run(options.source, options.passages, as_json=options.json)
