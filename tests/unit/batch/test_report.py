"""The page of a run: whole in itself, and safe whatever a document or a model calls itself."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import pytest

from pilotis.batch import gate
from pilotis.batch.compare import compare
from pilotis.batch.figures import figures
from pilotis.batch.report import MOST_QUESTIONS, page, rank, score, worst_first
from pilotis.contract.presets import default
from pilotis.ports.quality import Evaluation, Judged, Seen

HOSTILE = "</details><script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}"


def row(number: int, **fields: Any) -> Judged:
    given: dict[str, Any] = {
        "id": f"q{number}", "question": f"Question {number}?", "tags": ("all",), "metrics": {"hit@5": 1.0, "ndcg@10": 0.5},
        "answer": "Here. [1]", "found": True, "language": "en", "latency_ms": 10.0 + number, "cost_eur": Decimal("0.001"), "model": "m",
        "step": "full", "wanted": ("k.md",),
        "seen": (Seen(document="x.md", passage_id="p0", page=None, expected=False, cited=False),
                 Seen(document="k.md", passage_id="p1", page=4, expected=True, cited=True)),
    }  # fmt: skip
    return Judged(**(given | fields))


def run(rows: list[Judged], **fields: Any) -> tuple[Evaluation, list[Judged]]:
    given: dict[str, Any] = {
        "id": "0123456789", "env": "dev", "bu": "b", "at": datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "state": "done", "golden": "g.jsonl",
        "digest": "d" * 64, "questions": len(rows), "config": {"top_k": 5, "llm": "m", "flags": ["hybrid"]}, "figures": figures(rows),
    }  # fmt: skip
    return Evaluation(**(given | fields)), rows


class Reader(HTMLParser):
    """What a browser would act on."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.depth: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in {"meta", "br"}:
            self.depth.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.depth, f"</{tag}> closes nothing"
        assert self.depth.pop() == tag


@pytest.fixture(scope="module")
def hostile() -> str:
    rows = [
        row(
            n,
            id=f"{n}{HOSTILE}",
            question=HOSTILE,
            tags=(HOSTILE,),
            answer=HOSTILE,
            wanted=(HOSTILE,),
            error=HOSTILE if n == 3 else None,
            model=HOSTILE,
            step=HOSTILE,
            seen=(Seen(document=HOSTILE, passage_id=HOSTILE, page=1, expected=True, cited=True),),
        )
        for n in range(12)
    ]
    made = run(rows, golden=HOSTILE, bu=HOSTILE, config={HOSTILE: HOSTILE, "list": [HOSTILE]})
    worse = run([replace(one, metrics={"hit@5": 0.0}) for one in rows], config={HOSTILE: 1})
    lines = gate.gate(default(), made[0].figures["all"], paid_sample=5)
    return page(made, compare(worse, made), lines)


def test_nothing_that_is_shown_can_run(hostile: str) -> None:
    read = Reader(hostile)
    assert read.depth == []
    assert read.tags.isdisjoint({"script", "img", "iframe", "object", "embed", "link", "a", "form", "base"})
    assert not [name for name in read.attributes if name.startswith("on")]
    assert "<script" not in hostile
    assert "{{ 7*7 }}" in hostile
    assert "&lt;script&gt;" in hostile
    assert "default-src 'none'" in hostile


def test_the_page_asks_for_nothing_else(hostile: str) -> None:
    assert Reader(hostile).attributes.isdisjoint({"src", "href", "srcset", "action", "data"})
    assert not re.search(r"https?:|//\w|@import|url\(", hostile)


def test_the_page_shows_figures_verdicts_and_the_worst_first() -> None:
    rows = [row(n, metrics={"hit@5": float(n % 4 > 0), "ndcg@10": 0.5}) for n in range(40)]
    made = run([*rows, row(40, error="the model is away", latency_ms=None, metrics={"hit@5": 0.0, "ndcg@10": 0.0})])
    before = run([replace(one, metrics={"hit@5": 1.0, "ndcg@10": 0.5}) for one in rows], id="before", config={"top_k": 9})
    text = page(made, compare(before, made), gate.gate(default(), made[0].figures["all"], paid_sample=100))
    shown = " ".join(re.sub(r"<[^>]+>", " ", text.split("</style>")[1]).split())
    assert "not enough evidence" in shown
    assert "hit@5 0.732, 95 % interval" in shown
    assert "top_k 9 → 5" in shown
    assert "worse" in shown
    assert "40 questions in both, 1 only here" in shown
    assert shown.index("the model is away") < shown.index("Question 0?", shown.index("worst first"))
    assert "P95" in shown


def test_a_run_without_figures_is_a_page_too() -> None:
    waiting = run([], state="waiting", figures={})
    assert "Figures" in page(waiting, None, ())
    assert Reader(page(waiting, None, ())).depth == []


def test_a_very_long_run_is_not_a_very_long_page() -> None:
    rows = [row(n) for n in range(MOST_QUESTIONS + 7)]
    text = page(run(rows), None, ())
    assert text.count("<details") == MOST_QUESTIONS
    assert f"The {MOST_QUESTIONS} worst of {MOST_QUESTIONS + 7}" in text


def test_the_order_of_the_worst() -> None:
    failed, wrong = row(1, error="x"), row(2, metrics={"hit@5": 0.0, "ndcg@10": 0.0, "answered": 1.0})
    told, good = row(3, seen=(), metrics={"abstained": 0.0}), row(4, metrics={"hit@5": 1.0, "f1": 0.0})
    assert worst_first([good, told, wrong, failed]) == [failed, wrong, told, good]
    assert (score(good), score(wrong), score(row(5, metrics={"answered": 1.0}))) == (1, 0, 1)
    assert [rank(one) for one in (failed, wrong, told)] == ["failed", "2", "answered"]
    assert rank(row(6, seen=(), metrics={"hit@5": 0.0})) == "> 0"
