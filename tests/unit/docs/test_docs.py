"""The documentation says what the code does: its links, commands, contracts, tables and figures are tried."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from pilotis.adapters.kreuzberg import media
from pilotis.api import ask, costs, documents, feedback, health, search
from pilotis.api.upload import MAX_FILES
from pilotis.batch import embed, figures, ingest, names
from pilotis.batch.compare import ALPHA
from pilotis.batch.evaluate import AT_ONCE
from pilotis.cli import app
from pilotis.contract.load import parse
from pilotis.contract.presets import PREFIXES, PROVIDERS
from pilotis.derive.check import MAX_FX_AGE
from pilotis.derive.names import METRICS
from pilotis.derive.variant import SETTINGS
from pilotis.rag import extract, golden, question, ranking
from pilotis.rag.statistics import EXACT_UP_TO, FLIPS, RESAMPLES, enough_for_share

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PAGES = [
    *sorted(DOCS.rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)]*)?\)")
INLINE = re.compile(r"(?<!`)`(pilotis [^`\n]+)`(?!`)")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def text(name: str) -> str:
    return " ".join((DOCS / name).read_text(encoding="utf-8").split())


def blocks(page: Path, language: str) -> Iterator[str]:
    return (body for kind, body in FENCE.findall(page.read_text(encoding="utf-8")) if kind == language)


def rows(page: str, after: str) -> list[list[str]]:
    """The cells of the first table below the line `after`."""
    below = (DOCS / page).read_text(encoding="utf-8").split(f"\n{after}\n", 1)[1]
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert table, f"no table below {after!r}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def commands(page: Path) -> Iterator[str]:
    for block in blocks(page, "sh"):
        yield from (line for line in block.replace("\\\n", " ").splitlines() if line.startswith("pilotis "))
    for command in INLINE.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if not re.search(r"[<=]|\.\.\.|contract name", command):
            yield command


@pytest.mark.parametrize("command", sorted({command for page in PAGES for command in commands(page)}))
def test_commands_are_understood(command: str) -> None:
    understand(shlex.split(re.split(r" [>|] ", command)[0], comments=True)[1:])


@pytest.mark.parametrize("command", ["aks 'Why?'", "ask Why --top 5", "keys make laptop", "cost estimate --tok 5"])
def test_a_command_that_does_not_exist_would_be_noticed(command: str) -> None:
    with pytest.raises(Exception, match=r"No such (command|option)"):
        understand(shlex.split(command))


def understand(args: list[str]) -> None:
    """Parse as the program would, without running; a verb alone, as prose names it, may lack its arguments."""
    command: Any = typer.main.get_command(app)
    context: Any = None
    name = "pilotis"
    while True:
        bare = not args
        try:
            context = command.make_context(name, list(args), parent=context, resilient_parsing=bare)
        except Exception as error:
            if "Missing argument" in str(error) or "Missing parameter" in str(error):
                return
            raise
        if bare or not hasattr(command, "resolve_command"):
            return
        name, command, args = command.resolve_command(context, [*context._protected_args, *context.args])


@pytest.mark.parametrize(
    "block",
    [pytest.param(body, id=f"{page.stem}-{n}") for page in PAGES for n, body in enumerate(blocks(page, "toml"))],
)
def test_contracts_are_valid(block: str) -> None:
    assert parse(block, Path("pilotis.toml"))


def test_the_contracts_page_is_what_the_model_says() -> None:
    page = (DOCS / "contract.md").read_text(encoding="utf-8")
    assert script("docs").filled(page) == page, "run: make docs"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_metric_is_listed_with_its_labels() -> None:
    listed = {
        row[0].strip("`"): tuple(filter(None, re.split(r",\s*", row[1]))) for row in rows("operate.md", "## Health and metrics")
    }
    assert listed == {name: metric.labels for name, metric in METRICS.items()}


def test_every_variable_is_listed() -> None:
    listed = {row[0].strip("`") for row in rows("operate.md", "## Environment variables")}
    read = set(re.findall(r"PILOTIS_[A-Z_]+[A-Z]", (ROOT / "src/pilotis/wiring.py").read_text()))
    for other in ("service.py", "contract/load.py"):
        read |= set(re.findall(r"PILOTIS_[A-Z_]+[A-Z]", (ROOT / "src/pilotis" / other).read_text()))
    assert {name for name in listed if name.startswith("PILOTIS_")} == read


def test_every_route_is_listed() -> None:
    listed = {row[0].strip("`") for row in rows("start.md", "## Use the API")}
    routers = (ask.router, feedback.router, search.router, documents.router, costs.router, health.router)
    built = {f"{method} {route.path}" for router in routers for route in router.routes for method in route.methods}  # type: ignore[attr-defined]
    assert listed == built | {"GET /docs"}


def test_every_format_is_listed() -> None:
    listed = {
        name
        for row in rows("documents.md", "## Formats")
        for name in re.findall(r"\b[a-z0-9]{1,8}\b", row[1].split(" and others")[0])
    }
    assert set(media._BY_EXTENSION) - listed == {"text", "zip"}
    assert listed - set(media._BY_EXTENSION) <= media._SOURCE_EXTENSIONS


def test_every_prefix_is_listed_with_its_key() -> None:
    listed = {}
    for row in rows("answers.md", "## Language models"):
        for prefix in row[0].split(", "):
            listed[prefix] = (row[1], row[2])
    chat = {prefix: provider for prefix, provider in PREFIXES if not prefix.startswith(("rerank", "voyage", "embed", "jina"))}
    assert listed == {
        **{prefix: (provider, PROVIDERS[provider].key_env) for prefix, provider in chat.items()},
        "anything else": ("openai", PROVIDERS["openai"].key_env),
    }


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ("answers.md", f"{question.MAX_CHARACTERS:,} characters at most"),
        ("answers.md", "the first ten passages" if ranking.REREAD == 10 else "?"),
        ("answers.md", f"dense side is {ranking.DENSE_WEIGHT:.2f} where"),
        ("answers.md", f"and {ranking.FOREIGN_DENSE_WEIGHT:.2f} where it does not"),
        ("answers.md", f'"{extract.NOT_FOUND["en"]}"'),
        ("fr/demarrage.md", f"« {extract.NOT_FOUND['fr']} »"),
        ("costs.md", f"older than {MAX_FX_AGE.days} days"),
        ("documents.md", f"runs out after {ingest.LEASE_S:.0f} seconds"),
        ("documents.md", f"at most {names.MAX_NAME} characters, a collection's name {names.MAX_COLLECTION}"),
        ("documents.md", f"JSON object of at most {names.MAX_METADATA_BYTES >> 10} KiB"),
        (
            "evaluation.md",
            f"takes {enough_for_share(0.9)} questions before even a perfect score shows anything, 0.95 takes {enough_for_share(0.95)}",
        ),
        ("evaluation.md", f"{RESAMPLES:,} resamples"),
        ("evaluation.md", f"exact for up to {EXACT_UP_TO} questions that differ and with {FLIPS:,} draws"),
        ("evaluation.md", f"Below {ALPHA} the difference"),
        ("documents.md", f"| files in one upload | {MAX_FILES} |"),
    ],
)
def test_figures_are_those_of_the_code(page: str, sentence: str) -> None:
    assert sentence in text(page)


def test_counts_in_words_are_those_of_the_code() -> None:
    """Written as "twelve times", "five times", "first six" and "up to three": whoever changes one changes its page."""
    assert (ingest.MAX_ATTEMPTS, ingest.MAX_DEATHS) == (12, 5)
    assert (embed.LEASE_S, embed.LEASE_PER_PASSAGE_S, ingest.LONGEST_PAUSE_S, ingest.FORGOTTEN_S) == (30, 0.25, 300, 3600)
    assert (extract.PASSAGES_READ, extract.MOST_SPANS) == (6, 3)
    assert AT_ONCE == 4


def test_the_golden_set_of_the_page_is_one() -> None:
    (block,) = blocks(DOCS / "evaluation.md", "json")
    assert len(golden.parse(block, name="evaluation.md").questions) == 3
    listed = {name.strip("`") for row in rows("evaluation.md", "## Golden sets") for name in row[0].split(", ")}
    assert listed == set(golden.FIELDS)


def test_every_figure_is_listed() -> None:
    listed = {name.strip("`") for row in rows("evaluation.md", "## Figures") for name in row[0].split(", ")}
    assert listed == {*figures.METRICS, *figures.TOTALS}


def test_every_setting_of_a_run_is_listed() -> None:
    told = text("evaluation.md").split("changes a setting of the env for one run:")[1].split(". ")[0]
    assert set(re.findall(r"`(\w+)`", told)) == set(SETTINGS)


@each_page
def test_make_targets_exist(page: Path) -> None:
    made = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= made
