"""`pilotis contract`: is what was agreed possible, affordable and complete?"""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotis.cli import output

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pilotis.contract.model import Contract
    from pilotis.derive.estimate import Quote
    from pilotis.derive.finding import Finding
    from pilotis.derive.plan import Plan

app = typer.Typer(
    help="Check, show and export the contract: the file that states envs, speed, costs and deployment.", no_args_is_help=True
)

File = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="The contract, TOML or JSON; else --contract, PILOTIS_CONTRACT, or ./pilotis.toml."),
]


@app.command(
    epilog=(
        "pilotis contract check                      the contract in this folder\n\n"
        "pilotis contract check contract.json        the one named\n\n"
        "pilotis --json contract check | jq '.findings[].message'\n\n"
    )
)
def check(ctx: typer.Context, file: File = None) -> None:
    """Compute what each env costs, and refuse what is above the target or the guardrail.

    Every finding comes with its figures and what to do. Exit code 0: it holds, warnings or not; 1: it is refused; 2: the file
    itself is wrong.
    """
    from pilotis.derive.check import check as findings_of
    from pilotis.derive.plan import derive

    contract, name = read(ctx, file)
    plan = derive(contract)
    findings = findings_of(plan, dt.datetime.now(dt.UTC).date())
    refused = any(finding.severity == "error" for finding in findings)
    if output.options(ctx).json:
        output.print_json(_report(name, plan, findings, refused=refused))
    else:
        _show_costs(plan)
        _show_findings(name, findings)
    if refused:
        raise typer.Exit(1)


@app.command(epilog=("pilotis contract show\n\npilotis --json contract show | jq .envs.prod.llm\n\n"))
def show(ctx: typer.Context, file: File = None) -> None:
    """Show every env as the service sees it: the file, over the presets, over the defaults."""
    from pilotis.derive.plan import derive

    contract, name = read(ctx, file)
    plan = derive(contract)
    envs = {env.name: asdict(env) for env in plan.envs.values()}
    if output.options(ctx).json:
        document = {
            "contract": name,
            "name": contract.name,
            "digest": plan.digest,
            "price_book": plan.book.id,
            "fx": plan.fx.record(),
        }
        output.print_json(document | {"envs": envs})
        return
    keys = [key for key in next(iter(envs.values())) if key != "name"]
    rows = [(key, *(_cell(env[key]) for env in envs.values())) for key in keys]
    output.table(("", *envs), rows, title=f"{contract.name} ({name}), digest {plan.digest[:12]}")


@app.command(
    epilog=(
        "pilotis contract export > contract.json\n\n"
        "pilotis contract export --toml > pilotis.toml      a complete file to start from\n\n"
    )
)
def export(
    ctx: typer.Context,
    file: File = None,
    toml: Annotated[bool, typer.Option("--toml", help="Write TOML with every key explained, to be edited.")] = False,
) -> None:
    """Write the contract on stdout, as JSON or as commented TOML; loading it gives the same contract."""
    from pilotis.contract.export import to_json, to_toml

    contract, _ = read(ctx, file, skip_empty=True)
    typer.echo(to_toml(contract) if toml else to_json(contract), nl=False)


@app.command(
    epilog=(
        "pilotis contract schema > pilotis.schema.json\n\nthen begin pilotis.toml with:  #:schema ./pilotis.schema.json\n\n"
    )
)
def schema() -> None:
    """Write the JSON Schema of the contract on stdout, for editors that complete and check while typing."""
    from pilotis.contract import export as exporting

    typer.echo(exporting.schema(), nl=False)


def read(ctx: typer.Context, file: Path | None = None, *, skip_empty: bool = False) -> tuple[Contract, str]:
    """The contract in force and what to call it. Raises ContractError.

    `skip_empty` takes an empty file for none: `contract export --toml > pilotis.toml` finds the file that the shell just made.
    """
    from pilotis.contract.load import default, load

    path = file or output.settings(output.options(ctx)).contract
    if skip_empty and path is not None and path.is_file() and path.stat().st_size == 0:
        path = None
    if path is None:
        output.note("no contract file here: this is the built-in contract")
        return default(), "built-in contract"
    return load(path), str(path)


def _show_costs(plan: Plan) -> None:
    from pilotis.derive.check import estimates

    rows = []
    for env in plan.envs.values():
        costs = estimates(env, plan)
        q = costs.usual
        unit = (q.embedding_eur_per_1k, q.reranker_eur_per_1k, q.llm_eur_per_1k, q.infra_eur_per_1k, q.total_eur_per_1k)
        worst = (costs.worst.eur_per_req, costs.worst_listed.eur_per_req)
        rows.append(
            (
                env.name,
                env.llm.model,
                env.top_k,
                *map(money, unit),
                money(costs.usual_listed.total_eur_per_1k),
                *(money(w, 4) for w in worst),
            )
        )
    head = (
        "env",
        "llm",
        "passages",
        "embed",
        "rerank",
        "llm €",
        "infra",
        "€/1k",
        "€/1k at list",
        "worst €/req",
        "worst at list",
    )
    output.table(head, rows, title="Contract estimate, euros per 1000 requests; at list: the LLM at the price book's price")
    costs_of = plan.contract.costs
    output.out().print(
        f"target {money(costs_of.target_eur_per_1k)} €/1k, guardrail {money(costs_of.guardrail_eur_per_req, 4)} €/req; "
        f"prices: {plan.book.id}; {plan.fx.usd_per_eur} USD/EUR of {plan.fx.date}\n",
        markup=False,
    )


def _show_findings(name: str, findings: Sequence[Finding]) -> None:
    from rich.text import Text

    console = output.out()
    for finding in findings:
        style = {"error": "bold red", "warning": "yellow", "info": "cyan"}[finding.severity]
        console.print(Text.assemble((f"{finding.severity:<8}", style), finding.message))
        console.print(Text(f"        → {finding.remedy}"))
    severities = [finding.severity for finding in findings]
    verdict = f"refused: {_several(severities.count('error'), 'error')}" if "error" in severities else "holds"
    notes = f", {_several(severities.count('info'), 'note')}" if "info" in severities else ""
    console.print(Text(f"{name} {verdict}, {_several(severities.count('warning'), 'warning')}{notes}", style="bold"))


def _report(name: str, plan: Plan, findings: Sequence[Finding], *, refused: bool) -> dict[str, Any]:
    from pilotis.derive.check import estimates

    envs = {}
    for env in plan.envs.values():
        costs = estimates(env, plan)
        envs[env.name] = {
            "usual": quoted(costs.usual),
            "worst_allowed": quoted(costs.worst),
            "usual_at_list_price": quoted(costs.usual_listed),
            "worst_allowed_at_list_price": quoted(costs.worst_listed),
        }
    return {
        "contract": name,
        "digest": plan.digest,
        "holds": not refused,
        "target_eur_per_1k": plan.contract.costs.target_eur_per_1k,
        "guardrail_eur_per_req": plan.contract.costs.guardrail_eur_per_req,
        "price_book": plan.book.id,
        "fx": plan.fx.record(),
        "envs": envs,
        "findings": [asdict(finding) | {"figures": plain(finding.figures)} for finding in findings],
    }


def quoted(quote: Quote) -> dict[str, Any]:
    """A quote with its total, for JSON."""
    return plain(asdict(quote) | {"total_eur_per_1k": quote.total_eur_per_1k, "eur_per_req": quote.eur_per_req})


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Decimals as text without an exponent, which `str` would give to small ones."""
    return {key: f"{value:f}" if isinstance(value, Decimal) else value for key, value in values.items()}


def money(amount: Decimal | None, places: int = 2) -> str:
    return "unknown" if amount is None else f"{amount:.{places}f}"


def _several(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _cell(value: object) -> str:
    if isinstance(value, dict) and "model" in value:
        where = value.get("base_url") or value["provider"]
        return f"{value['model']} ({where})"
    if isinstance(value, dict):
        return "; ".join(_limits(value)) or "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "-" if value is None else str(value)


def _limits(named: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Budgets or rates, one line for each that there is."""
    for name, value in named.items():
        if not isinstance(value, dict):
            continue
        if "per_s" in value:
            yield f"{path}{name}: {value['per_s']:f}/s, {value['burst']} at once"
        elif "month_eur" in value:
            limits = [f"{limit:f} €/{window.removesuffix('_eur')}" for window, limit in value.items() if limit is not None]
            if limits:
                yield f"{path}{name}: {', '.join(limits)}"
        else:
            yield from _limits(value, f"{name}.")
