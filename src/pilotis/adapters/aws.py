"""Clients of AWS, and of servers that speak its protocols: made to give up in time, their answers told in our words.

boto3 finds key, region and address where it always does: AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL, a role of the
machine or of the pod.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pilotis.errors import NotFound, SetupError, Transient

GONE = frozenset({"NoSuchKey", "404", "NotFound", "ResourceNotFoundException"})
_NO_KEY = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give this machine a role"
_LOGIN = dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "RequestExpired"), "log in again")
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "403", "AllAccessDisabled"})
_WRONG_KEY = dict.fromkeys(
    (
        *("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSignatureException"),
        *("UnrecognizedClientException", "InvalidClientTokenId", "InvalidToken"),
    ),
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
)
_REFUSED = {
    "NoSuchBucket": "make the bucket, or name another",
    "InvalidRequestException": "is it about to be deleted? restore it, or put it there again",
    "DecryptionFailure": "let this key or role use its KMS key",
    **_LOGIN,
    **_WRONG_KEY,
}


def client(service: str, *, wants: str, endpoint: str | None = None, region: str | None = None, **options: Any) -> Any:
    """A client of one service, for any number of threads. Connects to nothing. Raises SetupError where boto3 is missing.

    `wants` says who needs it, as in "originals in a bucket need"; `region` is for where boto3 finds none.
    """
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise SetupError(f"{wants} boto3, which is missing", remedy="pip install 'pilotis[aws]'") from error
    config = Config(
        connect_timeout=5,
        read_timeout=60,
        max_pool_connections=16,
        retries={"total_max_attempts": 4, "mode": "standard"},
        # Checksums are asked for by name where they are wanted; servers other than AWS do not know the newer ones.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        **options,
    )
    with translated(service, rights="use it"):
        session = boto3.session.Session()
        return session.client(service, endpoint_url=endpoint, region_name=session.region_name or region, config=config)


@contextmanager
def translated(where: str, *, rights: str) -> Iterator[None]:
    """Raises NotFound, SetupError where this key, bucket or region cannot work, Transient for all else. `rights`: what the key must be
    allowed, as in "read and write there".
    """
    from botocore import exceptions as aws

    try:
        yield
    except aws.ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in GONE:
            raise NotFound(f"it is not in {where}") from error
        if code in _DENIED:
            raise SetupError(f"{where} refuses: {code}", remedy=f"let this key or role {rights}") from error
        if code in _REFUSED:
            raise SetupError(f"{where} refuses: {code}", remedy=_REFUSED[code]) from error
        raise Transient(f"{where} fails: {code}", remedy="try again", retry_after_s=5) from error
    except (aws.NoCredentialsError, aws.PartialCredentialsError) as error:
        raise SetupError(f"there is no key for {where}", remedy=_NO_KEY) from error
    except (aws.NoRegionError, aws.ProfileNotFound) as error:
        raise SetupError(f"{where}: {error}", remedy="set AWS_DEFAULT_REGION, and AWS_PROFILE to one there is") from error
    except (aws.BotoCoreError, ValueError) as error:
        raise Transient(
            f"{where} cannot be reached: {error}", remedy="check its address and the network", retry_after_s=5
        ) from error
