"""`pilotis size`: how much machine so many requests a second need, with the arithmetic."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotis.cli import output
from pilotis.cli.contract import read
from pilotis.errors import Invalid

if TYPE_CHECKING:
    from pilotis.derive.sizing import Bill, Hourly, Size

EPILOG = (
    "pilotis size --rps 120                      the row that carries it, and what it costs a month\n\n"
    "pilotis size --rps 120 --rps-per-vcpu 9     the pods from a capacity that you measured\n\n"
)


def size(
    ctx: typer.Context,
    rps: Annotated[str, typer.Option("--rps", help="Requests a second at the peak.")],
    capacity: Annotated[
        str | None, typer.Option("--rps-per-vcpu", help="Requests a second that one vCPU of yours serves within the SLO.")
    ] = None,
    replicated: Annotated[bool, typer.Option("--replicated", help="Database and caches stand twice, as in prod.")] = False,
) -> None:
    """Say how many pods, workers, shards and connections so many requests a second need, and what they cost a month.

    Without --rps-per-vcpu it is the specification's matrix. The prices are dated assumptions; models, traffic and storage are not in it.
    """
    from pilotis.derive import sizing

    contract, _ = read(ctx)
    wanted, measured = _positive(rps, "--rps"), _positive(capacity, "--rps-per-vcpu") if capacity else None
    share = contract.slo.cpu
    found = sizing.size(wanted) if measured is None else sizing.measured(wanted, measured, share)
    cost, hourly, pool = sizing.bill(found, replicated=replicated), sizing.Hourly(), contract.perf.pool_max
    if measured is None:
        how = f"the matrix: {wanted:f} requests/s over {found.vcpu:f} vCPUs is {wanted / found.vcpu:.2f} on each"
    else:
        busy = wanted / measured
        how = (
            f"L = lambda W: {wanted:f} requests/s x {1 / measured:.4f} vCPU-seconds = {busy:.2f} busy vCPUs; "
            f"/ {share:f} = {busy / share:.2f} planned"
        )
    if output.options(ctx).json:
        output.print_json(_document(found, cost, hourly, pool=pool, replicated=replicated) | {"how": how})
        return
    row = (
        *(f"{found.rps:f}", f"{found.api_pods} x {found.api_vcpu:f}", found.workers, f"{found.cache} ({found.cache_mib} MiB)"),
        *(found.shards, found.connections(pool), f"{cost.total_eur:,.2f}"),
    )
    output.table(("requests/s", "pods x vCPU", "workers", "Redis", "shards", "connections", "€/month"), [row])
    output.out().print(how, markup=False)
    output.note(
        f"compute {cost.compute_eur} €, database {cost.database_eur} €, Redis {cost.cache_eur} €; {hourly.source} ({hourly.date})"
    )


def _document(found: Size, cost: Bill, hourly: Hourly, *, pool: int, replicated: bool) -> dict[str, Any]:
    return {
        "rps": found.rps,
        "api_pods": found.api_pods,
        "api_vcpu": found.api_vcpu,
        "vcpu": found.vcpu,
        "workers": found.workers,
        "cache": found.cache,
        "cache_mib": found.cache_mib,
        "shards": found.shards,
        "connections": found.connections(pool),
        "replicated": replicated,
        "eur_per_month": cost.total_eur,
        "prices": {"date": hourly.date, "source": hourly.source},
    }


def _positive(text: str, option: str) -> Decimal:
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal(0)
    if not found.is_finite() or not 0 < found <= 1_000_000:
        raise Invalid(f"{option} {text!r} is no number above 0 and up to 1000000", remedy=f"write {option} 120")
    return found
