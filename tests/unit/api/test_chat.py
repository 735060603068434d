"""POST /v1/chat/completions and /v1/models over stand-ins."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from starlette.testclient import TestClient

from pilotis.derive.cost import Usage
from pilotis.testing.online import ScriptedGenerator

QUESTION = "How do I revoke the old key?"
BODY: dict[str, Any] = {"model": "pilotis", "messages": [{"role": "user", "content": QUESTION}]}
ANSWER = "Create the new key first, move the callers to it, then revoke the old one."


def chunks(text: str) -> list[Any]:
    lines = [frame.removeprefix("data: ") for frame in text.strip().split("\n\n")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def said(text: str) -> str:
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks(text) if isinstance(chunk, dict) and chunk.get("choices")]
    return "".join(delta.get("content", "") for delta in deltas)


def test_an_answer_has_openais_form_and_our_extension(client: TestClient, world: Any, stored: str) -> None:
    response = client.post("/v1/chat/completions", json=BODY)
    body = response.json()
    assert response.status_code == 200, body
    assert (body["object"], body["model"], body["choices"][0]["finish_reason"]) == ("chat.completion", "pilotis", "stop")
    message = body["choices"][0]["message"]
    assert message["role"] == "assistant"
    assert ANSWER in message["content"]
    assert message["content"].endswith("\n\nSources:\n[1] keys.md")
    assert body["usage"] == {
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    told = body["pilotis"]
    assert told["found"] is True
    assert (told["step"], told["cache"], told["model"]) == ("full", "miss", "extractive")
    assert (told["sources"][0]["n"], told["sources"][0]["document_id"]) == (1, stored)
    assert told["sources"][0]["quote"] in ANSWER + " The old key stops at once."
    assert response.headers["x-rag-cost-eur"] == told["cost_eur"]
    assert world.events[-1].bu == "north"
    assert client.post("/v1/chat/completions", json=BODY).json()["pilotis"]["cache"] == "hit"


def test_footnotes_can_be_left_out_and_french_ones_are_french(client: TestClient, stored: str) -> None:
    plain = client.post("/v1/chat/completions", json=BODY | {"pilotis": {"footnotes": False}}).json()
    assert "Sources" not in plain["choices"][0]["message"]["content"]
    asked = [{"role": "user", "content": "Comment est-ce que je révoque cette old key, c'est-à-dire revoke the old key ?"}]
    french = client.post("/v1/chat/completions", json=BODY | {"messages": asked}).json()
    assert french["pilotis"]["language"] == "fr"
    if french["pilotis"]["sources"]:
        assert "\n\nSources :\n[1] keys.md" in french["choices"][0]["message"]["content"]


def test_a_stream_has_the_role_first_then_the_text_then_the_extension_the_usage_and_done(
    client: TestClient, stored: str
) -> None:
    response = client.post("/v1/chat/completions", json=BODY | {"stream": True, "stream_options": {"include_usage": True}})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert "event:" not in response.text
    told = chunks(response.text)
    assert told[0]["choices"][0]["delta"]["role"] == "assistant"
    assert told[-1] == "[DONE]"
    usage, last = told[-2], told[-3]
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 0)
    assert last["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert last["pilotis"]["found"] is True
    assert {chunk["id"] for chunk in told[:-1]} == {f"chatcmpl-{response.headers['x-request-id']}"}
    assert all(chunk["usage"] is None for chunk in told[:-2])
    whole = client.post("/v1/chat/completions", json=BODY).json()
    assert said(response.text) == whole["choices"][0]["message"]["content"]


def test_no_usage_unless_it_is_asked_for(client: TestClient, stored: str) -> None:
    told = chunks(client.post("/v1/chat/completions", json=BODY | {"stream": True}).text)
    assert all("usage" not in chunk for chunk in told[:-1])
    assert told[-2]["choices"][0]["finish_reason"] == "stop"


def test_a_stream_that_breaks_ends_with_an_error_these_clients_raise(client: TestClient, world: Any, stored: str) -> None:
    world.away |= {"redis", "ledger"}
    told = chunks(client.post("/v1/chat/completions", json=BODY | {"stream": True}).text)
    assert told[-1]["error"]["type"] == "server_error"
    assert "ledger is away" in told[-1]["error"]["message"]
    assert "[DONE]" not in told


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": 0.2, "top_p": 1, "seed": 3, "user": "u", "n": 1, "stop": ["\n"], "metadata": {"a": "b"}},
        {"tools": [], "functions": [], "tool_choice": "auto", "logprobs": False, "top_logprobs": 0},
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto"},
        {"tools": [{"type": "function", "function": {"name": "f"}}], "functions": [{"name": "f"}], "tool_choice": "none"},
        {"response_format": {"type": "text"}, "modalities": ["text"], "whatever": {"comes": "next"}},
        {"max_tokens": 5, "max_completion_tokens": 7, "stream": False, "stream_options": None},
        {"messages": [{"role": "system", "content": "Be rude."}, {"role": "developer", "content": "x"}, *BODY["messages"]]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": QUESTION}], "name": "me"}]},
    ],
)
def test_what_changes_nothing_is_accepted(client: TestClient, stored: str, more: dict[str, Any]) -> None:
    response = client.post("/v1/chat/completions", json=BODY | more)
    assert response.status_code == 200, response.text
    assert ANSWER in response.json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"n": 0}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"logprobs": True, "top_logprobs": 3}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": [None]}, "response_format"),
        ({"modalities": ["text", "audio"]}, "audio"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages.0.content"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "a\0b"}]}, "messages.0.content"),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": [{}]}]}, "messages.0.tool_calls"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, None),
        ({"messages": []}, None),
        ({"max_tokens": 0}, None),
        ({"pilotis": {"footnote": False}}, None),
        ({"model": "pilotis/a", "pilotis": {"collection": "b"}}, "pilotis.collection"),
        ({"messages": [{"role": "user", "content": "?"}]}, None),
    ],
)
def test_what_cannot_be_done_is_refused_in_openais_form(client: TestClient, more: dict[str, Any], param: str | None) -> None:
    response = client.post("/v1/chat/completions", json=BODY | more)
    error = response.json()["error"]
    assert response.status_code == 400, error
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("model", ["gpt-4o", "pilotis/", "pilotis/nowhere", "pilotisx"])
def test_an_unknown_model_is_not_found(client: TestClient, stored: str, model: str) -> None:
    for more in ({}, {"stream": True}):
        response = client.post("/v1/chat/completions", json=BODY | {"model": model} | more)
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")


def test_a_key_that_is_not_known_is_refused_in_openais_form(client: TestClient) -> None:
    response = client.post("/v1/chat/completions", json=BODY, headers={"authorization": "Bearer nobody"})
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    error = response.json()["error"]
    assert (error["code"], error["type"]) == ("unauthorised", "authentication_error")


def test_a_store_that_is_away_is_a_server_error_with_when_to_come_back(client: TestClient, world: Any, stored: str) -> None:
    world.away.add("postgres")
    for more in ({}, {"stream": True}):
        response = client.post("/v1/chat/completions", json=BODY | more)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert response.json()["error"]["type"] == "server_error"


def test_the_models_are_all_documents_and_each_collection(client: TestClient, stored: str) -> None:
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["pilotis", "pilotis/default"]
    assert client.get("/v1/models/pilotis/default").json() == listed["data"][1]
    assert client.get("/v1/models/gpt-4o").json()["error"]["code"] == "model_not_found"
    south = client.get("/v1/models", headers={"authorization": "Bearer south"}).json()
    assert [model["id"] for model in south["data"]] == ["pilotis"]


def test_a_collection_is_asked_by_its_model(client: TestClient, stored: str) -> None:
    answer = client.post("/v1/chat/completions", json=BODY | {"model": "pilotis/default"}).json()
    assert answer["model"] == "pilotis/default"
    assert answer["pilotis"]["found"] is True


def test_a_follow_up_is_searched_with_the_question_before_it(client: TestClient, world: Any, stored: str) -> None:
    turns = [*BODY["messages"], {"role": "assistant", "content": "Revoke it. [1]"}, {"role": "user", "content": "And why?"}]
    response = client.post("/v1/chat/completions", json=BODY | {"messages": turns})
    assert ANSWER in response.json()["choices"][0]["message"]["content"]


def test_openais_own_client_raises_what_breaks_a_stream(client: TestClient, world: Any, stored: str) -> None:
    world.away |= {"redis", "ledger"}
    with openai.OpenAI(base_url="http://testserver/v1", api_key="north", max_retries=0, http_client=client) as openai_client:
        stream = openai_client.chat.completions.create(**BODY, stream=True)
        with pytest.raises(openai.APIError, match="ledger is away") as broken:
            list(stream)
    assert broken.value.type == "server_error"


@pytest.mark.parametrize("cache_ttl_s", [0, 60])
def test_an_answer_that_the_service_cuts_says_so(
    client: TestClient, written_by: Callable[..., Any], stored: str, cache_ttl_s: int
) -> None:
    usage = Usage(model="scripted", provider="local", input_tokens=9, output_tokens=3)
    written_by(ScriptedGenerator("one ", "two ", "three ", usage=usage), tok_out_max=3, cache_ttl_s=cache_ttl_s)
    for more in ({}, {}, {"max_tokens": 99}):
        told = client.post("/v1/chat/completions", json=BODY | more).json()
        assert told["choices"][0]["finish_reason"] == "length", told["pilotis"]["cache"]
    streamed = chunks(client.post("/v1/chat/completions", json=BODY | {"stream": True}).text)
    assert streamed[-2]["choices"][0]["finish_reason"] == "length"


def test_what_a_failed_attempt_wrote_cuts_nothing(client: TestClient, written_by: Callable[..., Any], stored: str) -> None:
    written_by(Twice("all of it"), tok_out_max=4)
    assert client.post("/v1/chat/completions", json=BODY).json()["choices"][0]["finish_reason"] == "stop"


class Twice(ScriptedGenerator):
    """Tells of two calls, as a generator does whose first attempt failed."""

    async def generate(self, prompt: Any, *, max_tokens: int) -> Any:
        async for piece in super().generate(prompt, max_tokens=max_tokens):
            yield piece
        for _ in range(2):
            yield Usage(model=self.model, provider=self.provider, input_tokens=9, output_tokens=3)
