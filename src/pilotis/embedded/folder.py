"""The data folder of one env: its layout, its format number, and the reasons to refuse it."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pilotis.errors import SetupError

if TYPE_CHECKING:
    from pilotis.embedded.account import Account

FORMAT = 1
POSTGRES_MAJOR = "18"
TOLERATED = frozenset({"lost+found", ".DS_Store"})
NEW_BYTES = 160 * 2**20
"""Free space a new folder needs: 46 MB of system catalogue, three 16 MB WAL segments, and air."""
KEPT_BYTES = 48 * 2**20
"""Free space an existing folder needs: with less than three WAL segments Postgres may panic in the middle of a write."""
SOCKET_DIR_BYTES = 80
"""A unix socket's path holds 103 bytes on macOS, 107 on Linux; the name takes up to 16."""
PLAIN = re.compile(r"[A-Za-z0-9/._-]+")
"""What a socket's folder may be made of: it stands unquoted in URLs and configuration."""


class Folder(NamedTuple):
    """Where everything of one env lies."""

    path: Path

    @property
    def postgres(self) -> Path:
        return self.path / "postgres"

    @property
    def redis(self) -> Path:
        return self.path / "redis"

    @property
    def blobs(self) -> Path:
        return self.path / "blobs"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def capacity(self) -> Path:
        """What `pilotis bench capacity` measured."""
        return self.path / "capacity.json"


def locate(data: Path) -> Folder:
    """The folder behind a path that a person gave. Raises SetupError for a path no server can live with."""
    try:
        path = data.expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise SetupError(
            f"the data folder {data} cannot be resolved: {error}", remedy="choose another folder with --data"
        ) from error
    if any(ord(letter) < 32 for letter in str(path)):
        raise SetupError(
            f"the data folder {str(path)!r} has a control character in its name", remedy="choose another folder with --data"
        )
    return Folder(path)


def prepare(data: Path) -> Folder:
    """Make the folder ready for use, or refuse it untouched. Raises SetupError."""
    folder = locate(data)
    try:
        _make(folder.path)
        _claim(folder)
        _check_room(folder)
        for part in (folder.blobs, folder.logs, folder.run):
            part.mkdir(mode=0o700, exist_ok=True)
        _belong_to_owner(folder)
        _check_ours(folder)
    except OSError as error:
        raise _refusal(folder, error) from error
    return folder


def format_of(folder: Folder) -> int:
    """The folder's format number. Raises SetupError where it is no number or a newer one, OSError where it cannot be read."""
    text = (folder.path / "VERSION").read_text(encoding="ascii", errors="replace").strip()
    if not text.isdecimal():
        raise SetupError(
            f"{folder.path / 'VERSION'} holds {text[:40]!r}, not a format number",
            remedy=f"write {FORMAT} into it if this is a data folder of Pilotis, else choose another folder with --data",
        )
    if int(text) > FORMAT:
        raise SetupError(
            f"the data folder {folder.path} has format {text}, this Pilotis knows formats up to {FORMAT}",
            remedy="install the newer Pilotis that wrote it, or choose another folder with --data",
        )
    return int(text)


def write(folder: Folder, name: str, text: str) -> None:
    """Write a small file whole or not at all, as its owner. Raises SetupError."""
    draft = folder.path / f".{name}.{os.getpid()}"
    try:
        draft.write_text(text, encoding="utf-8")
        owner = folder.path.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            os.chown(draft, owner.st_uid, owner.st_gid)
        draft.rename(folder.path / name)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise _refusal(folder, error) from error


def socket_dir(folder: Folder, account: Account | None) -> Path:
    """Make the folder of the sockets, mode 0700, owned by the account. Raises SetupError where somebody else holds its name.

    Sockets lie in the data folder where their path is short and plain. They lie in a short folder named by a digest where it is
    not, and always under root, whose data folder the servers' account cannot enter by its path.
    """
    inside = folder.run / "sockets"
    if account is None and len(os.fsencode(inside)) <= SOCKET_DIR_BYTES and PLAIN.fullmatch(str(inside)):
        inside.mkdir(mode=0o700, exist_ok=True)
        return inside
    return _short_dir(folder, account)


def _short_dir(folder: Folder, account: Account | None) -> Path:
    import hashlib  # 3 MB of OpenSSL: only where it is needed

    uid = account.uid if account else os.geteuid()
    digest = hashlib.sha256(f"{uid}\0{folder.path}".encode(errors="surrogateescape")).hexdigest()[:16]
    base = Path("/run") if account and os.access("/run", os.W_OK) else Path("/tmp")  # noqa: S108 - TMPDIR may be long, and differs
    short = base / f"pilotis-{digest}"
    try:
        short.mkdir(mode=0o700)
        if account:
            os.chown(short, account.uid, account.gid)
    except FileExistsError:
        pass
    held = short.lstat()
    if not stat.S_ISDIR(held.st_mode) or held.st_uid not in {uid, os.geteuid()} or held.st_mode & 0o077:
        raise SetupError(
            f"{short} should hold the servers' sockets, but it belongs to user id {held.st_uid} with mode {held.st_mode & 0o777:o}",
            remedy=f"remove {short}, or choose another data folder with --data",
        )
    if account and held.st_uid != account.uid:
        os.chown(short, account.uid, account.gid)
    return short


def _make(path: Path) -> None:
    if path.is_dir():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)


def _claim(folder: Folder) -> None:
    """Write VERSION into an empty folder, read it in any other. VERSION comes first, so no race shows a folder half ours."""
    names = {name for name in os.listdir(folder.path) if name not in TOLERATED and not name.startswith(".VERSION.")}  # noqa: PTH208
    if "VERSION" in names:
        format_of(folder)
        major = folder.postgres / "PG_VERSION"
        if major.exists() and (found := major.read_text(encoding="ascii").strip()) != POSTGRES_MAJOR:
            raise SetupError(
                f"the data folder {folder.path} holds a Postgres {found} database, this Pilotis runs Postgres {POSTGRES_MAJOR}",
                remedy="use the Pilotis that wrote it, or choose another folder with --data and ingest again",
            )
        return
    if names:
        shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
        raise SetupError(
            f"{folder.path} is not a data folder of Pilotis and not empty: it holds {shown}",
            remedy="choose an empty or a new folder with --data",
        )
    _check_room(folder)
    draft = folder.path / f".VERSION.{os.getpid()}"
    try:
        draft.write_text(f"{FORMAT}\n", encoding="ascii")
        draft.rename(folder.path / "VERSION")
    finally:
        draft.unlink(missing_ok=True)


def _check_room(folder: Folder) -> None:
    needed = KEPT_BYTES if folder.postgres.is_dir() else NEW_BYTES
    held = os.statvfs(folder.path)
    free = held.f_bavail * held.f_frsize
    if free < needed:
        raise SetupError(
            f"the disk of {folder.path} has {free >> 20} MB free, the servers need {needed >> 20} MB to start",
            remedy="free some space, or choose a folder on another disk with --data",
        )


def _belong_to_owner(folder: Folder) -> None:
    """Root at work in somebody's folder leaves nothing there that its owner cannot open."""
    owner = folder.path.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    for part in (folder.path / "VERSION", folder.blobs, folder.logs, folder.run):
        os.chown(part, owner.st_uid, owner.st_gid)


def _check_ours(folder: Folder) -> None:
    owner = folder.run.stat().st_uid
    if os.geteuid() not in {0, owner}:
        raise SetupError(
            f"the data folder {folder.path} belongs to user id {owner}, you are user id {os.geteuid()}",
            remedy="run Pilotis as its owner, or choose another folder with --data",
        )


def _refusal(folder: Folder, error: OSError) -> SetupError:
    named = error.filename or folder.path
    reason = {
        errno.ENOSPC: f"the disk of {folder.path} is full",
        errno.EDQUOT: f"your disk quota is used up, nothing can be written to {folder.path}",
        errno.EROFS: f"{folder.path} lies on a read-only disk",
        errno.EACCES: f"no permission for {named}, which the data folder {folder.path} needs",
        errno.EPERM: f"no permission for {named}, which the data folder {folder.path} needs",
        errno.EEXIST: f"{named} is a file, not a folder",
        errno.ENOTDIR: f"a part of {folder.path} is a file, not a folder",
        errno.ENAMETOOLONG: f"the path of the data folder is too long ({len(os.fsencode(folder.path))} bytes)",
    }.get(error.errno or 0, f"the data folder {folder.path} cannot be used: {error.strerror or error}")
    remedy = "free some space, or choose" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "choose"
    return SetupError(reason, remedy=f"{remedy} another folder with --data")
