"""Blobs in a bucket, under their SHA-256. Whoever sees the bucket sees them: workers on other machines share no folder."""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from hashlib import file_digest
from hashlib import sha256 as new_sha256
from pathlib import Path
from typing import IO, Any, Literal

from pilotis.adapters import aws
from pilotis.adapters.blobs.folder import room
from pilotis.errors import NotFound, Transient

PART = 8 << 20
"""What is sent at once. S3 takes 10 000 parts of at least 5 MiB."""
CHUNK = 1 << 20
UNSETTLED = "unsettled/"
_NAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{62}")


class S3Blobs:
    """`<prefix>/ab/cdef...`: an object appears when all of it was sent, so that a name is never half a file.

    The server is told the SHA-256 of every part and refuses what it received otherwise; what a server does not confirm is read back
    before `put` returns. An empty object `<prefix>/unsettled/abcdef...` stands for bytes that may have no document yet. Ages are by the
    server's own clock. Raises Transient where the server is away, SetupError where it refuses for good.
    """

    def __init__(self, bucket: str, prefix: str, *, endpoint: str | None = None) -> None:
        self._bucket, self._prefix = bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        # A server of one's own seldom has a host name for each bucket.
        style = {"addressing_style": "path" if endpoint else "auto"}
        self._client = aws.client("s3", wants="original files in a bucket need", endpoint=endpoint, s3=style)

    @property
    def where(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    async def put(self, content: Path) -> tuple[str, int]:
        """Bytes that are stored already are read, and not sent again."""
        return await asyncio.to_thread(self._put, content)

    async def fetch(self, sha256: str, into: Path) -> None:
        """Raises Transient where the blob is not there: for a moment that is so when its last document goes and another comes."""
        try:
            await asyncio.to_thread(self._fetch, sha256, into)
        except NotFound as error:
            raise Transient(f"its stored bytes are missing ({sha256[:12]}…)", remedy="send the document again") from error

    async def exists(self, sha256: str) -> bool:
        return await asyncio.to_thread(self._exists, sha256)

    async def check(self, sha256: str) -> Literal["whole", "damaged", "missing"]:
        try:
            return "whole" if await asyncio.to_thread(self._digest, sha256) == sha256 else "damaged"
        except NotFound:
            return "missing"

    async def settled(self, *, older_than_s: float) -> Sequence[str]:
        # First the marks: what is put meanwhile then counts as settled, and is too young to be looked for.
        unsettled = set(await asyncio.to_thread(self._older, UNSETTLED, None))
        found = await asyncio.to_thread(self._older, "", older_than_s)
        digests = (name.replace("/", "") for name in found if _NAME.fullmatch(name))
        return [digest for digest in digests if UNSETTLED + digest not in unsettled]

    async def delete(self, sha256: str) -> None:
        await asyncio.to_thread(self._call, "delete_object", _name(sha256))
        await self.settle(sha256)

    async def settle(self, sha256: str) -> None:
        await asyncio.to_thread(self._call, "delete_object", UNSETTLED + sha256)

    async def unsettled(self, *, older_than_s: float) -> Sequence[str]:
        found = await asyncio.to_thread(self._older, UNSETTLED, older_than_s)
        return [name.removeprefix(UNSETTLED) for name in found]

    def _put(self, content: Path) -> tuple[str, int]:
        with content.open("rb") as source:
            first = source.read(PART + 1)
            if len(first) > PART:
                source.seek(0)
                return self._put_long(source)
        digest = new_sha256(first).hexdigest()
        if not self._exists(digest):
            self._call("put_object", UNSETTLED + digest, Body=b"")
            _, confirmed = self._send("put_object", _name(digest), first)
            if not confirmed:
                self._read_back(digest)
        return digest, len(first)

    def _put_long(self, source: IO[bytes]) -> tuple[str, int]:
        digest = file_digest(source, "sha256").hexdigest()  # type: ignore[arg-type]  # a file opened for reading bytes
        size = source.tell()
        if self._exists(digest):
            return digest, size
        source.seek(0)
        self._call("put_object", UNSETTLED + digest, Body=b"")
        name = _name(digest)
        upload = self._call("create_multipart_upload", name, ChecksumAlgorithm="SHA256")["UploadId"]
        try:
            confirmed, parts = self._send_parts(name, upload, source, digest)
            self._call("complete_multipart_upload", name, UploadId=upload, MultipartUpload={"Parts": parts})
        except BaseException:  # parts that belong to nothing cost money
            self._call("abort_multipart_upload", name, UploadId=upload)
            raise
        if not confirmed:
            self._read_back(digest)
        return digest, size

    def _send_parts(self, name: str, upload: str, source: IO[bytes], digest: str) -> tuple[bool, list[dict[str, Any]]]:
        """Whether the server confirmed each part, and what it calls them. Raises Transient where the file is another by now."""
        read, confirmed = new_sha256(), True
        parts: list[dict[str, Any]] = []
        while part := source.read(PART):
            read.update(part)
            number = len(parts) + 1
            told, is_confirmed = self._send("upload_part", name, part, UploadId=upload, PartNumber=number)
            parts.append({"PartNumber": number, **told})
            confirmed = confirmed and is_confirmed
        if read.hexdigest() != digest:
            raise Transient("the file changed while it was read", remedy="send it again")
        return confirmed, parts

    def _send(self, verb: str, name: str, content: bytes, **fields: Any) -> tuple[dict[str, str], bool]:
        """What the server calls these bytes, and whether it says that they arrived as they were sent."""
        told = b64encode(new_sha256(content).digest()).decode()
        answer = self._call(verb, name, Body=content, ChecksumAlgorithm="SHA256", ChecksumSHA256=told, **fields)
        return {"ETag": answer["ETag"], "ChecksumSHA256": told}, answer.get("ChecksumSHA256") == told

    def _read_back(self, digest: str) -> None:
        if self._digest(digest) != digest:
            self._call("delete_object", _name(digest))
            raise Transient(f"{self.where} stored other bytes than it was sent", remedy="send the document again")

    def _fetch(self, sha256: str, into: Path) -> None:
        with self._opened(sha256) as chunks, room(into.parent, needed=0), into.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)

    def _digest(self, sha256: str) -> str:
        read = new_sha256()
        with self._opened(sha256) as chunks:
            for chunk in chunks:
                read.update(chunk)
        return read.hexdigest()

    @contextmanager
    def _opened(self, sha256: str) -> Iterator[Iterator[bytes]]:
        def chunks() -> Iterator[bytes]:
            while chunk := read():
                yield chunk

        def read() -> bytes:
            with self._translated():
                chunk: bytes = body.read(CHUNK)
                return chunk

        with closing(self._call("get_object", _name(sha256))["Body"]) as body:
            yield chunks()

    def _exists(self, sha256: str) -> bool:
        try:
            self._call("head_object", _name(sha256))
        except NotFound:
            return False
        return True

    def _older(self, under: str, than_s: float | None) -> list[str]:
        """Names of objects that were stored that long ago; of all with None."""
        found: list[str] = []
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix + under)
        with self._translated():
            for page in pages:
                latest = None if than_s is None else _now(page) - timedelta(seconds=than_s)
                old = (each for each in page.get("Contents", ()) if latest is None or each["LastModified"] <= latest)
                found += [each["Key"].removeprefix(self._prefix) for each in old]
        return found

    def _call(self, verb: str, name: str, **fields: Any) -> Any:
        with self._translated():
            return getattr(self._client, verb)(Bucket=self._bucket, Key=self._prefix + name, **fields)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with aws.translated(self.where, rights="list, read, write and delete there"):
            yield


def _name(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256[2:]}"


def _now(page: dict[str, Any]) -> datetime:
    """By the server's clock, which its answers show in whole seconds: rounded up, so that what was just stored is not in the future."""
    return parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"]) + timedelta(seconds=1)
