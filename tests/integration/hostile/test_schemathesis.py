"""Whatever the OpenAPI page allows and whatever it forbids: no answer is a 5xx, none has a status or a form that the page does not name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

EXAMPLES = int(os.environ.get("PILOTIS_TEST_EXAMPLES", "15"))
"""For each operation; more where a person waits for it."""
CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance"),
    *("response_schema_conformance", "unsupported_method", "allow_header_conformance", "ignored_auth"),
    *("negative_data_rejection", "missing_required_header"),
)
STATUSES = {"400", "401", "402", "403", "404", "405", "408", "409", "413", "415", "422", "429", "502", "503", "507"}


def test_every_status_is_on_the_page(up: Any) -> None:
    page = httpx2.get(f"{up.url}/openapi.json").json()
    for path, operations in page["paths"].items():
        for method, operation in operations.items():
            if path.startswith("/v1/"):
                assert operation["responses"].keys() >= STATUSES, (method, path)
    assert "$defs" not in str(page)


@pytest.mark.timeout(180)
def test_the_page_tells_the_truth(up: Any, tmp_path: Path) -> None:
    made = up.cli("keys", "create", "fuzzer", "--bu", "fuzzed", "--rights", "ask,ingest,admin")
    with up.client(made["secret"]) as client:
        client.post("/v1/documents", files={"file": ("keys.md", b"# Keys\n\nCreate the new key first.\n")})
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{up.url}/openapi.json"]
    options = ["--header", f"Authorization: Bearer {made['secret']}", "--phases", "examples,coverage,fuzzing"]
    options += ["--max-examples", str(EXAMPLES), "--generation-deterministic", "--no-shrink", "--warnings", "off"]
    options += ["--checks", ",".join(CHECKS), "--request-timeout", "20"]
    run = subprocess.run([*command, *options], capture_output=True, text=True, cwd=tmp_path, timeout=170, check=False)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    generated = re.search(r"(\d+) generated, (\d+) passed", run.stdout)
    assert generated, run.stdout[-2000:]
    print(generated[0])
    assert int(generated[1]) == int(generated[2]) > 200
    with up.client(made["secret"]) as client:
        assert client.get("/v1/documents").status_code == 200, "it was refused all along"
    assert httpx2.get(f"{up.url}/readyz").status_code == 200
