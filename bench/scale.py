"""Search cost against corpus size: 1k, 10k and 100k passages, and its plot.

    python bench/scale.py SOURCE [--sizes 1000 10000 100000] [--plot docs/scale.svg] [--json]

SOURCE is a folder of Markdown files or of judged sets; the corpus is synthesised around its passages. The bar: the median at the
largest size is under 3 times that at the smallest.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from common import Opened, measured, parser, quantile_ms, report
from pilotis.online.ask import Ask
from pilotis.online.search import search
from synthetic import BU, grow, questions, real_passages

QUESTIONS, WARM_UP = 300, 50


async def run(source: Path, sizes: list[int], plot: Path | None, opened: Opened, *, as_json: bool) -> None:
    plan, env, addresses, deps = opened
    rows: list[dict[str, object]] = []
    passages = real_passages(source)
    vectors = await deps.embedder.embed(passages)
    asked = questions(passages, QUESTIONS)
    for size in sizes:
        began = time.perf_counter()
        await asyncio.to_thread(grow, addresses.database_url, passages, vectors, size=size)
        print(f"{size} passages loaded in {time.perf_counter() - began:.0f} s", file=sys.stderr)
        times, sql = [], []
        for n, text in enumerate(asked[:WARM_UP] + asked):
            began = time.perf_counter()
            found = await search(Ask(bu=BU, text=text, top_k=20), env, plan, deps)
            if n >= WARM_UP:
                times.append(time.perf_counter() - began)
                sql.append(found.timings_ms["search"] / 1e3)
        rows.append(
            {
                "passages": size,
                "p50 ms": quantile_ms(times, 0.5),
                "p95 ms": quantile_ms(times, 0.95),
                "SQL p50 ms": quantile_ms(sql, 0.5),
                "p50 / smallest": 1.0 if not rows else quantile_ms(times, 0.5) / float(str(rows[0]["p50 ms"])),
            }
        )
    report("Search against corpus size", rows, as_json=as_json)
    if plot:
        _plot(rows, plot)


def _plot(rows: list[dict[str, object]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5))
    sizes = [int(str(row["passages"])) for row in rows]
    for column, style in (("p50 ms", "o-"), ("p95 ms", "s--"), ("SQL p50 ms", "^:")):
        axes.plot(sizes, [float(str(row[column])) for row in rows], style, label=column)
    bar = 3 * float(str(rows[0]["p50 ms"]))
    axes.axhline(bar, color="grey", linewidth=0.8)
    axes.annotate("3 x the median at the smallest size", (sizes[0], bar), fontsize=8, va="bottom", color="grey")
    axes.set(
        xscale="log", xlabel="passages", ylabel="milliseconds", ylim=(0, None), title="A search, end to end in the process"
    )
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("source", type=Path)
    arguments.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    arguments.add_argument("--plot", type=Path)
    options = arguments.parse_args()
    measured(lambda opened: run(options.source, options.sizes, options.plot, opened, as_json=options.json))
