"""What zip and OLE containers say about themselves before anybody opens them: bombs, passwords, damage."""

from __future__ import annotations

import errno
import re
import struct
import zipfile
import zlib
from pathlib import Path

from pilotis.adapters.kreuzberg.unreadable import Unreadable

OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
MAX_UNPACKED_BYTES = 512 * 1024 * 1024
MAX_RATIO = 150
"""Above this the unpacked size is refused where it is also above MAX_HARMLESS_BYTES: spreadsheets do reach 50."""
MAX_HARMLESS_BYTES = 32 * 1024 * 1024
MAX_MEMBERS = 20_000
_ENCRYPTED = 0x1
_MOST_SAID = 4 << 20
_PASSWORDS = {
    "META-INF/manifest.xml": re.compile(rb"<[\w:]{0,40}encryption-data"),
    "META-INF/encryption.xml": re.compile(rb"URI=[\"'][^\"']{1,1000}\.(?:x?html?|xml)[\"']", re.IGNORECASE),
}
_ANEW = "save it again with its own application"
_OLE_BYTES, _SECTOR = 32 << 20, 512
_SHEET_PASSWORD = re.compile(rb"\x09\x08\x10\x00\x00[\x05\x06].{14}(?:\x86\x00\x00\x00)?\x2f\x00", re.DOTALL)
"""A workbook's first record, then FILEPASS ([MS-XLS] 2.4.117), which only encrypted ones have."""


def check_container(path: Path, media_type: str) -> None:
    """Raise Unreadable for a bomb, a password or damage, where the file is a zip or an OLE container."""
    with path.open("rb") as file:
        magic = file.read(len(OLE_MAGIC))
    if magic.startswith(OLE_MAGIC):
        _check_ole(path, media_type)
    elif magic.startswith(b"PK"):
        _check_zip(path)


def _check_zip(path: Path) -> None:
    """Raise Unreadable for a bomb, a password or a damaged directory.

    The directory's sizes may lie: members that unpack to more than they declare are caught by unpacking (counting, not keeping)
    each one that claims a suspicious ratio, and by the memory limit of the process.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, struct.error, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that is a place before the file's beginning
            raise
        whole = "file is not a zip file" in str(error).lower()
        what = "it is not a whole zip file, as its format must be" if whole else "its zip directory cannot be read"
        raise Unreadable(f"the file is damaged: {what}", "send an intact copy") from error
    if any(member.flag_bits & _ENCRYPTED for member in members) or _declares_a_password(path, members):
        raise Unreadable("the file is protected by a password", "remove the password and send it again")
    if sum(member.compress_size for member in members) > path.stat().st_size:
        raise Unreadable("its parts lie over one another (a zip bomb?)", _ANEW)
    if len(members) > MAX_MEMBERS:
        raise Unreadable(f"it holds {len(members):,} parts, and {MAX_MEMBERS:,} is the most (a zip bomb?)", _ANEW)
    total = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if total > MAX_UNPACKED_BYTES or (total > MAX_HARMLESS_BYTES and total > MAX_RATIO * max(packed, 1)):
        raise Unreadable(
            f"it would unpack to {total / 2**20:,.0f} MiB in {len(members):,} parts, {total / max(packed, 1):,.0f} times its size (a zip bomb?)",
            _ANEW,
        )
    _check_declared_sizes(path, members)


def _declares_a_password(path: Path, members: list[zipfile.ZipInfo]) -> bool:
    """OpenDocument encrypts its parts inside an archive that opens; an e-book whose chapters are encrypted has bought rights."""
    for member in members:
        if member.filename not in _PASSWORDS or member.file_size > _MOST_SAID:
            continue
        try:
            with zipfile.ZipFile(path) as archive:
                if _PASSWORDS[member.filename].search(archive.read(member)):
                    return True
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
            return False
    return False


def _check_declared_sizes(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Stop at the first member whose content is longer than its directory entry says."""
    with path.open("rb") as file:
        for member in members:
            if member.compress_type != zipfile.ZIP_DEFLATED or member.compress_size == 0:
                continue
            file.seek(max(0, member.header_offset))
            header = file.read(30)
            if len(header) < 30:
                raise Unreadable("the file is damaged: a part lies beyond its end", "send an intact copy")
            file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
            if _unpacks_to_more(file.read(member.compress_size), member.file_size):
                raise Unreadable(
                    f"its part {member.filename!r} is larger than it declares (a zip bomb?)",
                    _ANEW,
                )


def _unpacks_to_more(packed: bytes, declared: int) -> bool:
    unpacker, seen = zlib.decompressobj(-15), 0
    try:
        while packed and not unpacker.eof:
            seen += len(unpacker.decompress(packed, 1 << 20))
            packed = unpacker.unconsumed_tail
            if seen > declared:
                return True
    except zlib.error:
        return False
    return False


def _check_ole(path: Path, media_type: str) -> None:
    """Raise Unreadable for an encrypted office document: an OLE container under an Open XML name, or one that says so inside."""
    with path.open("rb") as file:
        content = file.read(_OLE_BYTES)
    if (
        "openxmlformats" in media_type
        or any(name.encode("utf-16-le") in content for name in ("EncryptedPackage", "EncryptedSummary"))
        or _SHEET_PASSWORD.search(content)
        or (media_type == "application/msword" and _word_is_encrypted(content))
    ):
        raise Unreadable("the document is encrypted", "remove the password and send it again")


def _word_is_encrypted(content: bytes) -> bool:
    """By the flag fEncrypted of the file information block ([MS-DOC] 2.5.2), which begins a sector."""
    return any(
        content[start : start + 2] == b"\xec\xa5" and content[start + 11 : start + 12] and content[start + 11] & 1
        for start in range(_SECTOR, len(content), _SECTOR)
    )
