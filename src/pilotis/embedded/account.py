"""Whom the servers run as: Postgres refuses to be root, so root lends them an account without rights."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING, NamedTuple

from pilotis.errors import SetupError

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("pilotis", "postgres", "_postgres", "nobody")
"""Accounts to borrow, the most fitting first."""


class Account(NamedTuple):
    """An account to become. Not a dataclass: the import of `dataclasses` would cost the guardian 2.5 MB."""

    uid: int
    gid: int


def account_for(data: Path) -> Account | None:
    """The account the servers of this folder run as; None where they run as the caller does.

    Raises SetupError where there is no such account.
    """
    if os.geteuid() != 0:
        _check_named()
        return None
    postgres = data / "postgres"
    if postgres.is_dir() and postgres.stat().st_uid != 0:
        held = postgres.stat()
        return Account(held.st_uid, held.st_gid)
    folder = data.stat()
    if folder.st_uid != 0 and _has_entry(folder.st_uid):
        return Account(folder.st_uid, folder.st_gid)
    for name in NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(entry.pw_uid, entry.pw_gid)
    raise SetupError(
        "Postgres refuses to run as root, and this machine has no account to lend it",
        remedy="run Pilotis as a normal user, or make an account: useradd --system pilotis",
    )


def reachable(path: Path, account: Account) -> Path | None:
    """The first part of the path that the account may not pass or read; None where all is open. Reads mode bits only, no ACL."""
    for part in (*reversed(path.parents), path):
        held = part.stat()
        bits = 0o5 if part == path else 0o1
        if held.st_uid == account.uid:
            bits <<= 6
        elif held.st_gid == account.gid:
            bits <<= 3
        if held.st_mode & bits != bits:
            return part
    return None


def _check_named() -> None:
    uid = os.geteuid()
    if not _has_entry(uid):
        raise SetupError(
            f"user id {uid} has no entry in /etc/passwd, and Postgres' initdb insists on one",
            remedy=f"add one (echo 'pilotis:x:{uid}:{os.getegid()}::/tmp:/bin/false' >> /etc/passwd), or use another user id",
        )


def _has_entry(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
