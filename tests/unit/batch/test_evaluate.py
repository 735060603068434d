"""Questions asked and judged, figures over them, verdicts, and two runs compared."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from pilotis.batch import compare, figures, gate, record
from pilotis.batch.evaluate import evaluate, judge
from pilotis.contract.load import parse
from pilotis.contract.model import Contract
from pilotis.errors import Invalid, Limited, NotFound, Permanent, SetupError, Transient
from pilotis.ports import Hit
from pilotis.ports.quality import Evaluation, Judged, Reply
from pilotis.rag.golden import Expected, GoldenQuestion


def hit(document: str, text: str = "") -> Hit:
    return Hit(
        passage_id=f"p-{document}", document_id=f"d-{document}", document=document, collection="c", title=None, headings=(), page=3,
        start=0, end=len(text), language="en", text=text, score=1.0, dense=0.0, lexical=0.0,
    )  # fmt: skip


def reply(*documents: str, **fields: Any) -> Reply:
    given: dict[str, Any] = {
        "id": "a", "text": "Paris [1].", "found": True, "language": "en", "ranked": tuple(hit(one) for one in documents),
        "cited": (), "latency_ms": 10.0, "cost_eur": Decimal("0.002"), "model": "m", "step": "full",
    }  # fmt: skip
    return Reply(**(given | fields))


def question(number: int = 1, **fields: Any) -> GoldenQuestion:
    return GoldenQuestion(
        **({"id": f"q{number}", "text": f"Question {number}?", "expected": (Expected(document="a"),)} | fields)
    )


def test_an_answer_is_judged_by_what_the_set_has() -> None:
    both = question(expected=(Expected(document="a"), Expected(document="b")), answers=("Paris",))
    judged = judge(both, reply("x", "a", "y", "b", cited=("p-a", "p-x", "p-gone")))
    assert judged.metrics == pytest.approx(
        {
            "hit@1": 0, "hit@5": 1, "mrr@10": 0.5, "ndcg@10": (1 / 1.584963 + 1 / 2.321928) / (1 + 1 / 1.584963),
            "citation_precision": 0.5, "exact_match": 1, "f1": 1, "contains": 1, "answered": 1,
        }
    )  # fmt: skip
    assert [(one.document, one.page, one.expected, one.cited) for one in judged.seen] == [
        ("x", 3, False, True),
        ("a", 3, True, True),
        ("y", 3, False, False),
        ("b", 3, True, False),
    ]
    assert judged.wanted == ("“Paris”", "a", "b")


def test_only_what_can_be_told_is() -> None:
    assert set(judge(question(expected=(), answers=("x",)), reply("a")).metrics) == {
        "exact_match",
        "f1",
        "contains",
        "answered",
    }
    nothing = question(expected=(), unanswerable=True)
    assert judge(nothing, reply("a")).metrics == {"abstained": 0}
    assert judge(nothing, reply("a", found=False)).metrics == {"abstained": 1}
    assert judge(question(), reply("a", found=False)).metrics["answered"] == 0


async def test_questions_come_back_in_their_order_and_only_so_many_run_at_once() -> None:
    running = most = 0
    told: list[tuple[int, int]] = []

    async def ask(one: GoldenQuestion) -> Reply:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (3 - int(one.id[1:]) % 3))
        running -= 1
        return reply("a", text=one.text)

    rows = await evaluate([question(n) for n in range(12)], ask, at_once=3, progress=lambda *now: told.append(now))
    assert [row.answer for row in rows] == [f"Question {n}?" for n in range(12)]
    assert most == 3
    assert told == [(n, 0) for n in range(1, 13)]


async def test_a_question_that_fails_counts_as_wrong_and_says_why() -> None:
    async def ask(one: GoldenQuestion) -> Reply:
        if one.id == "q1":
            raise Permanent("the model answered garbage")
        return reply("a")

    rows = await evaluate([question(1, answers=("x",)), question(2), question(3, expected=(), unanswerable=True)], ask)
    assert rows[0].error == "the model answered garbage"
    assert set(rows[0].metrics) == {"hit@1", "hit@5", "mrr@10", "ndcg@10", "exact_match", "f1", "contains", "answered"}
    assert set(rows[0].metrics.values()) == {0}
    assert rows[0].latency_ms is None
    found = figures.figures(rows)["all"]
    assert (found["hit@5"]["value"], found["hit@5"]["n"]) == (0.5, 2)
    assert (found["p95_ms"]["n"], found["error_rate"]["value"]) == (2, pytest.approx(1 / 3))


async def test_a_question_that_came_too_fast_is_put_again() -> None:
    errors: list[Exception] = [Limited("too fast", retry_after_s=7), Transient("away", retry_after_s=90)]
    waited: list[float] = []

    async def ask(_: GoldenQuestion) -> Reply:
        if errors:
            raise errors.pop(0)
        return reply("a")

    async def pause(seconds: float) -> None:
        waited.append(seconds)

    rows = await evaluate([question()], ask, pause=pause)
    assert rows[0].error is None
    assert waited == [7, 30]


async def test_a_server_that_stays_away_fails_the_question() -> None:
    tries = 0

    async def ask(_: GoldenQuestion) -> Reply:
        nonlocal tries
        tries += 1
        raise Transient("away")

    async def pause(_: float) -> None:
        pass

    (row,) = await evaluate([question()], ask, pause=pause)
    assert (row.error, tries) == ("away", 3)


@pytest.mark.parametrize(
    "error",
    [Limited("spent", code="budget_exceeded", status=402), SetupError("no key"), NotFound("no documents"), RuntimeError()],
)
async def test_what_fails_for_all_questions_ends_the_run(error: Exception) -> None:
    asked = 0

    async def ask(_: GoldenQuestion) -> Reply:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        raise error

    expected = type(error) if not isinstance(error, RuntimeError) else ExceptionGroup
    with pytest.raises(expected):
        await evaluate([question(n) for n in range(50)], ask, at_once=2)
    assert asked <= 4


def row(
    number: int, *, value: float = 1.0, ms: float = 10.0, cost: str = "0.001", tags: Sequence[str] = (), **fields: Any
) -> Judged:
    judged = judge(question(number, tags=tuple(tags)), reply("a", latency_ms=ms, cost_eur=Decimal(cost)))
    return replace(judged, metrics={"hit@5": value, "mrr@10": value / 2}, **fields)


def test_figures_are_also_by_tag() -> None:
    rows = [row(n, value=float(n % 2), ms=float(n), tags=["odd"] if n % 2 else ["even", "x"]) for n in range(100)]
    found = figures.figures(rows)
    assert found["all"]["hit@5"]["value"] == 0.5
    assert found["all"]["hit@5"]["low"] == pytest.approx(0.4, abs=0.03)
    assert found["all"]["p95_ms"]["value"] == pytest.approx(94.05)
    assert found["all"]["eur_per_request"]["value"] == pytest.approx(0.001)
    assert {tag: one["hit@5"]["value"] for tag, one in found["tags"].items()} == {"even": 0, "x": 0, "odd": 1}
    assert set(found["tags"]["odd"]) <= {*figures.METRICS, *figures.TOTALS}
    assert figures.figures([]) == {"all": {}, "tags": {}}


def contract(slo: str = "", more: str = "") -> Contract:
    from pathlib import Path

    return parse(f"{more}\n[slo]\n{slo}\n[envs.dev]\n", Path("pilotis.toml"))


def judged_by(slo: str, rows: Sequence[Judged], more: str = "") -> tuple[int, dict[str, str]]:
    lines = gate.gate(contract(slo, more), figures.figures(rows)["all"], paid_sample=50)
    return gate.exit_code(lines), {line.objective: line.verdict for line in lines}


def test_the_gate_tells_kept_from_broken() -> None:
    good, bad = [row(n) for n in range(60)], [row(n, value=float(n > 30), ms=900, cost="0.02") for n in range(60)]
    slo = "hit_at_5 = 0.9\np95_ms = 500\neur_per_req = 0.01"
    everything = {"slo.hit_at_5", "slo.p95_ms", "slo.eur_per_req", "slo.error_rate"}
    assert judged_by(slo, good) == (0, dict.fromkeys(everything, "kept"))
    code, verdicts = judged_by(slo, bad)
    assert code == 1
    assert verdicts == dict.fromkeys(everything, "broken") | {"slo.error_rate": "kept"}


def test_without_evidence_there_is_no_verdict() -> None:
    assert judged_by("hit_at_5 = 0.9", [row(n) for n in range(28)])[0] == 2
    assert judged_by("hit_at_5 = 0.9", [row(n) for n in range(29)])[0] == 0
    assert judged_by("hit_at_5 = 0.9", [row(n, value=0) for n in range(28)])[0] == 2
    assert judged_by("p95_ms = 500", [row(n) for n in range(58)])[0] == 2
    assert judged_by("p95_ms = 500", [row(n) for n in range(59)])[0] == 0
    assert judged_by("eur_per_req = 1", [row(n) for n in range(49)])[0] == 2
    assert judged_by("hit_at_5 = 1", [row(n) for n in range(59)])[0] == 0


def test_a_broken_line_weighs_more_than_a_missing_one() -> None:
    rows = [row(n, value=0.0) for n in range(40)]
    code, verdicts = judged_by("hit_at_5 = 0.9\np95_ms = 500", rows)
    assert (code, verdicts["slo.p95_ms"], verdicts["slo.hit_at_5"]) == (1, "too few", "broken")


def test_answers_that_fail_are_an_objective_of_every_contract() -> None:
    rows = [row(n, error="away" if n < 2 else None) for n in range(100)]
    assert judged_by("hit_at_5 = 0.5", rows) == (1, {"slo.hit_at_5": "kept", "slo.error_rate": "broken"})
    assert judged_by("hit_at_5 = 0.5", rows[:50]) == (2, {"slo.hit_at_5": "kept", "slo.error_rate": "too few"})


def test_the_guardrail_stands_for_a_cost_that_is_not_agreed() -> None:
    rows = [row(n) for n in range(60)]
    assert judged_by("", rows, "[costs]\nguardrail_eur_per_req = 0.0005")[1]["costs.guardrail_eur_per_req"] == "broken"


def test_a_set_that_cannot_tell_says_so() -> None:
    rows = [replace(row(n), metrics={"abstained": 1.0}) for n in range(60)]
    (line, _) = gate.gate(contract("hit_at_5 = 0.9"), figures.figures(rows)["all"], paid_sample=50)
    assert (line.verdict, line.n) == ("too few", 0)
    assert "questions with expected passages" in line.says()
    with pytest.raises(SetupError, match="promises nothing"):
        gate.gate(contract(), {}, paid_sample=50)


def test_a_line_says_figure_interval_limit_and_how_sure() -> None:
    rows = [row(n, value=float(n % 10 > 0)) for n in range(60)]
    lines = gate.gate(contract("hit_at_5 = 0.92\np95_ms = 500"), figures.figures(rows)["all"], paid_sample=50)
    assert lines[0].verdict == "broken"
    assert lines[0].is_close
    said = lines[0].says()
    assert said.startswith("slo.hit_at_5 at least 0.920: 0.900 [0.8")
    assert "over 60 questions; the limit lies within the interval" in said
    assert lines[1].says() == "slo.p95_ms at most 500 ms: 10 ms [10 ms to 10 ms] over 60 questions"


def run(identity: str, **fields: Any) -> Evaluation:
    given: dict[str, Any] = {
        "id": identity, "env": "dev", "bu": "b", "at": datetime(2026, 1, 1, tzinfo=UTC), "state": "done", "golden": "g",
        "digest": "d", "questions": 1, "config": {"top_k": 5, "llm": "extractive"},
    }  # fmt: skip
    return Evaluation(**(given | fields))


def test_runs_are_compared_question_by_question() -> None:
    before = [row(n, value=float(n % 2), ms=20.0) for n in range(40)]
    after = [row(n, value=1.0, ms=10.0) for n in range(5, 50)]
    found = compare.compare((run("r1"), before), (run("r2", config={"top_k": 9, "llm": "extractive"}), after))
    assert (found.shared, found.only_before, found.only_after) == (35, 5, 10)
    assert found.settings == {"top_k": (5, 9)}
    changes = {one.name: one for one in found.changes}
    assert changes["hit@5"].before == pytest.approx(18 / 35)
    assert changes["hit@5"].verdict == "better"
    assert changes["latency_ms"].verdict == "better"
    assert changes["eur_per_request"].verdict == "no difference shown"
    assert changes["hit@5"].test.up == 17
    assert len(found.moved) == 17
    back = compare.compare((run("r2"), after), (run("r1"), before))
    assert {one.verdict for one in back.changes} == {"worse", "no difference shown"}
    assert back.moved[0][2] == pytest.approx(-0.75)


def test_another_question_under_the_same_id_is_not_the_same() -> None:
    changed = replace(row(1), question="Another?")
    with pytest.raises(Invalid, match="share no question"):
        compare.compare((run("r1"), [row(1)]), (run("r2"), [changed]))


def test_a_run_is_read_from_its_file_again() -> None:
    import json

    from pilotis.cli.output import _plain

    rows = [row(1, tags=["a"]), row(2, error="x")]
    text = json.dumps(record.document(run("r1"), rows), default=_plain)
    assert record.read(text, name="f.json") == (run("r1"), rows)
    for broken in ("", "[]", "{}", text.replace('"form": 1', '"form": 2'), text.replace('"seen"', '"sene"')):
        with pytest.raises(Invalid, match=r"f\.json holds no run"):
            record.read(broken, name="f.json")


async def test_what_a_worker_gets_is_the_set_again() -> None:
    from pilotis.batch import runs
    from pilotis.contract.presets import default
    from pilotis.derive.plan import derive
    from pilotis.errors import SetupError
    from pilotis.rag.golden import parse as parse_golden
    from pilotis.testing.quality import MemoryEvaluations

    golden = parse_golden(
        '{"question": "q", "passages": ["a"]}\n{"id": "u", "question": "r", "unanswerable": true}', name="g.jsonl"
    )
    env = derive(default()).env("dev")
    evaluations = MemoryEvaluations()
    begun = runs.begin(golden, env=env, bu="b", config={}, state="waiting")
    await evaluations.add(begun, order=runs.order_of(golden, changes=["top_k=3"], at_once=2))
    claimed = await evaluations.claim(lease_s=60)
    assert claimed is not None
    assert runs.ordered(*claimed) == (golden, ["top_k=3"], 2)
    await runs.give_up(claimed[0], SetupError("no key"), evaluations)
    ended = await evaluations.get(begun.id)
    assert (ended.state, ended.error) == ("failed", "no key")


async def test_a_run_that_breaks_off_leaves_nothing() -> None:
    from pilotis.batch import runs
    from pilotis.contract.presets import default
    from pilotis.derive.plan import derive
    from pilotis.rag.golden import parse as parse_golden
    from pilotis.testing.quality import MemoryEvaluations

    golden = parse_golden('{"question": "q", "passages": ["a"]}', name="g.jsonl")
    evaluations = MemoryEvaluations()
    begun = runs.begin(golden, env=derive(default()).env("dev"), bu="b", config={})

    async def ask(_: GoldenQuestion) -> Reply:
        raise Limited("spent", code="budget_exceeded", status=402)

    with pytest.raises(Limited):
        await runs.carry_out(begun, golden, ask, evaluations, at_once=1, progress=lambda _done, _failed: None)
    assert list(await evaluations.list()) == []
