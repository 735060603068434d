"""An archive in a bucket. An object appears when all of it was sent, so a name is never half a file.

boto3 finds key, region and address where it always does: AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL, a role of the machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from pilotis.errors import NotFound, Permanent, SetupError, Transient

T = TypeVar("T")

PART = 16 << 20
"""What is sent at once: S3 takes 10 000 parts of at least 5 MiB, so a file may have 160 GB."""
CHUNK = 4 << 20
MOST_REMOVED = 1000
GONE = frozenset({"NoSuchKey", "404", "NotFound"})
REFUSED = {
    "NoSuchBucket": "make the bucket, or name another",
    "AccessDenied": "let this key list, read, write and delete in that bucket",
    "403": "let this key list, read, write and delete in that bucket",
    "InvalidAccessKeyId": "check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "log in again",
}


class S3Archive:
    """See `ports.archive.Archive`. Raises SetupError where boto3 is missing, or key or bucket are refused."""

    def __init__(self, bucket: str, prefix: str) -> None:
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            raise SetupError(
                "snapshots in a bucket need boto3, which is missing", remedy="pip install 'pilotis[s3]'"
            ) from error
        self._bucket, self._prefix = bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        config = Config(
            connect_timeout=5, read_timeout=60, max_pool_connections=16, retries={"max_attempts": 5, "mode": "standard"}
        )
        with self._faults("the client"):
            self._client: Any = boto3.client("s3", config=config)

    @property
    def where(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    async def put(self, name: str, content: AsyncIterable[bytes]) -> None:
        part = bytearray()
        sent: _Sent | None = None
        try:
            async for chunk in content:
                part += chunk
                while len(part) > PART:
                    sent = sent or await self._begin(name)
                    await self._send(name, sent, bytes(part[:PART]))
                    del part[:PART]
            if sent is None:
                await self._call(name, self._client.put_object, Key=self._key(name), Body=bytes(part))
                return
            await self._send(name, sent, bytes(part))
            parts = {"Parts": sent.parts}
            await self._call(
                name, self._client.complete_multipart_upload, Key=self._key(name), UploadId=sent.id, MultipartUpload=parts
            )
        except BaseException:  # cancelled too: parts that belong to nothing cost money
            if sent is not None:
                await self._call(name, self._client.abort_multipart_upload, Key=self._key(name), UploadId=sent.id)
            raise

    async def get(self, name: str) -> AsyncIterator[bytes]:
        found = await self._call(name, self._client.get_object, Key=self._key(name))
        body = found["Body"]
        try:
            while True:
                with self._faults(name):
                    chunk: bytes = await asyncio.to_thread(body.read, CHUNK)
                if not chunk:
                    return
                yield chunk
        finally:
            body.close()

    async def sizes(self, under: str) -> Mapping[str, int]:
        def listed() -> dict[str, int]:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._key(under))
            return {each["Key"][len(self._prefix) :]: each["Size"] for page in pages for each in page.get("Contents", ())}

        with self._faults(under):
            found = await asyncio.to_thread(listed)
        return found if not under or under.endswith("/") else {name: size for name, size in found.items() if name == under}

    async def remove(self, names: Sequence[str]) -> None:
        for begins in range(0, len(names), MOST_REMOVED):
            keys = [{"Key": self._key(name)} for name in names[begins : begins + MOST_REMOVED]]
            told = await self._call(names[begins], self._client.delete_objects, Delete={"Objects": keys, "Quiet": True})
            if errors := told.get("Errors"):
                raise Transient(f"{self.where}: {errors[0].get('Key')} could not be removed: {errors[0].get('Code')}")

    async def _begin(self, name: str) -> _Sent:
        told = await self._call(name, self._client.create_multipart_upload, Key=self._key(name))
        return _Sent(told["UploadId"])

    async def _send(self, name: str, sent: _Sent, part: bytes) -> None:
        number = len(sent.parts) + 1
        told = await self._call(
            name, self._client.upload_part, Key=self._key(name), UploadId=sent.id, PartNumber=number, Body=part
        )
        sent.parts.append({"PartNumber": number, "ETag": told["ETag"]})

    async def _call(self, name: str, call: Callable[..., Any], **fields: Any) -> Any:
        with self._faults(name):
            return await asyncio.to_thread(call, Bucket=self._bucket, **fields)

    def _key(self, name: str) -> str:
        if name.startswith("/") or ".." in name.split("/"):
            raise Permanent(f"{name!r} is no name in an archive")
        return self._prefix + name

    @contextmanager
    def _faults(self, name: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in GONE:
                raise NotFound(f"{name} is not in {self.where}", remedy="see: pilotis snapshot verify") from error
            if code in REFUSED:
                raise SetupError(f"{self.where} refuses: {code}", remedy=REFUSED[code]) from error
            raise Transient(f"{self.where} fails: {error}", remedy="try again") from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise SetupError(
                f"there is no key for {self.where}", remedy="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            ) from error
        except (BotoCoreError, ValueError) as error:
            raise Transient(
                f"{self.where} cannot be reached: {error}", remedy="check AWS_ENDPOINT_URL and the network"
            ) from error


class _Sent:
    """A file on its way, in parts."""

    def __init__(self, id: str) -> None:  # noqa: A002 - S3's word
        self.id = id
        self.parts: list[dict[str, Any]] = []
