"""`pilotis export`: documents and passages for other programs."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pilotis.cli import output, session
from pilotis.cli.progress import Steps
from pilotis.errors import Invalid, SetupError

if TYPE_CHECKING:
    from pilotis.ports.export import Kind, Sheet

app = typer.Typer(
    help="Documents and passages as JSON lines or Parquet, for other programs. For a backup see `pilotis snapshot`.",
    no_args_is_help=True,
)

Format = Literal["jsonl", "parquet"]
As = Annotated[Format, typer.Option("--format", help="JSON lines, or Parquet with the extra `parquet`.")]
Into = Annotated[str, typer.Option("-o", "--output", metavar="FILE", help="Where to; - is standard output, for JSON lines.")]
Everybody = Annotated[bool, typer.Option("--all", help="All business units instead of one.")]


@app.command(epilog="pilotis --bu sales export documents -o sales.jsonl")
def documents(ctx: typer.Context, into: Into, form: As = "jsonl", everybody: Everybody = False) -> None:
    """Every document of a business unit (--bu) or of all: its name, state, digest, metadata and times."""
    _export(output.options(ctx), "documents", into, form, everybody=everybody)


@app.command(epilog="pilotis export passages --all --format parquet --vectors -o passages.parquet")
def passages(
    ctx: typer.Context,
    into: Into,
    form: As = "jsonl",
    everybody: Everybody = False,
    vectors: Annotated[bool, typer.Option("--vectors", help="With the vector of each passage.")] = False,
) -> None:
    """Every passage of a business unit (--bu) or of all: its text, and where it stands in which document."""
    _export(output.options(ctx), "passages", into, form, everybody=everybody, vectors=vectors)


def _export(options: output.Options, kind: Kind, into: str, form: Format, *, everybody: bool, vectors: bool = False) -> None:
    import asyncio

    from pilotis import wiring
    from pilotis.adapters.postgres import PostgresExports
    from pilotis.batch import export

    if into == "-" and (form == "parquet" or options.json):
        raise Invalid("standard output takes JSON lines, and nothing beside them", remedy="name a file: -o FILE")
    given, plan, env = session.load(options)
    began = time.monotonic()

    def sheet(path: Path) -> Sheet:
        if form == "jsonl":
            return export.LinesSheet(path.open("w", encoding="utf-8"))
        from pilotis.adapters.parquet import ParquetSheet

        return ParquetSheet(path, kind, vectors=vectors)

    with wiring.stack(given, plan, env) as addresses, Steps(quiet=options.json or into == "-") as steps:
        rows = PostgresExports(addresses.database_url).rows(kind, bu=None if everybody else options.bu, vectors=vectors)

        def tell(done: int) -> None:
            steps.tell(kind, done, 0)

        try:
            if into == "-":
                written = asyncio.run(export.export(rows, export.LinesSheet(sys.stdout, shared=True), tell=tell))
            else:
                written = asyncio.run(export.into_file(rows, Path(into), sheet, tell=tell))
        except BrokenPipeError:
            raise  # whoever reads has had enough
        except OSError as error:
            raise SetupError(f"{into} cannot be written: {error.strerror or error}", remedy="name another file") from error
    if options.json:
        output.print_json({"kind": kind, "rows": written, "file": into, "seconds": round(time.monotonic() - began, 3)})
    elif into != "-":
        output.out().print(f"{written:,} {kind} in {into}", markup=False)
