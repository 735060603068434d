"""Whether the service is there, is whole, has room, and is kept: all but what its objectives and its money say."""

from __future__ import annotations

from collections.abc import Iterator

from pilotis.derive.site import Site
from pilotis.derive.workload import named, roles
from pilotis.render.files import Scene
from pilotis.render.monitoring.alert import Alert, Case, number

HOST_JOB = "pilotis-api"
"""What Prometheus calls the API where no operator gives the name of a Service."""
QUEUE_S = 3600
"""What waits longer is not on its way."""
MIB = 1024 * 1024


def job(site: Site) -> str:
    """A matcher of the API's processes, by whichever name they are scraped."""
    return f'job=~"{HOST_JOB}|{named(site, "api-metrics")}"'


def alerts(scene: Scene, site: Site) -> Iterator[Alert]:
    yield from _present(site)
    yield from _whole(site)
    yield from _elsewhere()
    yield from _room(scene, site)
    yield from _kept(site)


def _present(site: Site) -> Iterator[Alert]:
    up = f'up{{job="{HOST_JOB}",instance="a"}}'
    yield Alert(
        name="ServiceAbsent",
        group="service",
        expr=f"absent(up{{{job(site)}}} == 1)",
        for_="2m",
        severity="page",
        summary="No process of the service answers Prometheus.",
        description="None was found, or none answers: no other alert can speak.",
        units="processes",
        cases=(
            Case(why="none is found", series={'up{job="other"}': "1x20"}, at="10m", fires=({},)),
            Case(why="none answers", series={up: "0x20"}, at="10m", fires=({},)),
            Case(why="one answers", series={up: "1x20"}, at="10m"),
        ),
    )
    yield Alert(
        name="InstanceDown",
        group="service",
        expr=f"up{{{job(site)}}} == 0",
        for_="5m",
        severity="ticket",
        summary="A process does not answer Prometheus.",
        description="{{ $labels.instance }} has not answered for 5 minutes.",
        units="processes",
        cases=(
            Case(why="it is away", series={up: "0x20"}, at="10m", fires=({"job": HOST_JOB, "instance": "a"},)),
            Case(why="it answers", series={up: "1x20"}, at="10m"),
        ),
    )
    info = f'rag_contract_info{{name="n",env="{site.env.name}",digest="d"}}'
    yield Alert(
        name="MetricsAbsent",
        group="service",
        expr=f'absent(rag_contract_info{{env="{site.env.name}"}})',
        for_="5m",
        severity="page",
        summary="The service's own measurements are missing.",
        description="Something answers, and it is not this service in this env: alerts about it cannot fire.",
        units="processes",
        cases=(
            Case(why="something else answers", series={up: "1x20"}, at="10m", fires=({"env": site.env.name},)),
            Case(why="they are there", series={info: "1x20"}, at="10m"),
        ),
    )


def _whole(site: Site) -> Iterator[Alert]:
    last = len(site.env.ladder)
    level = 'rag_guardrail_level{scope="env"}'
    yield Alert(
        name="GuardrailActive",
        group="service",
        expr="max by (scope) (rag_guardrail_level) > 0",
        for_="5m",
        severity="ticket",
        summary="The guardrail serves less than the full service.",
        description="{{ $labels.scope }} is on a step of the ladder because answers cost too much.",
        units="step",
        cases=(
            Case(why="a step down", series={level: "1x20"}, at="10m", fires=({"scope": "env"},)),
            Case(why="the full service", series={level: "0x20"}, at="10m"),
        ),
    )
    if last > 1:
        yield Alert(
            name="GuardrailAtLastStep",
            group="service",
            expr=f"max by (scope) (rag_guardrail_level) >= {last}",
            for_="2m",
            severity="page",
            summary="The guardrail has no step left.",
            description=f"{{{{ $labels.scope }}}} is at the ladder's last step, {site.env.ladder[-1]}.",
            units="step",
            cases=(
                Case(why="the last step", series={level: f"{last}x20"}, at="10m", fires=({"scope": "env"},)),
                Case(why="a step before", series={level: f"{last - 1}x20"}, at="10m"),
            ),
        )


def _elsewhere() -> Iterator[Alert]:
    open_ = 'rag_breaker_open{model="m"}'
    yield Alert(
        name="ModelBreakerOpen",
        group="service",
        expr="max by (model) (rag_breaker_open) == 1",
        for_="5m",
        severity="ticket",
        summary="A model does not answer.",
        description="Calls of {{ $labels.model }} failed so often that it has been left alone for 5 minutes.",
        units="endpoints",
        cases=(
            Case(why="it is left alone", series={open_: "1x20"}, at="10m", fires=({"model": "m"},)),
            Case(why="it answers", series={open_: "0x20"}, at="10m"),
        ),
    )
    waits = 'rag_queue_oldest_seconds{queue="ingest",bu="sales"}'
    yield Alert(
        name="QueueOld",
        group="batch",
        expr=f"max by (queue, bu) (rag_queue_oldest_seconds) > {QUEUE_S}\n"
        "unless on (queue, bu) max by (queue, bu) (rag_queue_paused) == 1",
        for_="10m",
        severity="ticket",
        summary="Documents wait too long.",
        description="In the queue {{ $labels.queue }} of {{ $labels.bu }} something has waited for more than an hour.",
        units="s",
        cases=(
            Case(why="two hours", series={waits: "7200x40"}, at="30m", fires=({"queue": "ingest", "bu": "sales"},)),
            Case(why="a minute", series={waits: "60x40"}, at="30m"),
            Case(why="it rests", series={waits: "7200x40", 'rag_queue_paused{queue="ingest",bu="sales"}': "1x40"}, at="30m"),
        ),
    )


def _room(scene: Scene, site: Site) -> Iterator[Alert]:
    slo, api = scene.plan.contract.slo, roles(site)[0]
    labels = f'job="{HOST_JOB}",instance="a"'
    who = {"job": HOST_JOB, "instance": "a"}
    memory = api.memory_mib * MIB
    for name, expr, unit, series, high, low, says in (
        (
            "CpuSaturated",
            f"rate(process_cpu_seconds_total{{{job(site)}}}[5m]) / {number(api.vcpu)} > {number(slo.cpu)}",
            "ratio",
            f"process_cpu_seconds_total{{{labels}}}",
            f"0+{number(60 * api.vcpu * (slo.cpu + 1) / 2)}x60",
            f"0+{number(60 * api.vcpu * slo.cpu / 2)}x60",
            f"slo.cpu = {number(slo.cpu)} of {number(api.vcpu)} vCPU",
        ),
        (
            "MemorySaturated",
            f"process_resident_memory_bytes{{{job(site)}}} / {memory} > {number(slo.ram)}",
            "ratio",
            f"process_resident_memory_bytes{{{labels}}}",
            f"{int(memory * (slo.ram + 1) / 2)}x60",
            f"{int(memory * slo.ram / 2)}x60",
            f"slo.ram = {number(slo.ram)} of {api.memory_mib} MiB",
        ),
        (
            "InFlightSaturated",
            f"rag_in_flight{{{job(site)}}} / {site.env.in_flight} > {number(slo.cpu)}",
            "ratio",
            f"rag_in_flight{{{labels}}}",
            f"{site.env.in_flight}x60",
            "0x60",
            f"{number(slo.cpu)} (slo.cpu) of perf.in_flight = {site.env.in_flight}",
        ),
    ):
        yield Alert(
            name=name,
            group="service",
            expr=expr,
            for_="10m",
            severity="ticket",
            summary="A process is nearly full.",
            description=f"{{{{ $labels.instance }}}} has been above {says} for 10 minutes.",
            units=unit,
            cases=(
                Case(why="too full", series={series: high}, at="40m", fires=(who,)),
                Case(why="has room", series={series: low}, at="40m"),
            ),
        )


def _kept(site: Site) -> Iterator[Alert]:
    days = site.secrets.max_age_days
    age = 'rag_secret_age_seconds{name="OPENAI_API_KEY"}'
    yield Alert(
        name="SecretOld",
        group="service",
        expr=f"max by (name) (rag_secret_age_seconds) > {days * 86_400}",
        for_="1h",
        severity="ticket",
        summary="A secret has to be replaced.",
        description=f"{{{{ $labels.name }}}} is older than {days} days.",
        units="s",
        cases=(
            Case(
                why="a day too old",
                series={age: f"{(days + 1) * 86_400}x120"},
                at="2h",
                fires=({"name": "OPENAI_API_KEY"},),
            ),
            Case(why="new", series={age: "3600x120"}, at="2h"),
        ),
    )
