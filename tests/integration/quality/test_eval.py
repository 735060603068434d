"""Evaluation as a user does it: a folder of documents, a golden file, the command line, a worker, and votes over HTTP."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pilotis.cli import run

if TYPE_CHECKING:
    from integration.conftest import Up

PLACES = ("Paris", "Lyon", "Lille", "Nantes", "Rennes", "Brest", "Nice", "Metz")
GOLDEN = [
    {"id": f"q{n}", "question": f"When was the bridge of {place} built?", "passages": [{"document": f"{place}.md", "quote": f"bridge of {place}"}],
     "answers": [str(1800 + n)], "tags": ["bridge"]}
    for n, place in enumerate(PLACES)
]  # fmt: skip
"""The wrong answer to the question about Metz is part of the test."""


def environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PILOTIS_")}


@dataclass(frozen=True)
class Said:
    stdout: str
    stderr: str


def pilotis(up: Up, *args: str, code: int = 0) -> Said:
    """Run a command in this process, which saves starting one: what it does to the service is the same."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(up.data.parent), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        ended = run(["--data", str(up.data), "--bu", "towns", *args])
    assert ended == code, err.getvalue() + out.getvalue()
    return Said(out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def golden(up: Up) -> Path:
    folder = up.data.parent / "towns"
    folder.mkdir()
    for n, place in enumerate(PLACES):
        year = 1800 + n if place != "Metz" else 1950
        text = f"# {place}\n\nThe bridge of {place} was built in {year} and carries the old road over the river.\n"
        (folder / f"{place}.md").write_text(text)
    pilotis(up, "ingest", str(folder))
    path = up.data.parent / "towns.jsonl"
    path.write_text(
        "".join(json.dumps(row) + "\n" for row in GOLDEN) + '{"question": "Draft?", "passages": ["x"], "draft": true}\n'
    )
    return path


def test_a_run_is_judged_stored_compared_and_shown(up: Up, golden: Path) -> None:
    report = up.data.parent / "report.html"
    shown = pilotis(up, "eval", "run", str(golden), "--report", str(report))
    assert "1 drafts" in shown.stderr
    assert "without budgets" not in shown.stderr
    assert "When was the bridge of Metz built?" in shown.stdout.split("worst first")[1]
    assert "<script" not in report.read_text()
    (first,) = json.loads(pilotis(up, "--json", "eval", "list").stdout)
    assert (first["state"], first["questions"], first["golden"]) == ("done", 8, "towns.jsonl")
    figures = first["figures"]["all"]
    assert figures["hit@5"]["value"] == 1
    assert figures["contains"]["value"] == 7 / 8
    assert figures["eur_per_request"]["value"] == 0
    assert pilotis(up, "eval", "baseline", "set", first["id"][:8]).stdout.startswith("runs of towns.jsonl")

    kept = up.data.parent / "run.json"
    kept.write_text(pilotis(up, "--json", "eval", "run", str(golden), "--set", "top_k=1").stdout)
    second = json.loads(kept.read_text())
    assert second["comparison"]["before"]["id"] == first["id"], "its set has a baseline"
    assert second["comparison"]["settings"]["top_k"]["after"] == 1
    assert [one["id"] for one in second["questions"]] == [f"q{n}" for n in range(8)]
    compared = pilotis(up, "eval", "compare", first["id"], str(kept))
    assert "no difference shown" in compared.stdout
    alone = pilotis(up, "--json", "eval", "compare", str(kept), str(kept))
    assert json.loads(alone.stdout)["shared"] == 8
    assert "q7" in pilotis(up, "eval", "show", second["run"]["id"]).stdout
    pilotis(up, "eval", "show", "nothing", code=1)


def test_its_cost_is_the_batch_planes(up: Up, golden: Path) -> None:
    pilotis(up, "eval", "run", str(golden), "--baseline", "none")
    rows = json.loads(pilotis(up, "--json", "cost", "report", "--by", "plane,kind").stdout)["rows"]
    booked = {(row["plane"], row["kind"]): row["requests"] for row in rows}
    assert booked["batch", "eval"] % 8 == 0
    assert ("online", "answer") not in booked


def test_the_gate_speaks_by_its_exit_code(up: Up, golden: Path) -> None:
    contract = up.data.parent / "gated.toml"

    def gate(slo: str, code: int, file: Path = golden) -> str:
        contract.write_text(f'[slo]\n{slo}\n[envs.dev]\nllm = "extractive"\n')
        done = pilotis(up, "--contract", str(contract), "eval", "run", str(file), "--gate", "--baseline", "none", code=code)
        return done.stdout

    assert "kept: slo.hit_at_5 at least 0.500: 1.000 [1.000 to 1.000] over 8 questions" in gate("hit_at_5 = 0.5", 0)
    assert "not enough evidence: slo.hit_at_5" in gate("hit_at_5 = 0.9", 2)
    wrong = up.data.parent / "wrong.jsonl"
    wrong.write_text(golden.read_text().replace(".md", ".txt"))
    assert "broken: slo.hit_at_5 at least 0.500: 0.000" in gate("hit_at_5 = 0.5", 1, wrong)


def test_drafts_are_for_a_person_to_accept(up: Up, golden: Path) -> None:
    out = up.data.parent / "drafts.jsonl"
    pilotis(up, "eval", "propose", "-n", "5", "--out", str(out))
    assert len(out.read_text().splitlines()) == 5
    again = pilotis(up, "eval", "propose", "-n", "5", "--out", str(out))
    assert "5 were there already" in again.stderr
    refused = pilotis(up, "eval", "run", str(out), code=1)
    assert "5 drafts and no accepted question" in refused.stderr
    out.write_text(out.read_text().replace('"accepted": false', '"accepted": true'))
    done = json.loads(pilotis(up, "--json", "eval", "run", str(out)).stdout)
    assert done["run"]["figures"]["all"]["hit@5"]["value"] == 1


def test_a_queued_run_is_carried_out_by_a_worker(up: Up, golden: Path) -> None:
    queued = json.loads(pilotis(up, "--json", "eval", "run", str(golden), "--queue", "--set", "top_k=3").stdout)["run"]
    assert "waiting" in pilotis(up, "eval", "show", queued).stdout
    command = [sys.executable, "-m", "pilotis", "--data", str(up.data), "worker", "eval"]
    with (up.data.parent / "eval.log").open("w") as log:
        worker = subprocess.Popen(command, env=environ(), cwd=up.data.parent, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 40
        found: dict[str, Any] = {}
        while found.get("state") not in {"done", "failed"}:
            assert time.monotonic() < deadline, (up.data.parent / "eval.log").read_text()
            time.sleep(0.3)
            found = next(one for one in json.loads(pilotis(up, "--json", "eval", "list").stdout) if one["id"] == queued)
    finally:
        worker.terminate()
        worker.wait(20)
    assert found["state"] == "done", found["error"]
    assert found["config"]["top_k"] == 3
    pilotis(up, "eval", "run", str(golden), "--queue", "--gate", code=1)


def test_a_file_that_is_not_there_or_is_wrong(up: Up) -> None:
    assert "there is no file" in pilotis(up, "eval", "run", "nothing.jsonl", code=2).stderr
    broken = up.data.parent / "broken.jsonl"
    broken.write_text('{"question": "q", "passage": ["a"]}\n')
    told = pilotis(up, "eval", "run", str(broken), code=1).stderr
    assert "broken.jsonl, line 1: 'passage' is no field of it" in told
    assert "did you mean 'passages'?" in told


def test_a_vote_becomes_a_golden_question(up: Up, golden: Path) -> None:
    _, secret = up.key("towns")
    question = "In which year was the bridge of Nice built?"
    with up.client(secret) as client:
        answer = client.post("/v1/ask", json={"question": question}).json()
        again = client.post("/v1/ask", json={"question": question}).json()
        assert again["id"] == answer["id"]
        cited = answer["citations"][0]
        body = {"vote": "down", "question": question, "passage_id": cited["passage_id"], "comment": "say it in words"}
        kept = client.post(f"/v1/answers/{answer['id']}/feedback", json=body)
        assert kept.status_code == 200, kept.text
        assert kept.json()["document"] == "Nice.md"
    _, other = up.key("villages")
    with up.client(other) as client:
        assert client.post(f"/v1/answers/{answer['id']}/feedback", json={"vote": "up"}).status_code == 404
    (row,) = json.loads(pilotis(up, "--json", "feedback", "report").stdout)
    assert (row["bu"], row["up"], row["down"]) == ("towns", 0, 1)
    assert question in pilotis(up, "feedback", "list", "--vote", "down").stdout
    (line,) = pilotis(up, "feedback", "golden").stdout.splitlines()
    drafted = json.loads(line)
    assert drafted["question"] == question
    assert drafted["passages"][0]["document"] == "Nice.md"
    assert drafted["draft"] is True
    assert up.metric("rag_feedback_total", vote="down") == 1
    assert pilotis(up, "feedback", "delete", answer["id"]).stdout.startswith("1 votes")
    assert json.loads(pilotis(up, "--json", "feedback", "list").stdout) == []
