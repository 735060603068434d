"""A bucket of S3 or of a server that speaks its protocol, below a prefix. Credentials come from boto3's own chain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from pilotis.adapters.sources.bounded import pour
from pilotis.derive.origin import Origin
from pilotis.errors import NotFound, Permanent, PilotisError, SetupError, Transient
from pilotis.ports import Fetched, Item, Unlisted

CONNECT_S, READ_S, ATTEMPTS = 5, 30, 3
PAGE = 1000
"""Keys that are listed at once; the most the protocol gives."""


def _codes(kind: type[PilotisError], problem: str, remedy: str, codes: str) -> dict[str, tuple[type[PilotisError], str, str]]:
    return dict.fromkeys(codes.split(), (kind, problem, remedy))


_CODES = {
    **_codes(NotFound, "it is gone from the bucket", "", "NoSuchKey 404"),
    **_codes(
        Transient,
        "it changed while it was being read",
        "nothing is left to do: the next run reads it again",
        "PreconditionFailed 412",
    ),
    **_codes(Permanent, "is archived", "restore it to a storage class that can be read, or exclude it", "InvalidObjectState"),
    **_codes(SetupError, "there is no such bucket", "correct bucket in the contract", "NoSuchBucket"),
    **_codes(
        SetupError,
        "the bucket refuses its credentials ({code})",
        "allow s3:ListBucket and s3:GetObject to this user or role",
        "AccessDenied InvalidAccessKeyId SignatureDoesNotMatch ExpiredToken InvalidToken AllAccessDisabled 401 403",
    ),
    **_codes(
        Transient,
        "the bucket's server is overloaded or failing ({code})",
        "try again later",
        "SlowDown Throttling RequestTimeout InternalError ServiceUnavailable 429 500 502 503 504",
    ),
}
"""What the server calls it, and what it is."""


class S3Source:
    """Keys are those of the bucket without the folders of the prefix. A validator is the ETag. Every call is made in a thread."""

    at_once = 8

    def __init__(self, origin: Origin) -> None:
        """Raises SetupError where boto3 is not installed."""
        try:
            import boto3  # noqa: F401
        except ImportError as error:
            raise SetupError("sources of kind s3 need boto3", remedy="pip install 'pilotis[s3]'") from error
        self._origin = origin
        self._folders = origin.prefix[: origin.prefix.rfind("/") + 1]

    async def items(self) -> AsyncGenerator[Item | Unlisted, None]:
        """A page of a thousand keys at a time. Raises SetupError for credentials and buckets, Transient for a server that is away."""
        token: str | None = None
        while True:
            page = await asyncio.to_thread(self._page, token)
            for found in page.get("Contents", ()):
                if not found["Key"].endswith("/"):  # what consoles make to show a folder
                    yield Item(
                        key=found["Key"].removeprefix(self._folders), size=int(found["Size"]), validator=found.get("ETag")
                    )
            token = page.get("NextContinuationToken")
            if token is None:
                return

    async def fetch(self, item: Item, into: Path, *, known: str | None, most_bytes: int) -> Fetched | None:
        if known is not None and known == item.validator:
            return None
        return await asyncio.to_thread(self._copy, item, into, most_bytes)

    async def close(self) -> None:
        if "_client" in self.__dict__:
            await asyncio.to_thread(self._client.close)

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        options = Config(
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
            max_pool_connections=self.at_once,
        )
        return boto3.session.Session().client(
            "s3", endpoint_url=self._origin.endpoint_url, region_name=self._origin.region, config=options
        )

    def _page(self, token: str | None) -> dict[str, Any]:
        more = {"ContinuationToken": token} if token else {}
        with self._translated():
            page: dict[str, Any] = self._client.list_objects_v2(
                Bucket=self._origin.bucket, Prefix=self._origin.prefix, MaxKeys=PAGE, **more
            )
            return page

    def _copy(self, item: Item, into: Path, most_bytes: int) -> Fetched:
        same = {"IfMatch": item.validator} if item.validator else {}
        with self._translated():
            found = self._client.get_object(Bucket=self._origin.bucket, Key=self._folders + item.key, **same)
            with found["Body"] as body:
                pour(body.read, into, most_bytes)
        return Fetched(validator=found.get("ETag"), media_type=_declared(found.get("ContentType")))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """What botocore says, in our words."""
        from botocore import exceptions as aws

        where = self._origin.address
        try:
            yield
        except aws.ClientError as error:
            raise self._of_code(error.response.get("Error", {})) from error
        except (aws.NoCredentialsError, aws.PartialCredentialsError) as error:
            raise SetupError(
                f"there are no credentials for the bucket: {where}",
                remedy="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give this machine a role",
            ) from error
        except (aws.HTTPClientError, aws.ConnectionError, aws.IncompleteReadError, OSError) as error:
            raise Transient(
                f"the bucket cannot be reached: {where}, {error}", remedy="check its address and the network"
            ) from error
        except aws.BotoCoreError as error:
            raise SetupError(
                f"the bucket cannot be asked: {where}, {error}", remedy="correct its source in the contract"
            ) from error

    def _of_code(self, told: dict[str, Any]) -> PilotisError:
        code = str(told.get("Code", ""))
        kind, problem, remedy = _CODES.get(code, (Permanent, f"the bucket's server refused ({code})", ""))
        where = f": {self._origin.address}, {told.get('Message', '')}" if kind is not NotFound else ""
        return kind(f"{problem.format(code=code)}{where}", remedy=remedy)


def _declared(content_type: str | None) -> str | None:
    """Uploads that declare nothing are given one of these by the server."""
    media = (content_type or "").partition(";")[0].strip().lower()
    return None if media in {"", "binary/octet-stream", "application/octet-stream"} else media
