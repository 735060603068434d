"""The clients that people have, as they come from their makers, over a real service whose writer is paid and streams."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from integration.conftest import Up

MODEL = "mock-ttft20-itl5-len12"
CONTRACT = """
[envs.dev]
llm = {{ model = "{model}", base_url = "{simulator}" }}
cache_ttl_s = 60

[envs.dev.budgets.bu]
hour_eur = 10

[envs.dev.rates]
bus = {{ hasty = {{ per_s = 0.01, burst = 1 }} }}

[costs.prices."{model}"]
input_per_mtok = 2
output_per_mtok = 8
"""
KEYS_MD = b"# Keys\n\nCreate the new key first, move the callers to it, then revoke the old one. A revoked key stops at once.\n"
OPENAI_FOR_NODE = "7.57.0"
ASKED: list[Any] = [{"role": "user", "content": "How do I rotate a key?"}]


@pytest.fixture(scope="module")
def service(start_up: Callable[..., Up], simulator: str, tmp_path_factory: pytest.TempPathFactory) -> Up:
    contract = CONTRACT.format(model=MODEL, simulator=simulator)
    return start_up(tmp_path_factory.mktemp("clients") / "data", contract=contract)


@pytest.fixture(scope="module")
def secret(service: Up) -> str:
    """A key of business unit `north`, which has the collection `handbook`."""
    _, secret = service.key("north")
    ingest(service, secret)
    return secret


@pytest.fixture(scope="module")
def hasty(service: Up) -> str:
    """A key of a business unit that has used up its only request."""
    _, secret = service.key("hasty")
    ingest(service, secret)
    with service.client(secret) as client:
        assert client.post("/v1/search", json={"question": "How do I rotate a key?"}).status_code == 200
    return secret


def ingest(service: Up, secret: str) -> None:
    with service.client(secret) as client:
        sent = client.post("/v1/documents", files={"file": ("keys.md", KEYS_MD)}, data={"collection": "handbook"})
        assert sent.status_code == 202, sent.text
        document_id = sent.json()["documents"][0]["id"]
        deadline = time.monotonic() + 40
        while client.get(f"/v1/documents/{document_id}").json()["state"] != "indexed":
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def client(service: Up, secret: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key=secret, max_retries=0) as client:
        yield client


def test_python_reads_an_answer_with_its_usage_and_our_extension(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="pilotis/handbook", messages=ASKED, temperature=0)
    answer = raw.parse()
    content = answer.choices[0].message.content
    assert content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage
    assert answer.usage.completion_tokens >= 12
    assert answer.usage.prompt_tokens > 50
    told = (answer.model_extra or {})["pilotis"]
    assert Decimal(told["cost_eur"]) == Decimal(raw.headers["x-rag-cost-eur"]) > 0
    assert told["model"] == MODEL


def test_python_streams_and_the_last_chunk_has_the_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="pilotis",
        messages=[{"role": "user", "content": "Which key is revoked, and when?"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) >= 12
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens >= 12
    assert Decimal((chunks[-2].model_extra or {})["pilotis"]["cost_eur"]) > 0


def test_pythons_stream_helper_gathers_the_same_text(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="pilotis", messages=ASKED) as stream:
        gathered = stream.get_final_completion()
    whole = client.chat.completions.create(model="pilotis", messages=ASKED)
    assert (gathered.choices[0].message.content or "").strip() == whole.choices[0].message.content


async def test_async_python_asks_many_at_once(service: Up, secret: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key=secret, max_retries=0) as client:

        async def one(number: int) -> str:
            asked: list[Any] = [{"role": "user", "content": f"How do I rotate key {number}?"}]
            stream = await client.chat.completions.create(model="pilotis", messages=asked, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        assert all(await asyncio.gather(*(one(number) for number in range(8))))


def test_python_lists_the_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["pilotis", "pilotis/handbook"]
    assert client.models.retrieve("pilotis").owned_by == "north"


def test_python_raises_what_its_users_catch(service: Up, client: openai.OpenAI, hasty: str) -> None:
    with pytest.raises(openai.AuthenticationError, match="not known"):
        client.with_options(api_key="plt_wrong").chat.completions.create(model="pilotis", messages=ASKED)
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-4o", messages=ASKED)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError, match="one answer"):
        client.chat.completions.create(model="pilotis", messages=ASKED, n=2)
    tools: list[Any] = [{"type": "function", "function": {"name": "now", "parameters": {}}}]
    with pytest.raises(openai.BadRequestError, match="calls no tools") as refused:
        client.chat.completions.create(model="pilotis", messages=ASKED, tools=tools, tool_choice="required")
    assert refused.value.param == "tool_choice"
    assert client.chat.completions.create(model="pilotis", messages=ASKED, tools=tools).choices[0].finish_reason == "stop"
    for stream in (False, True):
        with pytest.raises(openai.RateLimitError) as limited:
            client.with_options(api_key=hasty).chat.completions.create(model="pilotis", messages=ASKED, stream=stream)
        assert (limited.value.type, limited.value.code) == ("rate_limit_error", "rate_limited")
        assert int(limited.value.response.headers["retry-after"]) > 1


def test_a_cap_below_the_services_is_kept(client: openai.OpenAI) -> None:
    asked: list[Any] = [{"role": "user", "content": "How long is an answer?"}]
    short = client.chat.completions.create(model="pilotis", messages=asked, max_completion_tokens=3)
    assert short.usage
    assert short.usage.completion_tokens <= 12


NODE = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: process.argv[3], maxRetries: 0 });
const messages = [{ role: "user", content: "How do I rotate a key, in Node?" }];
let text = "", usage = null, pilotis = null;
const stream = await client.chat.completions.create({ model: "pilotis", messages, stream: true, stream_options: { include_usage: true } });
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
  pilotis = chunk.pilotis ?? pilotis;
}
const whole = await client.chat.completions.create({ model: "pilotis", messages });
const models = (await client.models.list()).data.map((model) => model.id);
let refused = "";
try {
  await new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "plt_wrong" }).chat.completions.create({ model: "pilotis", messages });
} catch (error) {
  refused = error.constructor.name;
}
console.log(JSON.stringify({ text, usage, pilotis, whole: whole.choices[0].message.content, cache: whole.pilotis.cache, models, refused }));
"""


def test_node_streams_reads_and_is_refused(service: Up, secret: str, tmp_path: Path) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    if not npm or not node:
        pytest.skip("Node's client was NOT tried: there is no npm here")
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=0", "--prefer-offline"]
    with_time = [*command, "--fetch-timeout=20000", "--prefix", str(tmp_path), f"openai@{OPENAI_FOR_NODE}"]
    installed = subprocess.run(with_time, capture_output=True, text=True, timeout=100, check=False)
    if installed.returncode != 0:
        pytest.skip(f"Node's client was NOT tried: npm could not install it: {installed.stderr.strip()[:200]}")
    script = tmp_path / "ask.mjs"
    script.write_text(NODE)
    run = subprocess.run([node, str(script), service.url, secret], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["text"].strip() == told["whole"] != ""
    assert told["usage"]["completion_tokens"] >= 12
    assert Decimal(told["pilotis"]["cost_eur"]) > 0
    assert told["cache"] == "hit"
    assert told["models"] == ["pilotis", "pilotis/handbook"]
    assert told["refused"] == "AuthenticationError"


@asynccontextmanager
async def tools(url: str, secret: str, mode: str) -> AsyncGenerator[Client]:
    headers = {"authorization": f"Bearer {secret}"}
    async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
        transport = streamable_http_client(f"{url}/mcp", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield client


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_sdk_of_mcp_lists_and_calls_the_tools(service: Up, secret: str, mode: str) -> None:
    async with tools(service.url, secret, mode) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == {"search", "ask", "list_documents"}
        asked = await client.call_tool("ask", {"question": "How do I rotate a key?", "collection": "handbook"})
        assert not asked.is_error
        assert asked.structured_content["model"] == MODEL
        found = await client.call_tool("search", {"question": "How do I rotate a key?", "top_k": 2})
        assert found.structured_content["passages"][0]["document"] == "keys.md"
        listed = await client.call_tool("list_documents", {"limit": 5})
        assert [document["name"] for document in listed.structured_content["documents"]] == ["keys.md"]
        refused = await client.call_tool("ask", {"question": "Why?", "collection": "nowhere"})
        assert refused.is_error
        assert "name one that exists: 'handbook'" in getattr(refused.content[0], "text", "")


async def test_the_sdk_of_mcp_is_told_when_it_asks_too_often(service: Up, hasty: str) -> None:
    async with tools(service.url, hasty, "auto") as client:
        refused = await client.call_tool("ask", {"question": "How do I rotate a key?"})
        assert refused.is_error
        assert refused.structured_content["code"] == "rate_limited"
        assert refused.structured_content["retry_after_s"] > 1


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_sdk_of_mcp_does_not_get_in_with_a_wrong_key(service: Up, mode: str) -> None:
    with pytest.raises(Exception) as refused:  # noqa: PT011 - the SDK wraps it in groups of its own
        async with tools(service.url, "plt_wrong", mode) as client:
            await client.list_tools()
    assert "this API key is not known" in repr(flat(refused.value))


def flat(error: BaseException) -> list[BaseException]:
    return [inner for one in error.exceptions for inner in flat(one)] if isinstance(error, BaseExceptionGroup) else [error]


LITELLM = """
import json, sys, litellm
how = {"model": "openai/pilotis", "api_base": sys.argv[1] + "/v1", "api_key": sys.argv[2], "num_retries": 0}
how["messages"] = [{"role": "user", "content": "How do I rotate a key, in LiteLLM?"}]
chunks = list(litellm.completion(**how, stream=True, stream_options={"include_usage": True}))
text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
usage = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
whole = litellm.completion(**how)
try:
    litellm.completion(**how | {"api_key": "plt_wrong"})
    refused = ""
except Exception as error:
    refused = type(error).__name__
told = {"text": text, "wrote": usage[-1].completion_tokens, "whole": whole.choices[0].message.content, "refused": refused}
told["pilotis"] = getattr(whole, "pilotis", None)
print(json.dumps(told))
"""


def test_litellm_streams_reads_and_is_refused(service: Up, secret: str) -> None:
    python = os.environ.get("PILOTIS_TEST_LITELLM_PYTHON")
    if not python:
        pytest.skip("LiteLLM was NOT tried: PILOTIS_TEST_LITELLM_PYTHON names no python that has it")
    command = [python, "-c", LITELLM, service.url, secret]
    environ = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
    run = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=environ)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout.splitlines()[-1])
    assert told["text"].strip() == told["whole"] != ""
    assert told["wrote"] >= 12
    assert told["refused"] == "AuthenticationError"
    assert told["pilotis"]["cache"] == "hit"
