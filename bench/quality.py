"""hit@5 and nDCG@10 of the product's own search, through the real database, on judged sets.

    python bench/quality.py DATA [--only SET] [--limit N] [--json]

DATA holds one folder per set (corpus.jsonl.gz, queries.jsonl.gz, qrels.tsv.gz). Each document of a set is cut, embedded, staged and
published as any document is; each question goes through `pilotis.online.search`. Of sets with more than 1,000 judged questions, the
1,000 of the published sample are asked. A document ranks where its first passage does. Metrics by ir_measures.
"""

from __future__ import annotations

import random
import sys
import time
from hashlib import sha256
from pathlib import Path

import ir_measures
from ir_measures import Success, nDCG

from common import Opened, Set, find_sets, measured, parser, quantile_ms, read_set, report
from pilotis.batch.embed import embed_waiting
from pilotis.derive.plan import Env, Plan
from pilotis.online.ask import Ask
from pilotis.online.search import search
from pilotis.ports import Deps, NewDocument
from pilotis.rag.passage import Parsed, cut

DEPTH = 30
"""Passages asked for: several may come from one document, and ten documents are ranked."""


async def measure(judged: Set, env: Env, plan: Plan, deps: Deps) -> dict[str, object]:
    began = time.perf_counter()
    names = await index(judged, plan, env, deps)
    indexed_s = time.perf_counter() - began
    asked = sorted(judged.relevant)
    if len(asked) > 1000:
        asked = random.Random(20240607).sample(asked, 1000)
    run, times = [], []
    for query in asked:
        began = time.perf_counter()
        found = await search(Ask(bu=judged.name, text=judged.queries[query], top_k=DEPTH), env, plan, deps)
        times.append(time.perf_counter() - began)
        documents = list(dict.fromkeys(names[hit.document_id] for hit in found.hits))[:10]
        run += [ir_measures.ScoredDoc(query, document, 10.0 - rank) for rank, document in enumerate(documents)]
    truth = [ir_measures.Qrel(q, d, grade) for q in asked for d, grade in judged.relevant[q].items()]
    scores = ir_measures.calc_aggregate([Success @ 5, nDCG @ 10], truth, run)
    return {
        "set": judged.name,
        "documents": len(judged.corpus),
        "questions": len(asked),
        "hit@5": scores[Success @ 5],
        "nDCG@10": scores[nDCG @ 10],
        "p50 ms": quantile_ms(times, 0.5),
        "p95 ms": quantile_ms(times, 0.95),
        "indexed in s": round(indexed_s, 1),
    }


async def index(judged: Set, plan: Plan, env: Env, deps: Deps, *, titles: bool = True) -> dict[str, str]:
    """Put the set's documents into a business unit of the set's name; return document id -> the set's id."""
    names = {}
    for row in judged.corpus:
        title = row.get("title") if titles else None
        content = f"# {title}\n\n{row['text']}" if title else row["text"]
        new = NewDocument(
            bu=judged.name,
            collection="default",
            name=row["id"],
            sha256=sha256(f"{row['id']}\0{content}".encode()).hexdigest(),
            size=len(content),
            media_type="text/markdown",
        )
        document, _ = await deps.documents.register(new)
        names[document.id] = row["id"]
        claim = await deps.documents.claim(lease_s=60)
        assert claim is not None
        assert claim.document.id == document.id
        parsed = Parsed(text=content, title=title or None)
        await deps.documents.stage(
            claim, parsed, cut(parsed, document_id=document.id, size_tokens=env.passage_tokens, languages=env.languages)
        )
    while await embed_waiting(plan, env, deps):
        pass
    return names


async def run(folders: list[Path], opened: Opened, *, as_json: bool) -> None:
    plan, env, _, deps = opened
    rows = []
    for folder in folders:
        rows.append(await measure(read_set(folder), env, plan, deps))
        print(rows[-1], file=sys.stderr)
    mean = {key: sum(float(str(row[key])) for row in rows) / len(rows) for key in ("hit@5", "nDCG@10", "p50 ms")}
    report("Quality of search", [*rows, {"set": "mean", **mean}], as_json=as_json)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--only", action="append", default=[], help="name of a set; may be repeated")
    options = arguments.parse_args()
    chosen = [folder for folder in find_sets(options.data) if not options.only or folder.name in options.only]
    measured(lambda opened: run(chosen, opened, as_json=options.json))
