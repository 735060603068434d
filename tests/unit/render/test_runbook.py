"""The runbook: every command is understood, every query asks for what is measured, every link leads somewhere, in both languages."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from pilotis import cli
from pilotis.cli import app
from pilotis.contract.load import parse
from pilotis.contract.presets import default
from pilotis.derive.names import METRICS
from pilotis.derive.plan import Plan, derive
from pilotis.render.files import scene
from pilotis.render.monitoring.rules import alerts
from pilotis.render.render import render
from pilotis.render.runbook.alerts import TOPICS, page_of, topic_of
from pilotis.render.runbook.runbook import PAGES, pages
from pilotis.render.wording import LANGUAGES

ROOT = Path(__file__).parents[3]
NOT_YET = {("release", verb) for verb in ("status", "start", "approve", "abort", "rollback")}
"""Commands that the pages may name before they are built: the two words that come first."""
OF_EVERY_PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds", "up"}
FULL = """
name = "assistant"
timezone = "Europe/Paris"
[costs]
target_eur_per_1k = 90
guardrail_eur_per_req = 0.9
on_meter_down = "serve"
on_unknown_price = "serve"
[deploy]
strategy = "blue_green"
rollback_on = "never"
[slo]
p95_ms = 2000
[alerts.receivers.oncall]
kind = "email"
to = "oncall@example.com"
[envs.dev]
[envs.prod]
llm = "claude-sonnet-4-5"
flags = ["hybrid", "rerank", "prompt_v2"]
reranker = "rerank-v3.5"
embedder = "text-embedding-3-large"
fallback = "gpt-5-mini"
rates = { env = 20, ip = 5, bus = { sales = 3 } }
budgets = { env = { day_eur = 5 }, bus = { sales = { month_eur = 7 } } }
secrets = { provider = "aws", path = "rag/prod" }
snapshot = { place = "s3://backups/rag" }
"""
MACHINES = """
[costs]
target_eur_per_1k = 90
guardrail_eur_per_req = 0.9
ladder = ["refuse"]
[envs.prod]
llm = "extractive"
cache_ttl_s = 0
hosts = ["vm-1.example.com", "10.0.0.5"]
secrets = { provider = "vault", path = "secret/rag" }
"""


def plans() -> Iterator[tuple[str, Plan]]:
    yield "default", derive(default())
    for name in ("pilotis.toml", "minimal.toml"):
        yield name, derive(parse((ROOT / "examples" / name).read_text(encoding="utf-8"), Path(name)))
    yield "full", derive(parse(FULL, Path("full.toml")))
    yield "machines", derive(parse(MACHINES, Path("machines.toml")))


@dataclass(frozen=True)
class Bell:
    """An alert, as the runbook sees one."""

    name: str
    severity: str = "page"
    expr: str = "vector(1) > 0"
    waits: str = "5m"


BELLS = {
    "absent": Bell("ApiAbsent"),
    "price": Bell("PriceMissing", severity="ticket"),
    "meter": Bell("CostMeterSilent"),
    "anomaly": Bell("CostAnomaly", waits=""),
    "errors": Bell("ErrorBudgetBurnFast"),
    "latency": Bell("LatencyBudgetBurnSlow"),
    "cost-per-request": Bell("CostPerRequestHigh"),
    "guardrail": Bell("GuardrailActive"),
    "budget": Bell("MonthBudgetForecast"),
    "queue": Bell("QueueOld"),
    "snapshot": Bell("SnapshotOld"),
    "secret": Bell("SecretOld"),
    "model": Bell("BreakerOpen"),
    "saturation": Bell("CpuSaturated"),
}
"""One of each topic."""


def book(plan: Plan) -> dict[str, str]:
    """All that is rendered, with a page of every topic."""
    on = scene(plan)
    made = {path: str(file.content) for path, file in render(plan).items()}
    main_first = sorted(on.sites.values(), key=lambda site: site.env.name != on.main.env.name)
    real: dict[str, list[Any]] = {site.env.name: list(alerts(on, site)) for site in main_first}
    known = {alert.name for those in real.values() for alert in those}
    real[on.main.env.name] += [bell for bell in BELLS.values() if bell.name not in known]
    return made | {file.path: str(file.content) for file in pages(on, real)}


PLANS = dict(plans())
MADE = {name: book(plan) for name, plan in PLANS.items()}
BOOKS = {(name, path): text for name, files in MADE.items() for path, text in files.items() if path.startswith("runbook/")}
FENCE = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`(pilotis [^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)\s]+)\)")

each_page = pytest.mark.parametrize(("book", "path"), list(BOOKS), ids=[f"{name}:{path}" for name, path in BOOKS])


def blocks(text: str, language: str) -> Iterator[str]:
    return (body for kind, body in FENCE.findall(text) if kind == language)


def commands(text: str) -> Iterator[str]:
    for block in blocks(text, "sh"):
        yield from (line.strip() for line in block.splitlines() if line.strip().startswith("pilotis "))
    yield from INLINE.findall(FENCE.sub("", text))


def test_each_name_leads_to_its_topic_and_each_topic_has_a_page_in_both_languages() -> None:
    assert {topic: topic_of(bell.name)[0] for topic, bell in BELLS.items()} == {topic: topic for topic in BELLS}
    assert {topic for _, topic, _ in TOPICS} == set(BELLS)
    for language in LANGUAGES:
        text = MADE["pilotis.toml"][f"runbook/{language}/snapshot-old.md"]
        assert "vector(1) > 0" in text
        assert "5m" in text
        assert "[SnapshotOld](snapshot-old.md) | page |" in MADE["pilotis.toml"][f"runbook/{language}/index.md"]


def test_an_alert_without_a_topic_is_refused() -> None:
    on = scene(PLANS["minimal.toml"])
    with pytest.raises(RuntimeError, match="no topic for the alert Oops"):
        list(pages(on, {"dev": [Bell("Oops")]}))


def understood(command: str) -> None:
    """Parse as the program would, without running; raises where there is no such verb or option."""
    args = shlex.split(re.split(r" [>|] ", command)[0], comments=True)[1:]
    program: Any = typer.main.get_command(app)
    context: Any = None
    name = "pilotis"
    words = tuple(word for word in args if word not in {"--env", "--bu"})
    if any(words[n : n + 2] in NOT_YET for n in range(len(words))):
        return
    while True:
        bare = not args and hasattr(program, "resolve_command")
        context = program.make_context(name, list(args), parent=context, resilient_parsing=bare)
        if bare or not hasattr(program, "resolve_command"):
            return
        name, program, args = program.resolve_command(context, [*context._protected_args, *context.args])


@pytest.mark.parametrize("command", sorted({command for text in BOOKS.values() for command in commands(text)}))
def test_every_command_is_understood_with_all_its_arguments(command: str) -> None:
    understood(command)


@pytest.mark.parametrize("command", ["pilotis queue stop", "pilotis --env prod cost report --by-hour", "pilotis keys revoke"])
def test_a_command_that_does_not_exist_would_be_noticed(command: str) -> None:
    with pytest.raises(Exception, match=r"No such (command|option)|Missing argument|Missing parameter"):
        understood(command)


def test_no_exception_outlives_its_reason() -> None:
    """Once a command is built it is parsed as all others are."""
    program: Any = typer.main.get_command(app)
    built = {name for name, _ in NOT_YET if name in program.commands}
    assert built == set(), "strike these out of NOT_YET"


@each_page
def test_commands_name_an_env_of_the_contract(book: str, path: str) -> None:
    named = re.findall(r"pilotis --env (\S+)", BOOKS[book, path])
    assert set(named) <= set(PLANS[book].envs)


@each_page
def test_every_shell_block_is_a_shells(book: str, path: str) -> None:
    """Quotes and brackets are closed on every line; nothing of the template is left."""
    for block in blocks(BOOKS[book, path], "sh"):
        for line in block.splitlines():
            shlex.split(line, comments=True)
        assert "{{" not in block.replace("{{.Config.Image}}", "")


@each_page
def test_pilotis_and_the_platform_are_never_in_one_block(book: str, path: str) -> None:
    """They run in different places; `contract`, `render` and `size` need no server, and run where the files are."""
    for block in blocks(BOOKS[book, path], "sh"):
        lines = [line.strip() for line in block.splitlines() if line.strip()]
        inside = {line for line in lines if re.match(r"pilotis (--\w+ \S+ )*(?!contract|render|size|--)\w", line)}
        assert not inside or all(line in inside or line == "exit" for line in lines), block


@each_page
def test_every_query_asks_for_what_is_measured(book: str, path: str) -> None:
    for query in blocks(BOOKS[book, path], "promql"):
        if query.strip() == Bell("").expr:
            continue
        assert asked(query) - OF_EVERY_PROCESS <= exported(), query
        assert asked(query) or RECORDED.search(query), query


RECORDED = re.compile(r"\brag:\w")


def asked(query: str) -> set[str]:
    """The metrics that a query names: what is neither in quotes or braces, nor a function, a keyword or a label."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]', "", query)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right) *\([^)]*\)", "", bare)
    words = re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?! *\()\b", bare)
    keywords = {"and", "or", "unless", "offset", "bool", "on", "by", "without", "group_left", "group_right"}
    return {
        word
        for word in words
        if word not in keywords and not re.fullmatch(r"\d*[smhdwy]", word) and not word.startswith("rag:")
    }


def exported() -> set[str]:
    made = set(METRICS)
    for name, metric in METRICS.items():
        if metric.kind == "histogram":
            made |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
    return made


def test_a_query_for_what_nobody_measures_would_be_noticed() -> None:
    assert asked("sum(rate(rag_errors_total[5m])) > BUDGET") == {"rag_errors_total", "BUDGET"}
    assert asked('histogram_quantile(0.95, sum by (le) (rate(rag_request_seconds_bucket{kind="ask"}[5m]))) offset 1w') == {
        "rag_request_seconds_bucket"
    }


@each_page
def test_every_link_leads_to_a_page_or_a_heading_that_is_there(book: str, path: str) -> None:
    for target in LINK.findall(FENCE.sub("", BOOKS[book, path])):
        page, _, heading = target.partition("#")
        parts = [*path.split("/")[:-1], *page.split("/")] if page else path.split("/")
        while ".." in parts:
            at = parts.index("..")
            del parts[at - 1 : at + 1]
        there = "/".join(parts)
        assert there in MADE[book], target
        assert not heading or heading in anchors(MADE[book][there]), target


def anchors(text: str) -> set[str]:
    """As GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", unicodedata.normalize("NFC", head).lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("book", list(PLANS))
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_page_is_orphaned(book: str, language: str) -> None:
    pages = {path for name, path in BOOKS if name == book and path.startswith(f"runbook/{language}/")}
    linked = {
        f"runbook/{language}/{target.split('#')[0]}" for target in LINK.findall(BOOKS[book, f"runbook/{language}/index.md"])
    }
    assert pages - linked == {f"runbook/{language}/index.md"}


@pytest.mark.parametrize("book", list(PLANS))
def test_both_languages_have_the_same_pages_commands_and_queries(book: str) -> None:
    for name in {path.split("/")[-1] for _, path in BOOKS}:
        english, french = BOOKS.get((book, f"runbook/en/{name}")), BOOKS.get((book, f"runbook/fr/{name}"))
        assert (english is None) == (french is None), name
        if english and french:
            assert list(blocks(english, "promql")) == list(blocks(french, "promql")), name
            assert len(list(blocks(english, "sh"))) == len(list(blocks(french, "sh"))), name
            assert english.count("\n## ") == french.count("\n## "), name
            assert english.count("\n|") == french.count("\n|"), name


def test_figures_are_the_contracts() -> None:
    latency, cost, errors = (MADE["pilotis.toml"][f"runbook/en/incident-{name}.md"] for name in ("latency", "cost", "errors"))
    assert "**8,000 ms**" in latency
    assert "at most **1\N{NO-BREAK SPACE}%**" in errors
    assert "16.50\N{NO-BREAK SPACE}€" in cost
    assert "| budget of `bu:sales`, each month | 900.00\N{NO-BREAK SPACE}€ |" in cost
    assert "0.02\N{NO-BREAK SPACE}€ a request" in cost
    french = MADE["pilotis.toml"]["runbook/fr/incident-cost.md"]
    assert "16,50\N{NO-BREAK SPACE}€" in french
    assert "8.19\N{NO-BREAK SPACE}€" in cost, "the full service at list prices, as `contract check` has it"


def test_the_ladder_offers_only_the_steps_there_are() -> None:
    told = {name: set(re.findall(r"guardrail set (\w+)", "".join(files.values()))) for name, files in MADE.items()}
    assert told["pilotis.toml"] == {"no_rerank", "smaller_top_k", "compact_model", "cache_only", "refuse"}
    assert "compact_model" not in told["full"]
    assert told["machines"] == {"refuse"}


def test_what_the_contract_says_decides_what_is_said() -> None:
    full, other = MADE["full"], MADE["pilotis.toml"]
    assert "Blue/green" in full["runbook/en/release.md"]
    assert 'rollback_on = "never"' in full["runbook/en/rollback.md"]
    assert "| oncall | email |" in full["runbook/en/index.md"]
    assert "**Nobody is told" in other["runbook/en/index.md"]
    assert "aws secretsmanager put-secret-value --region eu-west-3 --secret-id rag/prod/" in full["runbook/en/secrets.md"]
    assert "`prompt_v2`" in full["runbook/en/rollback.md"]
    assert "s3://backups/rag" in full["runbook/en/restore.md"]
    assert "--at" not in full["runbook/en/restore.md"], "the contract names the place"
    assert "kubectl" not in MADE["machines"]["runbook/en/rollback.md"]
    assert "vault kv put -mount=secret rag/PILOTIS_DATABASE_URL value=-" in MADE["machines"]["runbook/en/secrets.md"]


def test_the_review_is_due_a_day_after() -> None:
    for language in LANGUAGES:
        assert "T+24h" in MADE["minimal.toml"][f"runbook/{language}/rca.md"]
        assert "+24 hours" in MADE["minimal.toml"][f"runbook/{language}/rca.md"]


@each_page
def test_every_page_says_where_it_comes_from_and_has_one_title(book: str, path: str) -> None:
    text = BOOKS[book, path]
    assert text.startswith(
        f"<!--\nRendered by Pilotis from contract '{PLANS[book].contract.name}', digest {PLANS[book].digest}"
    )
    assert len(re.findall(r"^# ", FENCE.sub("", text), re.MULTILINE)) == 1
    assert "\n\n\n" not in text


@each_page
def test_tables_are_whole(book: str, path: str) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", FENCE.sub("", BOOKS[book, path]), re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table


def test_one_language_alone() -> None:
    made = render(PLANS["pilotis.toml"], languages=("fr",))
    assert not [path for path in made if path.startswith("runbook/en/")]
    assert "runbook/fr/index.md" in made


def test_all_pages_are_made() -> None:
    on = scene(PLANS["default"])
    for language in on.languages:
        assert {f"runbook/{language}/{name}.md" for name in PAGES} <= set(MADE["default"])


@pytest.mark.parametrize(
    ("alert", "page"),
    [
        ("CostPerRequestHigh", "cost-per-request-high.md"),
        ("P95Above", "p95-above.md"),
        ("SLOBurnFast", "slo-burn-fast.md"),
        ("Queue1hOld", "queue1h-old.md"),
        ("rag_errors", "rag-errors.md"),
    ],
)
def test_the_page_of_an_alert(alert: str, page: str) -> None:
    assert page_of(alert) == page


def test_lang_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contract = str(ROOT / "examples/minimal.toml")
    folder = tmp_path / "deploy"
    assert cli.run(["--contract", contract, "render", "--lang", "fr", "-o", str(folder)]) == 0
    assert sorted(path.name for path in (folder / "runbook").iterdir()) == ["fr"]
    assert sorted(path.name for path in (folder / "diagrams").iterdir()) == ["fr"]
    assert cli.run(["--contract", contract, "render", "--lang", "fr", "-o", str(folder), "--check"]) == 0
    assert cli.run(["--contract", contract, "render", "-o", str(folder), "--check"]) == 1
    capsys.readouterr()
    assert cli.run(["--contract", contract, "render", "--lang", "de", "-o", str(folder)]) == 2
    assert "de" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["default", "full"])
def test_what_kubectl_is_given_is_in_the_manifests(name: str) -> None:
    site = scene(PLANS[name]).main
    folder = f"kubernetes/{site.env.name}/"
    manifests = [text for path, text in MADE[name].items() if path.startswith(folder) and path.endswith(".yaml")]
    if not manifests:
        pytest.skip("no manifests are rendered")
    documents = [document for text in manifests for document in yaml.safe_load_all(text)]
    there = {document["metadata"]["name"] for document in documents if "metadata" in document}
    pages_of = "".join(text for path, text in MADE[name].items() if path.startswith("runbook/"))
    named = set(re.findall(rf"(?<=[ /]){site.name}-[a-z-]+\b", pages_of))
    assert f"{site.name}-api" in named
    made_by_the_team = {f"{site.name}-secrets"}
    assert named - made_by_the_team <= there


def test_what_ansible_is_given_is_in_its_folder() -> None:
    made = MADE["machines"]
    if not any(path.startswith("ansible/") for path in made):
        pytest.skip("no playbooks are rendered")
    pages_of = "".join(text for path, text in made.items() if path.startswith("runbook/"))
    books = set(re.findall(r"ansible-playbook -i inventory/prod (\w+\.yml)", pages_of))
    assert {"install.yml", "deploy.yml", "rollback.yml"} <= books
    assert {f"ansible/{book}" for book in books} <= set(made)
    units = "".join(text for path, text in made.items() if path.startswith("ansible/inventory/prod/"))
    assert "name: pilotis-schedule" in units


@each_page
def test_what_reads_a_secret_stands_alone_in_its_block(book: str, path: str) -> None:
    """Pasted with it, the next line would become the secret."""
    for block in blocks(BOOKS[book, path], "sh"):
        if re.search(r"base64|/dev/stdin|value=-|read -r", block):
            assert len(block.strip().splitlines()) == 1, block
