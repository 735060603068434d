"""What is said of a remote model that fails: the caller learns what, the operator also where."""

from __future__ import annotations

import httpx2
import openai
import pytest

from pilotis.adapters.openai_client import Remote, late, translate
from pilotis.api.problems import describe

REMOTE = Remote(model="writer", base_url="http://user:pass@10.1.2.3:8000/v1", key="sk-secret")
REQUEST = httpx2.Request("POST", "http://10.1.2.3:8000/v1/chat/completions")


def answered(status: int) -> openai.APIStatusError:
    return openai.APIStatusError("sk-secret at 10.1.2.3", response=httpx2.Response(status, request=REQUEST), body=None)


@pytest.mark.parametrize(
    "error",
    [
        openai.APIConnectionError(request=REQUEST),
        openai.APITimeoutError(request=REQUEST),
        openai.APIError("broke", REQUEST, body=None),
        ValueError("not JSON"),
        *map(answered, (400, 401, 404, 429, 500)),
    ],
)
def test_the_address_is_for_the_operator_alone(error: Exception) -> None:
    told = translate(error, REMOTE, tried=3)
    assert told.message.startswith("writer ")
    assert "http://10.1.2.3:8000/v1" in told.message
    assert "pass" not in told.message
    assert "sk-secret" not in told.message
    _, _, detail, remedy = describe(told, "id")
    assert "10.1.2.3" not in detail + remedy


def test_a_deadline_tells_a_caller_what_was_late_and_not_where() -> None:
    _, code, detail, _ = describe(late(REMOTE, 30), "id")
    assert (code, detail) == ("away", "writer did not send an answer within 30 s")
