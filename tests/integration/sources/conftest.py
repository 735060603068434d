from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    """A server that speaks S3, of its own."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client with credentials, an empty bucket `docs`, and the environment that sources find their credentials in."""
    for name, value in {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    client = boto3.client("s3", endpoint_url=s3_url)
    client.create_bucket(Bucket="docs")
    yield client
    for found in client.list_objects_v2(Bucket="docs").get("Contents", ()):
        client.delete_object(Bucket="docs", Key=found["Key"])
    client.delete_bucket(Bucket="docs")
    client.close()
