"""Snapshot and restore of a large corpus: time, size, and memory of the process that does it.

    python bench/snapshot.py SOURCE [--passages 100000] [--ledger 100000] [--json]

SOURCE is a folder of Markdown files or of judged sets; the corpus is synthesised around its passages, with a file of 16 KiB for every
20 passages. The bars, at 100 000 passages on two cores: snapshot under 60 s, restore under 120 s.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import psycopg

from common import Opened, parser, private_stack, report
from pilotis.adapters.archive.folder import FolderArchive
from pilotis.adapters.blobs import FolderBlobs
from pilotis.adapters.postgres import PostgresDump, PostgresInventory, open_pool
from pilotis.adapters.redis import RedisMoney
from pilotis.batch.checkup import CHECKS, look
from pilotis.batch.manifest import Owner
from pilotis.batch.restore import restore
from pilotis.batch.snapshot import create, verify
from pilotis.derive.plan import Env
from pilotis.embedded import Addresses, running
from pilotis.wiring import data_folder, open_deps
from synthetic import BU, grow, real_passages

FILE_BYTES = 16 << 10
BARS_S = {"snapshot": 60, "restore": 120}
OWNER = Owner(contract="bench", env="dev", digest="")


class Watch:
    """Seconds of each step, as the road tells them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._what, self._since = "start", time.perf_counter()

    def tell(self, what: str, _done: int, _total: int) -> None:
        now = time.perf_counter()
        self.seconds[self._what] = self.seconds.get(self._what, 0) + now - self._since
        self._what, self._since = what, now

    def told(self) -> str:
        self.tell("", 0, 0)
        longest = sorted(self.seconds.items(), key=lambda step: -step[1])[:5]
        return ", ".join(f"{what} {seconds:.1f}" for what, seconds in longest)


async def run(folder: Path, blobs: FolderBlobs, url: str, other: Addresses, env: Env) -> list[dict[str, object]]:
    assert other.data
    other_url, redis_url, other_blobs = other.database_url, other.redis_url, FolderBlobs(other.data / "blobs")
    archive, dump, rows = FolderArchive(folder), PostgresDump(url), list[dict[str, object]]()
    base = _resident_mb()

    def row(step: str, began: float, watch: Watch, size: int) -> None:
        rows.append(
            {
                "step": step,
                "seconds": time.perf_counter() - began,
                "MB": size / 1e6,
                "peak MB over the start": _resident_mb() - base,
                "most of it": watch.told(),
            }
        )

    for step in ("snapshot", "snapshot, again"):
        watch, began, before = Watch(), time.perf_counter(), _bytes(folder)
        made = await create(archive, dump, blobs, OWNER, now=datetime.now(UTC), tell=watch.tell)
        row(step, began, watch, _bytes(folder) - before)
    watch, began = Watch(), time.perf_counter()
    faults = (await verify(archive, dump, made, tell=watch.tell)).faults
    assert not faults, faults
    row("verify", began, watch, made.bytes)
    watch, began = Watch(), time.perf_counter()
    await restore(archive, PostgresDump(other_url), other_blobs, made, forget=_nothing, tell=watch.tell)
    row("restore", began, watch, made.bytes)
    watch, began = Watch(), time.perf_counter()
    pool = await open_pool(other_url)
    money = RedisMoney(redis_url, env=env, namespace="bench", instance="bench")
    findings = [each async for each in look(PostgresInventory(pool), other_blobs, money.cache, tell=watch.tell)]
    await pool.close()
    await money.close()
    assert len(findings) == len(CHECKS)
    row("doctor --deep", began, watch, made.bytes)
    return rows


async def _nothing() -> None: ...


async def fill(opened: Opened, source: Path, size: int) -> None:
    _, _, addresses, deps = opened
    passages = real_passages(source)
    await asyncio.to_thread(grow, addresses.database_url, passages, await deps.embedder.embed(passages), size=size)


def add_files(url: str, folder: Path, lines: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        ids = connection.execute("SELECT id FROM document").fetchall()
        with connection.cursor() as cursor, connection.transaction():
            digests = []
            for _ in ids:
                content = os.urandom(FILE_BYTES // 2).hex().encode()
                digest = sha256(content).hexdigest()
                path = folder / digest[:2] / digest[2:]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                digests.append(digest)
            pairs = [(digest, id_) for digest, (id_,) in zip(digests, ids, strict=True)]
            cursor.executemany("UPDATE document SET sha256 = %s, size = 16384 WHERE id = %s", pairs)
        connection.execute(
            "INSERT INTO ledger (id, at, env, plane, bu, kind, subject, model, usage, cost_eur, price_book, priced) "
            "SELECT gen_random_uuid(), now() - n * interval '1 minute', 'dev', 'online', %s, 'answer', gen_random_uuid(), 'm', "
            """'{"calls": [{"model": "m", "input_tokens": 1000, "output_tokens": 100}]}', 0.000123456 * n, 'book', true """
            "FROM generate_series(1, %s) n",
            (BU, lines),
        )


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _resident_mb() -> float:
    """The most this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("source", type=Path)
    arguments.add_argument("--passages", type=int, default=100_000)
    arguments.add_argument("--ledger", type=int, default=100_000)
    options = arguments.parse_args()
    with private_stack() as (given, plan, env, addresses), tempfile.TemporaryDirectory(prefix="pilotis-bench-") as folder:

        async def filled() -> None:
            async with open_deps(given, plan, env, addresses=addresses) as deps:
                await fill((plan, env, addresses, deps), options.source, options.passages)

        # The corpus is made in a process of its own: what that takes is not the memory of a snapshot.
        if (child := os.fork()) == 0:
            asyncio.run(filled())
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            sys.exit("the corpus could not be made")
        blobs = data_folder(given, plan, env) / "blobs"
        add_files(addresses.database_url, blobs, options.ledger)
        Path(folder).chmod(0o755)
        with running(Path(folder) / "other") as other:
            rows = asyncio.run(
                run(
                    Path(folder) / "archive",
                    FolderBlobs(blobs),
                    addresses.database_url,
                    other,
                    env,
                )
            )
    report(f"Snapshot of {options.passages:,} passages", rows, as_json=options.json)
    slow = [row["step"] for row in rows if float(str(row["seconds"])) > BARS_S.get(str(row["step"]), 1e9)]
    if slow:
        sys.exit(f"over the bar: {slow}")


if __name__ == "__main__":
    main()
