"""`pilotis eval`: ask a golden set, see how good the answers are, and whether a change made them better."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotis.cli import output, session
from pilotis.cli.proposals import propose
from pilotis.errors import Invalid, SetupError

if TYPE_CHECKING:
    from pilotis.batch.compare import Comparison
    from pilotis.batch.gate import Line
    from pilotis.batch.runs import Run
    from pilotis.derive.plan import Env, Plan
    from pilotis.ports import Deps
    from pilotis.rag.golden import Golden

EPILOG = (
    "pilotis eval run golden.jsonl                             every question asked, every figure with its interval\n\n"
    "pilotis eval run golden.jsonl --gate                      exits 1 where the contract's [slo] is broken\n\n"
    "pilotis eval run golden.jsonl --set top_k=5 --baseline latest   is a cheaper setting worse?\n\n"
    "pilotis eval run golden.jsonl --report report.html        one page to read and to keep\n\n"
    "pilotis --env staging eval run golden.jsonl --json > staging.json   to compare with another env\n\n"
)
Report = Annotated[Path | None, typer.Option(help="Write a page of HTML there.", show_default=False)]

app = typer.Typer(help="How good the answers are: golden sets, runs, comparisons.", no_args_is_help=True)
_baseline = typer.Typer(help="The run that others of its set are compared with.", no_args_is_help=True)
app.add_typer(_baseline, name="baseline")
app.command("propose", epilog="pilotis eval propose -n 50 --out golden.jsonl   then accept what is right")(propose)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one run brought."""

    run: Run
    plan: Plan
    env: Env
    comparison: Comparison | None


@app.command(epilog=EPILOG)
def run(  # noqa: PLR0917 - Typer calls it, by name
    ctx: typer.Context,
    golden: Annotated[Path, typer.Argument(help="The golden set: a file with one JSON object a line.", show_default=False)],
    gate: Annotated[
        bool, typer.Option("--gate", help="Exit 1 where the contract's [slo] is broken, 2 without evidence.")
    ] = False,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="RUN|latest|FILE|none", help="Compare with it.", show_default="the one set for this golden set"),
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the env for this run; repeat.")
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, max=64, help="Questions under way at a time; 1 for latencies at rest.")] = 4,
    report: Report = None,
    queue: Annotated[
        bool, typer.Option("--queue", help="Leave it to a worker (pilotis worker eval), and print its id.")
    ] = False,
) -> None:
    """Ask every question of a golden set and judge the answers. Neither reads nor fills a cache; costs count as the batch plane's."""
    options = output.options(ctx)
    asked = read_golden(golden)
    if report and not report.absolute().parent.is_dir():
        raise SetupError(f"there is no folder {report.absolute().parent}", remedy="name a file in a folder that is there")
    if queue:
        refuse_with_queue(gate=gate, report=report, baseline=baseline)
        _enqueue(options, asked, changes or [], at_once)
        return
    outcome = _inline(options, asked, changes or [], baseline=baseline, at_once=at_once)
    lines: Sequence[Line] = ()
    if gate:
        from pilotis.batch.gate import exit_code
        from pilotis.batch.gate import gate as judged

        figures = outcome.run[0].figures["all"]
        lines = judged(outcome.plan.contract, figures, paid_sample=outcome.env.guardrail_min_sample)
    _show(options, outcome.run, outcome.comparison, lines, report)
    if gate and (code := exit_code(lines)):
        raise typer.Exit(code)


@app.command("list", epilog="pilotis --bu sales eval list")
def list_runs(ctx: typer.Context, last: Annotated[int, typer.Option(min=1, max=1000, help="Runs to show.")] = 20) -> None:
    """List the runs of this env, latest first."""
    options = output.options(ctx)

    async def work(deps: Deps, _plan: Plan, _env: Env) -> Sequence[Any]:
        return await deps.evaluations.list(limit=last)

    found = session.run(options, work)
    if options.json:
        from dataclasses import asdict

        output.print_json([asdict(one) for one in found])
    else:
        from pilotis.cli import evaluation_view as view

        view.print_runs(found)


@app.command(epilog="pilotis eval show 3f9a --report report.html")
def show(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(help="A run, by the beginning of its id, or a file.")],
    report: Report = None,
) -> None:
    """Show a run's figures and the questions that went worst; with --json all of it."""
    options = output.options(ctx)

    async def work(deps: Deps, _plan: Plan, _env: Env) -> tuple[Run, Comparison | None]:
        from pilotis.batch import runs

        found = await _found(deps, run, bu=options.bu, golden="")
        against = await runs.baseline(deps.evaluations, bu=found[0].bu, golden=found[0].golden)
        return found, _compared(against, found)

    found, comparison = session.run(options, work)
    _show(options, found, comparison, (), report)


@app.command(epilog="pilotis eval compare dev.json staging.json")
def compare(
    ctx: typer.Context,
    before: Annotated[str, typer.Argument(metavar="A", help="A run, by the beginning of its id, or a file.")],
    after: Annotated[str, typer.Argument(metavar="B", help="The run to compare with it.")],
    report: Report = None,
) -> None:
    """Compare two runs over the same questions: what changed, by how much, and how likely that is chance."""
    options = output.options(ctx)
    files = [_read_run(one) for one in (before, after)]
    if files[0] and files[1]:
        first, second = files[0], files[1]
    else:

        async def work(deps: Deps, _plan: Plan, _env: Env) -> tuple[Run, Run]:
            second = await _found(deps, after, bu=options.bu, golden="")
            return await _found(deps, before, bu=second[0].bu, golden=second[0].golden), second

        first, second = session.run(options, work)
    from pilotis.batch.compare import compare as compared
    from pilotis.cli import evaluation_view as view

    found = compared(first, second)
    _write_report(report, second, found, ())
    if options.json:
        output.print_json(view.comparison_document(found))
    else:
        view.print_comparison(found)


@_baseline.command("set", epilog="pilotis eval baseline set 3f9a")
def baseline_set(
    ctx: typer.Context, run: Annotated[str, typer.Argument(help="A run that is done, by the beginning of its id.")]
) -> None:
    """From now on compare the runs of its golden set with this one."""
    options = output.options(ctx)

    async def work(deps: Deps, _plan: Plan, _env: Env) -> Any:
        return await deps.evaluations.set_baseline(run)

    found = session.run(options, work)
    if options.json:
        from dataclasses import asdict

        output.print_json(asdict(found))
    else:
        output.out().print(
            f"runs of {found.golden} are compared with {found.id[:8]} of {found.at:%Y-%m-%d %H:%M}", markup=False
        )


def read_golden(path: Path) -> Golden:
    """The set in a file. Raises SetupError where it cannot be read, Invalid for what is in it."""
    from pilotis.rag.golden import parse

    found = parse(_text(path), name=path.name)
    if found.drafts:
        output.note(f'{found.drafts} drafts of {path.name} do not count: add "accepted": true to those that are right')
    return found


def refuse_with_queue(*, gate: bool, report: Path | None, baseline: str | None) -> None:
    """What needs the figures cannot be asked of a run that has none yet. Raises Invalid."""
    for option, given in (("--gate", gate), ("--report", report), ("--baseline", baseline)):
        if given:
            raise Invalid(
                f"{option} needs the figures, which a queued run has later",
                remedy="leave --queue out, or see: pilotis eval show RUN",
            )


def _inline(options: output.Options, golden: Golden, changes: Sequence[str], *, baseline: str | None, at_once: int) -> Outcome:
    from pilotis import wiring
    from pilotis.cli import evaluation_view as view
    from pilotis.derive.variant import to_evaluate
    from pilotis.online.booking import open_books
    from pilotis.online.whole import asker

    given, plan, env = session.load(options)
    plan, env = to_evaluate(plan, env, changes)

    async def work(deps: Deps) -> Outcome:
        from pilotis.batch import runs

        config = runs.config_of(env, plan, generation=deps.passages.generation, changes=changes, at_once=at_once)
        begun = runs.begin(golden, env=env, bu=options.bu, config=config)
        against = None
        if baseline is None:
            against = await runs.baseline(deps.evaluations, bu=options.bu, golden=golden.name)
        elif baseline != "none":
            against = await runs.find(baseline, deps.evaluations, bu=options.bu, golden=golden.name, read=_read_run)
            if against is None:
                output.note(f"no run of {golden.name} was done before: there is nothing to compare with")
        with view.Progress(len(golden.questions), quiet=options.json) as progress:
            ask = asker(env, plan, deps, bu=options.bu)
            done = await runs.carry_out(begun, golden, ask, deps.evaluations, at_once=at_once, progress=progress.show)
        return Outcome(run=done, plan=plan, env=env, comparison=_compared(against, done))

    with wiring.stack(given, plan, env) as addresses:

        async def opened() -> Outcome:
            async with wiring.open_deps(given, plan, env, addresses=addresses, asks=True) as deps, wiring.booked(deps, env):
                # Also where every model is free: else each question would be told apart as served without budgets.
                await open_books(
                    deps.outbox, deps.ledger, instance=deps.instance, zone=env.timezone, announce=deps.guards.announce
                )
                return await work(deps)

        return asyncio.run(opened())


def _enqueue(options: output.Options, golden: Golden, changes: Sequence[str], at_once: int) -> None:
    from pilotis.derive.variant import to_evaluate

    async def work(deps: Deps, plan: Plan, env: Env) -> str:
        from pilotis.batch import runs

        plan, env = to_evaluate(plan, env, changes)
        config = runs.config_of(env, plan, generation=deps.passages.generation, changes=changes, at_once=at_once)
        begun = runs.begin(golden, env=env, bu=options.bu, config=config, state="waiting")
        await deps.evaluations.add(begun, order=runs.order_of(golden, changes=changes, at_once=at_once))
        await deps.queue.nudge("eval")
        return begun.id

    run = session.run(options, work)
    if options.json:
        output.print_json({"run": run})
    else:
        output.out().print(run, markup=False)
        output.note(f"a worker carries it out (pilotis worker eval); then: pilotis eval show {run[:8]}")


async def _found(deps: Deps, ref: str, *, bu: str, golden: str) -> Run:
    from pilotis.batch import runs
    from pilotis.errors import NotFound

    found = await runs.find(ref, deps.evaluations, bu=bu, golden=golden, read=_read_run)
    if found is None:
        raise NotFound("no run was done yet", remedy="see: pilotis eval list")
    return found


def _compared(before: Run | None, after: Run) -> Comparison | None:
    """None where there is nothing to compare: no run before, the same one, one without figures, or one of other questions."""
    if before is None or before[0].id == after[0].id or after[0].state != "done":
        return None
    from pilotis.batch.compare import compare

    try:
        return compare(before, after)
    except Invalid as error:
        output.note(f"not compared: {error.message}")
        return None


def _show(options: output.Options, run: Run, comparison: Comparison | None, lines: Sequence[Line], report: Path | None) -> None:
    from pilotis.cli import evaluation_view as view

    _write_report(report, run, comparison, lines)
    if options.json:
        output.print_json(view.document(run, comparison, lines))
    else:
        view.print_run(run, comparison)
        view.print_gate(lines)
        if report:
            output.note(f"the page is in {report}")


def _write_report(path: Path | None, run: Run, comparison: Comparison | None, lines: Sequence[Line]) -> None:
    if path is None:
        return
    from pilotis.batch.report import page

    try:
        path.write_text(page(run, comparison, lines), encoding="utf-8")
    except OSError as error:
        raise SetupError(
            f"{path} cannot be written: {error.strerror}", remedy="name a file in a folder you may write to"
        ) from error


def _read_run(ref: str) -> Run | None:
    path = Path(ref)
    if not path.is_file():
        return None
    from pilotis.batch.record import read

    return read(_text(path), name=ref)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SetupError(f"there is no file {path}", remedy="name a golden set; pilotis eval propose drafts one") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"byte {error.start} is not UTF-8"
        raise SetupError(f"{path} cannot be read: {reason}", remedy="make it a readable UTF-8 file") from None
