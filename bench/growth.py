"""Ingestion against the size of the corpus: the time of every further 10,000 passages up to 100,000, and its plot.

    python bench/growth.py SOURCE [--step 10000] [--largest 100000] [--plot docs/ingestion.svg] [--json]

SOURCE is a folder of Markdown files or of judged sets; documents of 20 passages are synthesised around its passages. They take the road of
the workers in this process: received, parsed, cut, staged, published into the tables and indexes of the product. Only their vectors come
from mixtures of real ones, at once: the model takes the same time for every passage, however many there are already. The bars: the last
tenth takes at most 1.5 times what the first took, and memory is flat.
"""

from __future__ import annotations

import hashlib
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped,unused-ignore]
import psycopg

from common import Opened, measured, others_s, parser, report, spent_s
from pilotis.batch.embed import embed_waiting
from pilotis.batch.ingest import parse_waiting, receive
from pilotis.derive.plan import Env
from pilotis.ports import Deps, Embedder, Vectors
from synthetic import BU, real_passages

PER_DOCUMENT = 20
Row = dict[str, object]


class Mixed:
    """In the place of the model: of every text, the mean of two real vectors and noise, chosen by its digest."""

    def __init__(self, model: Embedder, vectors: Vectors) -> None:
        self.name, self.dimension, self.languages = model.name, model.dimension, model.languages
        self.count_tokens = model.count_tokens
        self._vectors = vectors

    async def embed(self, texts: Sequence[str]) -> Vectors:
        mixed = np.array([self._of(text) for text in texts])
        return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), np.float32)

    async def close(self) -> None:
        """Nothing to close."""

    def _of(self, text: str) -> np.ndarray:
        chance = np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]))
        a, b = chance.integers(len(self._vectors), size=2)
        share = chance.random()
        noise = chance.normal(0, 0.02, self.dimension)
        return np.asarray(share * self._vectors[a] + (1 - share) * self._vectors[b] + noise)


async def run(source: Path, step: int, largest: int, plot: Path | None, opened: Opened, *, as_json: bool) -> None:
    plan, env, addresses, deps = opened
    passages = real_passages(source)
    deps = replace(deps, embedder=Mixed(deps.embedder, await deps.embedder.embed(passages)))
    chance, sent = random.Random(3), 0
    rows: list[Row] = []
    while not rows or int(str(rows[-1]["passages"])) < largest - step / 2:
        for _ in range(step // PER_DOCUMENT):
            await _send(f"{sent}.md", passages, chance, env, deps)
            sent += 1
        times = [(time.perf_counter(), _all_s(addresses.database_url))]
        for waiting in (partial(parse_waiting, env, deps), partial(embed_waiting, plan, env, deps)):
            while await waiting():
                pass
            times.append((time.perf_counter(), _all_s(addresses.database_url)))
        with psycopg.connect(addresses.database_url) as connection:
            (indexed,) = connection.execute("SELECT count(*) FROM entry").fetchone() or (0,)
        more = indexed - (int(str(rows[-1]["passages"])) if rows else 0)
        (_, own0), (_, own1), (_, own2) = times
        rows.append(
            {
                "passages": indexed,
                "ms a passage": (times[2][0] - times[0][0]) * 1e3 / more,
                "CPU ms a passage": (own2 - own0) * 1e3 / more,
                "of which to the draft": (own1 - own0) * 1e3 / more,
                "of which to the index": (own2 - own1) * 1e3 / more,
                "MB": psutil.Process().memory_info().rss / 2**20,
            }
        )
        print(rows[-1], file=sys.stderr)
    first, last = (float(str(rows[n]["CPU ms a passage"])) for n in (0, -1))
    report(
        "Ingestion against corpus size",
        [*rows, {"passages": "last to first", "CPU ms a passage": last / first}],
        as_json=as_json,
    )
    if plot:
        _plot(rows, plot)


async def _send(name: str, passages: Sequence[str], chance: random.Random, env: Env, deps: Deps) -> None:
    """A document of sections, each half the sentences of two real passages."""
    parts = []
    for n in range(PER_DOCUMENT):
        a, b = chance.sample(passages, 2)
        sentences = a.split(". ") + b.split(". ")
        parts.append(f"## Section {n}\n\n{'. '.join(chance.sample(sentences, max(1, len(sentences) // 2)))}\n")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_text("\n".join(parts), encoding="utf-8")
        await receive(path, env, deps, bu=BU, collection="c", name=name, media_type="text/markdown", metadata={})


def _all_s(url: str) -> float:
    """Processor seconds of this process, of the one that parses and of Postgres, which hardly depend on who else works here."""
    return spent_s(psutil.Process()) + sum(others_s(url))


def _plot(rows: list[Row], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5))
    sizes = [int(str(row["passages"])) for row in rows]
    columns = {"CPU ms a passage": "o-", "of which to the draft": "s--", "of which to the index": "^:"}
    for column, style in columns.items():
        axes.plot(sizes, [float(str(row[column])) for row in rows], style, label=column)
    axes.set(xlabel="passages indexed", ylabel="milliseconds", ylim=(0, None), title="A further passage, all but its embedding")
    memory = axes.twinx()
    memory.plot(sizes, [float(str(row["MB"])) for row in rows], color="grey", linewidth=0.8, label="memory of the worker")
    memory.set(ylabel="MB", ylim=(0, None))
    lines = [line for each in (axes, memory) for line in each.get_lines()]
    axes.legend(lines, [str(line.get_label()) for line in lines], fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("source", type=Path)
    arguments.add_argument("--step", type=int, default=10_000)
    arguments.add_argument("--largest", type=int, default=100_000)
    arguments.add_argument("--plot", type=Path)
    options = arguments.parse_args()
    measured(lambda opened: run(options.source, options.step, options.largest, options.plot, opened, as_json=options.json))
