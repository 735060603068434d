"""`pilotis size`: how much machine so many requests a second need, with the arithmetic."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from pilotis.cli import bench, output
from pilotis.cli.contract import read
from pilotis.errors import Invalid

if TYPE_CHECKING:
    from pilotis.cli.output import Options
    from pilotis.derive.sizing import Bill, Hourly, Size

EPILOG = (
    "pilotis size --rps 120                      the row that carries it, and what it costs a month\n\n"
    "pilotis size --rps 120 --measured           the pods from what `pilotis bench capacity` measured here\n\n"
    "pilotis size --rps 120 --rps-per-vcpu 9     the pods from a capacity that you measured elsewhere\n\n"
)


def size(
    ctx: typer.Context,
    rps: Annotated[str, typer.Option("--rps", help="Requests a second at the peak.")],
    capacity: Annotated[
        str | None, typer.Option("--rps-per-vcpu", help="Requests a second that one vCPU of yours serves within the SLO.")
    ] = None,
    here: Annotated[
        bool, typer.Option("--measured", help="The capacity that `pilotis bench capacity` measured and kept.")
    ] = False,
    replicated: Annotated[bool, typer.Option("--replicated", help="Database and caches stand twice, as in prod.")] = False,
) -> None:
    """Say how many pods, workers, shards and connections so many requests a second need, and what they cost a month.

    With neither --measured nor --rps-per-vcpu it is the specification's matrix. A measured capacity gives the pods of the API alone:
    workers, cache and shards stay the matrix's. The prices are dated assumptions; models, traffic and storage are not in it.
    """
    from pilotis.derive import sizing

    contract, _ = read(ctx)
    options = output.options(ctx)
    wanted = _positive(rps, "--rps")
    at = _capacity(options, capacity, measured=here)
    share = contract.slo.cpu
    found = sizing.size(wanted) if at is None else sizing.measured(wanted, at.rps_per_vcpu, share, rps_per_pod=at.rps_per_pod)
    cost, hourly, pool = sizing.bill(found, replicated=replicated), sizing.Hourly(), contract.perf.pool_max
    how, source = _how(wanted, found, at, share), at.source if at else "the specification's matrix"
    full = None if at is None else found.api_pods * sizing.pod_rps(found, at.rps_per_vcpu, at.rps_per_pod)
    headroom = None if full is None else (full / wanted - 1).quantize(Decimal("0.01"))
    if options.json:
        told = {"how": how, "source": source, "headroom": headroom}
        told |= {"rps_per_vcpu": at and at.rps_per_vcpu, "rps_per_pod": at and at.rps_per_pod}
        output.print_json(_document(found, cost, hourly, pool=pool, replicated=replicated) | told)
        return
    row = (
        *(f"{found.rps:f}", f"{found.api_pods} x {found.api_vcpu:f}", found.workers, f"{found.cache} ({found.cache_mib} MiB)"),
        *(found.shards, found.connections(pool), f"{cost.total_eur:,.2f}"),
    )
    output.table(("requests/s", "pods x vCPU", "workers", "Redis", "shards", "connections", "€/month"), [row])
    console = output.out()
    console.print(how, markup=False)
    console.print(f"capacity: {source}", markup=False)
    if full is not None:
        console.print(
            f"headroom: {found.api_pods} pods serve {full:.0f} requests/s at full use, {headroom:.0%} more than asked; "
            f"slo.cpu plans for {share:.0%} of it",
            markup=False,
        )
    output.note(
        f"compute {cost.compute_eur} €, database {cost.database_eur} €, Redis {cost.cache_eur} €; {hourly.source} ({hourly.date})"
    )


class _At(NamedTuple):
    """A capacity, and where it comes from."""

    rps_per_vcpu: Decimal
    source: str
    rps_per_pod: Decimal | None = None


def _capacity(options: Options, given: str | None, *, measured: bool) -> _At | None:
    if given is not None and measured:
        raise Invalid("--measured and --rps-per-vcpu are two capacities", remedy="give one of them")
    if given is not None:
        return _At(_positive(given, "--rps-per-vcpu"), "--rps-per-vcpu")
    if not measured:
        return None
    from pilotis import __version__

    found = bench.read(options)
    if found.version != __version__:
        output.note(
            f"measured with Pilotis {found.version}, this is {__version__}: measure again with `pilotis bench capacity`"
        )
    if not found.found:
        output.note("measured with questions that nothing was found for: real ones take more")
    knee = found.knee
    source = (
        f"measured {found.date[:10]} on {found.cores} vCPUs: {knee.rps:.1f} requests/s at the knee of {knee.callers} at once, "
        f"p95 {knee.p95_ms:.0f} ms, {knee.in_service_s * 1e3:.0f} ms in service; one vCPU of the API by {found.basis}"
    )
    return _At(found.rps_per_vcpu, source, found.rps_per_process)


def _how(wanted: Decimal, found: Size, at: _At | None, share: Decimal) -> str:
    if at is None:
        return f"the matrix: {wanted:f} requests/s over {found.vcpu:f} vCPUs is {wanted / found.vcpu:.2f} on each"
    busy = wanted / at.rps_per_vcpu
    told = (
        f"L = lambda W: {wanted:f} requests/s x {1 / at.rps_per_vcpu:.4f} vCPU-seconds = {busy:.2f} busy vCPUs; "
        f"/ {share:f} = {busy / share:.2f} planned"
    )
    if at.rps_per_pod is None:
        return told
    return f"{told}; a pod is one process, which served at most {at.rps_per_pod:.1f} requests/s"


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
