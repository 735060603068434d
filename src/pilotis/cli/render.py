"""`pilotis render`: the contract becomes infrastructure code, alerts, sheets and runbooks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pilotis.cli import output
from pilotis.cli.contract import read
from pilotis.errors import Conflict, ContractError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pilotis.render.drift import Drift
    from pilotis.render.files import File

EPILOG = (
    "pilotis render                       every deliverable of the contract, into ./deploy\n\n"
    "pilotis render --env prod            the files of prod alone\n\n"
    "pilotis render --lang fr             runbook and diagrams in French alone\n\n"
    "pilotis render --check               exits 1 where a file was edited or has fallen behind, and names it\n\n"
)


def render(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Option("--output", "-o", help="Where to write.")] = Path("deploy"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 where a file is not as the contract says.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite files that were not rendered, and those edited since.")
    ] = False,
    lang: Annotated[
        Literal["en", "fr"] | None,
        typer.Option("--lang", help="Runbook and diagrams in this language alone; both when left out."),
    ] = None,
) -> None:
    """Turn the contract into every deliverable it names, so that no two of them can disagree.

    Only files that were rendered before, and not edited since, are overwritten. Where a secret would be written, nothing is. Exit code 0: the folder is as the contract says; 1: it is
    not, or a file stands in the way; 2: the contract is wrong, or the folder cannot be written.
    """
    from pilotis.adapters import rendered
    from pilotis.derive.plan import derive
    from pilotis.render.drift import compare
    from pilotis.render.render import render as rendering
    from pilotis.render.wording import LANGUAGES

    contract, _ = read(ctx)
    env = output.options(ctx).env
    envs = (env,) if env else ()
    files = rendering(derive(contract), envs=envs, languages=(lang,) if lang else LANGUAGES)
    _require_no_leak(files)
    digests = {path: rendered.digest(file.data) for path, file in files.items()}
    drifts = compare(digests, rendered.look(folder, files, envs))
    if not check:
        _refuse([drift for drift in drifts if drift.what in {"foreign", "edited"}], folder, force=force)
        rendered.write(folder, files, drifts, envs)
    _show(ctx, folder, files, drifts, checked=check)
    if check and drifts:
        raise typer.Exit(1)


def _require_no_leak(files: Mapping[str, File]) -> None:
    """Raises ContractError where a secret would be written."""
    from pilotis.render.leaks import leaks

    if found := leaks(files.values()):
        named = "\n".join(f"  {leak}" for leak in found[:10])
        more = f"\n  and {len(found) - 10} more" if len(found) > 10 else ""
        raise ContractError(
            f"Secrets would be written into files that are committed:\n{named}{more}\nNothing was written.",
            remedy="Take them out of the contract, and replace them where they are in use: secrets are kept where [envs.NAME.secrets] says.",
        )


def _refuse(standing: Sequence[Drift], folder: Path, *, force: bool) -> None:
    """Raises Conflict where a file of somebody's would be lost."""
    if standing and not force:
        named = ", ".join(f"{folder / drift.path} ({drift.what})" for drift in standing[:10])
        more = f" and {len(standing) - 10} more" if len(standing) > 10 else ""
        raise Conflict(
            f"What stands there would be lost: {named}{more}. Nothing was written.",
            remedy="Move your changes into the contract or into files of your own; or overwrite with --force.",
        )


def _show(ctx: typer.Context, folder: Path, files: dict[str, File], drifts: Sequence[Drift], *, checked: bool) -> None:
    if output.options(ctx).json:
        output.print_json(
            {
                "folder": str(folder),
                "files": list(files),
                "drift": [{"path": drift.path, "what": drift.what} for drift in drifts],
                "written": not checked,
            }
        )
        return
    console = output.out()
    for drift in drifts:
        console.print(
            f"{drift.what if checked else 'written' if drift.path in files else 'removed':>10}  {folder / drift.path}",
            markup=False,
        )
    if not drifts:
        console.print(f"{len(files)} files in {folder} are as the contract says.", markup=False)
    elif checked:
        output.note(f"{len(drifts)} of {len(files)} files differ; `pilotis render` writes them.")
    else:
        output.note(f"{len(files)} files in {folder}; {len(drifts)} changed.")
