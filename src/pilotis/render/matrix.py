"""The scaling matrix: how much machine so many requests a second need, for the specification's rows and the contract's envs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from pilotis.derive.sizing import CACHE_MIB, MATRIX, Hourly, Size, bill
from pilotis.render.files import File, Scene

COLUMNS = (
    *("of", "rps", "api_pods", "vcpu_per_pod", "vcpu", "workers", "cache", "cache_mib", "shards", "connections"),
    *("replicated", "compute_eur_per_month", "database_eur_per_month", "caches_eur_per_month", "eur_per_month"),
)


def files(scene: Scene) -> Iterator[File]:
    rows = list(_rows(scene))
    yield File(path="sizing/matrix.csv", content=_csv(scene, rows))
    yield File(path="sizing/matrix.md", content=_page(scene, rows))


def _rows(scene: Scene) -> Iterator[tuple[str, ...]]:
    pool = scene.plan.contract.perf.pool_max
    for row in MATRIX:
        yield _row("matrix", row, pool, replicated=False)
    for name, site in scene.sites.items():
        yield _row(name, site.size, site.env.pool_max, replicated=site.is_prod)


def _row(of: str, row: Size, pool_max: int, *, replicated: bool) -> tuple[str, ...]:
    cost = bill(row, replicated=replicated)
    return (
        *(of, f"{row.rps:f}", str(row.api_pods), f"{row.api_vcpu:f}", f"{row.vcpu:f}", str(row.workers), row.cache),
        *(str(row.cache_mib), str(row.shards), str(row.connections(pool_max)), "yes" if replicated else "no"),
        *(f"{eur:.2f}" for eur in (cost.compute_eur, cost.database_eur, cost.cache_eur, cost.total_eur)),
    )


def _csv(scene: Scene, rows: list[tuple[str, ...]]) -> str:
    text = io.StringIO()
    text.write(scene.banner())
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    return text.getvalue().replace("\n\n", "\n", 1)


def _page(scene: Scene, rows: list[tuple[str, ...]]) -> str:
    at, perf = Hourly(), scene.plan.contract.perf
    headers = (
        *("of", "requests/s", "pods x vCPU", "workers", "Redis", "shards", "connections", "stores twice"),
        *("compute €", "database €", "Redis €", "€/month"),
    )
    shown = [
        (r[0], r[1], f"{r[2]} x {r[3]}", r[5], f"{r[6]} ({r[7]} MiB)", r[8], r[9], r[10], *r[11:14], f"**{r[14]}**")
        for r in rows
    ]
    stores = ", ".join(f"{name}: database {at.database_eur[name]}, each Redis {at.cache_eur[name]}" for name in CACHE_MIB)
    return "\n".join(
        [
            *("<!--", *scene.origin, "-->", "", "# Scaling matrix", ""),
            "The rows `matrix` are the specification's. An env takes the first of them that carries its requests a second; beyond the last",
            "one pods, workers and shards grow in proportion and are rounded up.",
            "",
            f"| {' | '.join(headers)} |",
            f"|---|{'--:|' * (len(headers) - 1)}",
            *(f"| {' | '.join(row)} |" for row in shown),
            "",
            f"Connections: pods, workers, the scheduler and the control plane, {perf.pool_max} each (`perf.pool_max`). Redis: what a class",
            "needs at least; a node of the cloud may have more.",
            "",
            "By Little's law, vCPUs that are busy = requests a second x seconds of vCPU that each takes. The matrix gives 10 to 12.5",
            f"requests a second to a vCPU; `slo.cpu = {scene.plan.contract.slo.cpu:f}` is the share of it above which an alert asks for more.",
            "",
            f"Prices: {at.source} ({at.date}). An hour of a vCPU {at.vcpu_eur} €, of a GiB {at.gib_eur} €; of stores by class, {stores} €.",
            "A month has 730 hours. Models, traffic and storage are not in it: see `budget/`.",
            "",
        ]
    )
