"""The command `pilotis`: its verbs, its global options, and the one table from errors to exit codes."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from pilotis import __version__
from pilotis.cli import (
    ask,
    bench,
    cache,
    contract,
    contract_diff,
    cost,
    demo,
    doctor,
    evaluation,
    export,
    feedback,
    guardrail,
    index,
    ingest,
    keys,
    migrate,
    output,
    queue,
    render,
    search,
    size,
    snapshot,
    sync,
    up,
    workers,
)
from pilotis.errors import ContractError, PilotisError, SetupError

if TYPE_CHECKING:
    from collections.abc import Sequence

VALUED = frozenset({"--contract", "--env", "--data", "--bu"})
FLAGS = frozenset({"--json", "--debug"})

EPILOG = """[bold]Start here[/bold]

  pilotis demo                          see it work, on its own documentation

  pilotis ingest ./handbook             read a folder of documents

  pilotis ask "How do I rotate a key?"  an answer with sources and cost

  pilotis up                            the HTTP API, until Ctrl-C

Global options may stand before or after the verb. Exit codes: 0 done, 1 failed, 2 wrong usage, contract or set-up, 130 stopped."""


class Anywhere(TyperGroup):
    """Takes the global options wherever they stand."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        return super().parse_args(ctx, hoisted(args))


def hoisted(args: Sequence[str]) -> list[str]:
    """The same arguments with the global options first; what follows `--` stays where it is."""
    front: list[str] = []
    rest: list[str] = []
    pending = iter(args)
    for argument in pending:
        if argument == "--":
            rest += ["--", *pending]
        elif argument in VALUED:
            front += [argument, *([value] if (value := next(pending, None)) is not None else [])]
        elif argument in FLAGS or argument.partition("=")[0] in VALUED:
            front.append(argument)
        else:
            rest.append(argument)
    return front + rest


app = typer.Typer(
    name="pilotis",
    cls=Anywhere,
    help="Answers from your documents, with their sources and their cost, under one contract.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _global(  # noqa: PLR0917 - Typer calls it, by name
    ctx: typer.Context,
    contract: Annotated[
        Path | None,
        typer.Option(help="The contract; else PILOTIS_CONTRACT, else pilotis.toml or pilotis.json here.", show_default=False),
    ] = None,
    env: Annotated[str | None, typer.Option(help="Which env of the contract; else PILOTIS_ENV.", show_default="dev")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Data folder; else PILOTIS_DATA.", show_default="in your user data folder")
    ] = None,
    bu: Annotated[str, typer.Option(help="Business unit to act for.")] = "default",
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    ctx.obj = output.Options(contract=contract, env=env, data=data, bu=bu, json=json, debug=debug)


@app.command()
def version(ctx: typer.Context) -> None:
    """Print the version."""
    if output.options(ctx).json:
        output.print_json({"version": __version__})
    else:
        output.out().print(f"pilotis {__version__}")


app.command(epilog="pilotis demo --once   answers and exits")(demo.demo)
app.command(epilog="pilotis up --port 9000   then open http://127.0.0.1:9000/docs")(up.up)
app.command()(ingest.ingest)
app.command(epilog=sync.EPILOG)(sync.sync)
app.command(epilog='pilotis ask "Qui paie ?" --collection handbook --json')(ask.ask)
app.command(epilog='pilotis search "rotate an API key" --top-k 5')(search.search)
app.command(epilog="pilotis migrate --check   exits 1 where something is pending")(migrate.migrate)
app.command(epilog="pilotis doctor --json\n\npilotis doctor --deep   exits 1 where something is lost or left over")(
    doctor.doctor
)
app.command(epilog=render.EPILOG)(render.render)
app.command(epilog=size.EPILOG)(size.size)
app.command(epilog="pilotis worker ingest   one queue, in the foreground")(workers.worker)

_keys = typer.Typer(help="API keys, each bound to a business unit.", no_args_is_help=True)
_keys.command("create", epilog="pilotis keys create website --bu sales --rights ask --expires 90d --month-eur 50")(keys.create)
_keys.command("list")(keys.list_keys)
_keys.command("revoke")(keys.revoke)
_keys.command("rotate", epilog="pilotis keys rotate ID --overlap 24h")(keys.rotate)
app.add_typer(_keys, name="keys")
contract.app.command("diff", epilog=contract_diff.EPILOG)(contract_diff.diff)
app.add_typer(contract.app, name="contract")
app.add_typer(cost.app, name="cost")
app.add_typer(bench.app, name="bench")
app.add_typer(guardrail.app, name="guardrail")
app.add_typer(evaluation.app, name="eval")
app.add_typer(feedback.app, name="feedback")
app.add_typer(cache.app, name="cache")
app.add_typer(queue.app, name="queue")
app.add_typer(index.app, name="index")
app.add_typer(snapshot.app, name="snapshot")
app.add_typer(export.app, name="export")


def main() -> None:
    """Run the command line; every error becomes a message, a remedy and an exit code here and nowhere else."""
    sys.exit(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """The exit code of `pilotis ARGS`."""
    # Where Postgres goes away the pool would tell each of its tries; the error that ends the verb says it once, with a remedy.
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(list(args), prog_name="pilotis")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except PilotisError as error:
        _tell(error.message, error.remedy, args)
        return 2 if isinstance(error, ContractError | SetupError) else 1
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # the last net: one line a person can act on, the traceback only when asked for
        _tell(f"unexpected {type(error).__name__}: {error}", "run it again with --debug and report what it shows", args)
        return 1
    return 0


def _tell(message: str, remedy: str, args: Sequence[str]) -> None:
    output.fail(message, remedy)
    if "--debug" in args:
        import traceback

        traceback.print_exc()
