"""`pilotis cost`: what requests cost, before they are made and after."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotis.cli import cost_audit, cost_report, output
from pilotis.cli.contract import File, money, quoted, read

if TYPE_CHECKING:
    from pilotis.derive.estimate import Quote
    from pilotis.derive.plan import Env, Plan

app = typer.Typer(help="What requests cost, before they are made and after.", no_args_is_help=True)


@app.command(
    epilog=(
        "pilotis cost estimate                                   every env of the contract\n\n"
        "pilotis --env prod cost estimate --top-k 20             what fewer passages save\n\n"
        "pilotis --env prod cost estimate --llm gpt-5-mini       another model, at its list price\n\n"
        "pilotis --env dev cost estimate --llm gpt-5-mini --reranker --passages 20 --tok-in 900 --tok-out 250\n\n"
    )
)
def estimate(  # noqa: PLR0917 (Typer passes options by name)
    ctx: typer.Context,
    file: File = None,
    passages: Annotated[
        int | None, typer.Option("--passages", "--top-k", min=1, help="Passages retrieved; the env's top_k if left out.")
    ] = None,
    tok_in: Annotated[int | None, typer.Option(min=0, help="Input tokens of a request.")] = None,
    tok_out: Annotated[int | None, typer.Option(min=0, help="Output tokens of a request.")] = None,
    llm: Annotated[str | None, typer.Option(help='Another model, or "extractive" for none.')] = None,
    reranker: Annotated[bool | None, typer.Option("--reranker/--no-reranker", help="Rerank the passages or not.")] = None,
) -> None:
    """Estimate a thousand requests of each env (or of --env), as the contract assumes it and at list prices.

    The sum is the specification's: passages x embedding + passages x reranker + tokens x LLM + infrastructure. The second column
    takes the LLM at the price of its model, from the dated price book. Below stands the most that one answer can cost. Any option is a what-if; nothing is written.
    """
    from pilotis.derive.estimate import at_list_price
    from pilotis.derive.plan import derive

    contract, name = read(ctx, file)
    plan = derive(contract)
    options = output.options(ctx)
    envs = [plan.env(options.env)] if options.env else list(plan.envs.values())
    document: dict[str, Any] = {"contract": name, "price_book": plan.book.id, "fx": plan.fx.record(), "envs": {}}
    for before in envs:
        env = _changed(before, top_k=passages, llm=llm, rerank=reranker)
        agreed = _quote(env, plan, tok_in, tok_out)
        listed = at_list_price(agreed, env, plan)
        if not options.json:
            _show(env, plan, agreed, listed)
        document["envs"][env.name] = {
            "llm": env.llm.model,
            "estimate": quoted(agreed),
            "at_list_price": quoted(listed),
            "ceiling_eur": f"{_ceiling(env, plan):.6f}",
        }
    if options.json:
        output.print_json(document)
    else:
        output.out().print(f"prices: {plan.book.id}; {plan.fx.usd_per_eur} USD/EUR of {plan.fx.date}", markup=False)


app.command(epilog=cost_report.EPILOG)(cost_report.report)
app.command(epilog=cost_audit.EPILOG)(cost_audit.audit)


def _changed(env: Env, *, top_k: int | None, llm: str | None, rerank: bool | None) -> Env:
    from dataclasses import replace

    from pilotis.contract.model import Endpoint
    from pilotis.derive.plan import reach

    return replace(
        env,
        top_k=env.top_k if top_k is None else top_k,
        llm=env.llm if llm is None else reach(Endpoint(model=llm)),
        rerank=env.rerank if rerank is None else rerank,
    )


def _ceiling(env: Env, plan: Plan) -> Decimal:
    from pilotis.derive.budget import MICRO
    from pilotis.derive.cost import ceiling

    return ceiling(env, plan).micro / MICRO


def _quote(env: Env, plan: Plan, tok_in: int | None, tok_out: int | None) -> Quote:
    from pilotis.contract.model import EXTRACTIVE
    from pilotis.derive.estimate import estimate as quote

    units = plan.contract.costs.estimate
    return quote(units, passages=env.top_k, rerank=env.rerank, llm=env.llm.model != EXTRACTIVE, tok_in=tok_in, tok_out=tok_out)


def _show(env: Env, plan: Plan, agreed: Quote, listed: Quote) -> None:
    units = plan.contract.costs.estimate
    reranked = f"{agreed.passages} passages x {units.rerank_eur_per_passage:f} €" if env.rerank else "off"
    tokens = f"({agreed.tok_in} + {agreed.tok_out}) tokens x {units.llm_eur_per_token:f} €"
    rows = (
        (
            "embedding",
            f"{agreed.passages} passages x {units.embed_eur_per_passage:f} €",
            agreed.embedding_eur_per_1k,
            listed.embedding_eur_per_1k,
        ),
        ("reranker", reranked, agreed.reranker_eur_per_1k, listed.reranker_eur_per_1k),
        ("llm", tokens if agreed.llm_eur_per_1k else "no LLM", agreed.llm_eur_per_1k, listed.llm_eur_per_1k),
        ("infrastructure", "agreed", agreed.infra_eur_per_1k, listed.infra_eur_per_1k),
        ("total", "", agreed.total_eur_per_1k, listed.total_eur_per_1k),
    )
    output.table(
        ("", "assumption", "€/1k", f"€/1k, {env.llm.model} at list price"),
        [(part, assumption, money(one), money(other)) for part, assumption, one, other in rows],
        title=f"{env.name}: {env.llm.model}",
    )
    target = env.target_eur_per_1k
    total = agreed.total_eur_per_1k
    if target is not None and total is not None:
        verdict = "above" if total > target else "within"
        output.out().print(f"{verdict} the target of {target:.2f} €/1k", markup=False)
    output.out().print(
        f"one answer can cost {_ceiling(env, plan):.6f} € at its caps: budgets hold that much until it is settled\n",
        markup=False,
    )
