"""`pilotis snapshot drill`: a snapshot is worth what its restore is worth, so it is restored, aside, and tried."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from pilotis.cli import output, shelf
from pilotis.cli.progress import Steps
from pilotis.cli.shelf import At, Name, Opened

if TYPE_CHECKING:
    from pilotis.batch.drill import Proof
    from pilotis.batch.manifest import Manifest
    from pilotis.embedded import Addresses
    from pilotis.ports import Blobs
    from pilotis.ports.archive import Tell

EPILOG = "pilotis snapshot drill --at /mnt/backup/pilotis\n\npilotis snapshot drill --at s3://backups/pilotis --searches 50 --json\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drilled:
    """A drill, with its times."""

    manifest: Manifest
    proof: Proof
    restore_s: float
    prove_s: float


def drill(
    ctx: typer.Context,
    name: Name = "latest",
    at: At = None,
    searches: Annotated[int, typer.Option(min=0, help="How many passages to look for.")] = 20,
    scratch: Annotated[
        Path | None, typer.Option(help="Where the temporary servers have their folder.", show_default="the system's")
    ] = None,
) -> None:
    """Restore a snapshot into a temporary env with servers of its own, and prove that it is whole and serves; exit 1 where not.

    Rows of every table and the sum of the ledger are compared with the snapshot, passages are searched for by the titles of their
    documents, and every check of `doctor --deep` is made. Nothing of the running service is touched.
    """
    options = output.options(ctx)

    async def find(opened: Opened) -> Manifest:
        from pilotis.batch import snapshot

        return await snapshot.find(opened.archive, name)

    made = shelf.run(options, at, find, servers=False)
    with TemporaryDirectory(prefix="pilotis-drill-", dir=scratch, ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # as root the servers run as another account
        done = _drilled(options, at, made, Path(folder) / "env", searches)
    if options.json:
        proof = asdict(done.proof) | {"findings": [asdict(each) for each in done.proof.findings]}
        times = {"restore_s": round(done.restore_s, 3), "prove_s": round(done.prove_s, 3)}
        output.print_json({"snapshot": shelf.document(done.manifest)} | proof | times)
    else:
        _print(done)
    if done.proof.faults:
        raise typer.Exit(1)


def _drilled(options: output.Options, at: str | None, made: Manifest, folder: Path, searches: int) -> Drilled:
    from pilotis import embedded
    from pilotis.adapters.blobs import FolderBlobs
    from pilotis.adapters.postgres import PostgresDump
    from pilotis.batch.restore import restore

    began = time.monotonic()
    with embedded.running(folder) as addresses, Steps(quiet=options.json) as steps:

        async def work(opened: Opened) -> Drilled:
            dump, blobs = PostgresDump(addresses.database_url), FolderBlobs(folder / "blobs")
            await restore(opened.archive, dump, blobs, made, forget=_nothing, tell=steps.tell)
            restored = time.monotonic()
            proof = await _prove(opened, addresses, made, blobs, searches=searches, tell=steps.tell)
            return Drilled(manifest=made, proof=proof, restore_s=restored - began, prove_s=time.monotonic() - restored)

        return shelf.run(options, at, work, servers=False)


async def _prove(opened: Opened, addresses: Addresses, made: Manifest, blobs: Blobs, *, searches: int, tell: Tell) -> Proof:
    from pilotis.adapters import postgres
    from pilotis.adapters.redis import RedisMoney
    from pilotis.batch.drill import prove

    money = RedisMoney(addresses.redis_url, env=opened.env, namespace="drill", instance="drill")
    pool = await postgres.open_pool(addresses.database_url)
    try:
        passages = None
        if made.rows("passage"):
            generation = await postgres.active_generation(pool)
            passages = postgres.PostgresPassages(pool, generation, languages=opened.env.languages)
        dump, inventory = postgres.PostgresDump(addresses.database_url), postgres.PostgresInventory(pool)
        return await prove(made, dump, inventory, passages, blobs=blobs, cache=money.cache, searches=searches, tell=tell)
    finally:
        await pool.close()
        await money.close()


async def _nothing() -> None:
    """Servers that are new have nothing to forget."""


def _print(done: Drilled) -> None:
    console, proof = output.out(), done.proof
    console.print(f"{done.manifest.name}: {shelf.told(done.manifest)}", markup=False)
    console.print(f"restored in {done.restore_s:.1f} s, proven in {done.prove_s:.1f} s", markup=False)
    console.print(f"{proof.searches} passages looked for, {proof.search_ms:.1f} ms each", markup=False)
    for fault in proof.faults:
        console.print(fault, style="red", markup=False)
    if done.manifest.missing:
        console.print(f"{len(done.manifest.missing)} original files were missing when it was taken", style="yellow")
    if not proof.faults:
        micro = done.manifest.ledger.micro
        console.print(
            f"it can be restored: every row, {micro:,} micro-euros, and all it serves", style="bold green", markup=False
        )
