"""`pilotis queue` and the sweeper, as an operator meets them: real servers, real workers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from integration.batch.conftest import Town


def queue(town: Town, *args: str, bu: str, code: int = 0) -> Any:
    command = [sys.executable, "-m", "pilotis", "--json", "--bu", bu, "queue", *args]
    done = subprocess.run(command, env=town.environ, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout) if done.stdout else done.stderr


async def test_dead_letters_are_seen_retried_and_dropped(town: Town, tmp_path: Path) -> None:
    async with town.deps() as deps:
        ids = await town.receive(deps, {"good.md": "# Tolls\n\nSundays are free.", "bad.md": "   "}, tmp_path, "letters")
        town.worker("ingest")
        town.worker("embed")
        assert await town.settled(deps, "letters", ids) == {"indexed": 1, "failed": 1}
        town.end_workers()
        (failed,) = queue(town, "list", bu="letters")
        assert (failed["name"], failed["failed_in"], failed["error"]) == (
            "bad.md",
            "parsing",
            "there is no text in it; check that it is the right file",
        )
        assert queue(town, "list", bu="others") == []
        (row,) = [one for one in queue(town, "status", bu="letters")["waiting"] if one["bu"] == "letters"]
        assert (row["queue"], row["documents"]) == ("failed", 1)
        assert queue(town, "retry", failed["id"], bu="others") == {"retried": 0}
        assert queue(town, "retry", failed["id"], bu="letters") == {"retried": 1}
        assert queue(town, "cancel", failed["id"], bu="letters") == {"cancelled": 1}
        assert queue(town, "list", bu="letters")[0]["error"].startswith("cancelled by ")
        assert queue(town, "drop", "--all", "--yes", bu="letters") == {"dropped": 1}
        assert await deps.documents.counts("letters") == {"indexed": 1}
        assert "documents" in queue(town, "retry", bu="letters", code=1)


async def test_a_pause_holds_workers_until_it_is_resumed(town: Town, tmp_path: Path) -> None:
    async with town.deps() as deps:
        assert queue(town, "pause", "embed", "--for", "1h", "--reason", "quota", bu="paused")["until"]
        ids = await town.receive(deps, {"a.md": "# A\n\nOne."}, tmp_path, "paused")
        others = await town.receive(deps, {"b.md": "# B\n\nTwo."}, tmp_path, "moving")
        town.worker("ingest")
        town.worker("embed")
        assert await town.settled(deps, "moving", others) == {"indexed": 1}
        await town.until_parsed(deps, "paused", 1)
        assert await deps.documents.counts("paused") == {"embedding": 1}
        (pause,) = queue(town, "status", bu="paused")["pauses"]
        assert (pause["queue"], pause["bu"]) == ("embed", "paused")
        assert pause["reason"].startswith("quota")
        assert queue(town, "resume", bu="paused") == {"resumed": 1}
        assert await town.settled(deps, "paused", ids) == {"indexed": 1}


async def test_the_sweeper_finds_what_nobody_was_woken_for(town: Town, tmp_path: Path) -> None:
    """A blob without a document, and a document whose last vector was stored by a worker that died before it could publish."""
    async with town.deps() as deps:
        ids = await town.receive(deps, {"a.md": "# A\n\nThe lost vector."}, tmp_path, "swept")
        ingest = town.worker("ingest")
        await town.until_parsed(deps, "swept", 1)
        ingest.terminate()
        ingest.wait(20)
        town.rows(
            "UPDATE draft SET embedding = array_fill(0.05, ARRAY[384])::halfvec WHERE document_id = ANY(%s::uuid[]) RETURNING 1",
            list(ids),
        )
        orphan = tmp_path / "orphan"
        orphan.write_text("an upload that died")
        sha256, _ = await deps.blobs.put(orphan)
        town.rows("INSERT INTO blob (sha256) VALUES (%s) RETURNING 1", sha256)
        town.worker("upkeep")
        assert await town.settled(deps, "swept", ids) == {"indexed": 1}
        assert not await deps.blobs.exists(sha256)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_in_the_foreground_leaves_nobody_behind(town: Town, sent: signal.Signals) -> None:
    def working() -> list[int]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_text().split("\0")
                if "pilotis.tasks" in command and f"PILOTIS_DATA={town.data}" in (folder / "environ").read_text():
                    found.append(int(folder.name))
        return found

    command = [sys.executable, "-m", "pilotis", "--data", str(town.data), "worker", "upkeep"]
    with town.log.open("w") as log:
        started = subprocess.Popen(command, stdout=log, stderr=log, cwd=town.data)
    try:
        _wait(lambda: '"message":"ready"' in town.log.read_text())
        assert len(working()) == 1
        started.send_signal(sent)
        assert started.wait(20) == (0 if sent is signal.SIGTERM else -signal.SIGKILL)
        _wait(lambda: not working())
    finally:
        started.kill()
        for pid in working():
            os.kill(pid, signal.SIGKILL)


def _wait(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 40
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
