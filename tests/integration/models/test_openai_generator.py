"""The generator against a server that can misbehave in every way seen in the wild."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any

import pytest

from pilotis.adapters.openai import OpenAIGenerator
from pilotis.derive.cost import Usage
from pilotis.errors import Permanent, PilotisError, SetupError, Transient
from pilotis.rag.prompt import Prompt

PROMPT = Prompt(version="v1", system="Answer in English.", user="What holds the roof?", tokens=321)
KEY = "sk-very-secret"
unique = itertools.count()

Open = Callable[..., OpenAIGenerator]


@pytest.fixture
async def generator(provider: str) -> AsyncIterator[Open]:
    async with AsyncExitStack() as opened:

        def build(behaviour: str, **changed: Any) -> OpenAIGenerator:
            given: dict[str, Any] = {
                "model": f"mock-{behaviour}-id{next(unique)}",
                "provider": "custom",
                "base_url": f"{provider}/v1",
                "key": KEY,
                "key_env": "MY_LLM_KEY",
                "first_byte_s": 5.0,
                "total_s": 10.0,
            }
            built = OpenAIGenerator(**{**given, **changed})
            opened.push_async_callback(built.close)
            return built

        yield build


async def told(generator: OpenAIGenerator, *, max_tokens: int = 100) -> tuple[str, list[Usage], PilotisError | None]:
    """The text, every usage yielded, and the error at the end."""
    text, usages = "", []
    try:
        async for item in generator.generate(PROMPT, max_tokens=max_tokens):
            if isinstance(item, Usage):
                usages.append(item)
            else:
                assert not usages, "usage comes last"
                text += item
    except PilotisError as error:
        return text, usages, error
    return text, usages, None


def seen(provider: str, generator: OpenAIGenerator) -> dict[str, Any]:
    with urllib.request.urlopen(f"{provider}/seen/{generator.model}") as answer:
        story: dict[str, Any] = json.load(answer)
        return story


async def test_streams_the_text_and_reports_the_servers_usage(generator: Open, provider: str) -> None:
    asked = generator("len12-cached3-reasoning2")
    text, usages, error = await told(asked, max_tokens=77)
    assert error is None
    assert text == "the roof stands on thin columns so the garden goes on beneath "
    assert usages == [
        Usage(
            model=asked.model,
            provider="custom",
            input_tokens=7,
            output_tokens=12,
            cached_tokens=3,
            reasoning_tokens=2,
            estimated=False,
        )
    ]
    (body,) = seen(provider, asked)["requests"]
    assert body["messages"] == [
        {"role": "system", "content": PROMPT.system},
        {"role": "user", "content": PROMPT.user},
    ]
    assert body["max_tokens"] == 77
    assert body["stream_options"] == {"include_usage": True}


async def test_pieces_arrive_while_the_server_still_writes(generator: Open) -> None:
    stream = generator("itl40-len10").generate(PROMPT, max_tokens=100)
    arrived = [time.monotonic() async for item in stream if isinstance(item, str)]
    assert len(arrived) == 10
    assert arrived[-1] - arrived[0] > 0.25


async def test_running_totals_count_once(generator: Open) -> None:
    _, usages, _ = await told(generator("running-len6"))
    assert [usage.output_tokens for usage in usages] == [6]


async def test_usage_is_estimated_where_the_server_reports_none(generator: Open) -> None:
    text, usages, error = await told(generator("nousage-len20"))
    assert error is None
    assert [(u.input_tokens, u.output_tokens, u.estimated) for u in usages] == [(321, -(-len(text) // 4), True)]


async def test_a_given_counter_estimates(generator: Open) -> None:
    _, usages, _ = await told(generator("nousage-len20", count_tokens=lambda text: len(text.split())))
    assert usages[0].output_tokens == 20


@pytest.mark.parametrize(
    ("behaviour", "kind", "words"),
    [("cut4", Transient, 4), ("nofinish-len4", Transient, 4), ("errevent", Transient, 2), ("garbage", Permanent, 2)],
)
async def test_a_stream_that_breaks_is_settled_then_raised_and_never_asked_again(
    generator: Open, provider: str, behaviour: str, kind: type[PilotisError], words: int
) -> None:
    asked = generator(behaviour)
    text, usages, error = await told(asked)
    assert type(error) is kind
    assert error.remedy
    assert len(text.split()) == words
    assert [(u.input_tokens, u.output_tokens, u.estimated) for u in usages] == [(321, -(-len(text) // 4), True)]
    assert len(seen(provider, asked)["requests"]) == 1


@pytest.mark.parametrize(
    ("behaviour", "kind", "says"),
    [
        ("401", SetupError, "refused the key"),
        ("403", SetupError, "refused the key"),
        ("404", Permanent, "is not there"),
        ("400", Permanent, "refused the request (400)"),
        ("quota", Permanent, "no credit"),
        ("html", Permanent, "not the OpenAI protocol"),
        ("shape", Permanent, "not the OpenAI protocol"),
        ("empty", Permanent, "finish_reason length"),
    ],
)
async def test_what_cannot_be_helped_is_said_at_once(
    generator: Open, provider: str, behaviour: str, kind: type[PilotisError], says: str
) -> None:
    asked = generator(behaviour)
    text, usages, error = await told(asked)
    assert type(error) is kind
    assert says in error.message
    assert asked.model in error.message
    assert error.remedy
    assert KEY not in f"{error.message} {error.remedy} {error!r}"
    assert text == ""
    assert len(usages) == 1
    assert len(seen(provider, asked)["requests"]) == 1


async def test_a_refused_key_names_its_variable_and_costs_nothing(generator: Open) -> None:
    _, usages, error = await told(generator("401"))
    assert error is not None
    assert "MY_LLM_KEY" in error.remedy
    assert (usages[0].input_tokens, usages[0].output_tokens, usages[0].estimated) == (0, 0, False)


@pytest.mark.parametrize("behaviour", ["429x2", "500x2", "503x1", "resetx2"])
async def test_passing_failures_are_tried_again_before_the_first_byte(generator: Open, provider: str, behaviour: str) -> None:
    asked = generator(f"{behaviour}-len3")
    text, usages, error = await told(asked)
    assert error is None
    assert text == "the roof stands "
    assert len(usages) == 1
    assert len(seen(provider, asked)["requests"]) == int(behaviour[-1]) + 1


async def test_retry_after_is_waited_for(generator: Open) -> None:
    began = time.monotonic()
    text, _, error = await told(generator("429x1-retry1-len3"))
    assert error is None
    assert text
    assert 1.0 <= time.monotonic() - began < 3.0


async def test_retry_after_beyond_the_deadline_is_passed_on_at_once(generator: Open, provider: str) -> None:
    asked = generator("429-retry30")
    began = time.monotonic()
    _, usages, error = await told(asked)
    assert isinstance(error, Transient)
    assert error.retry_after_s == 30
    assert time.monotonic() - began < 2
    assert usages[0].input_tokens == 0
    assert len(seen(provider, asked)["requests"]) == 1


async def test_retries_are_bounded(generator: Open, provider: str) -> None:
    asked = generator("500", first_byte_s=60.0, total_s=60.0)
    _, _, error = await told(asked)
    assert isinstance(error, Transient)
    assert "tried 5 times" in error.message
    assert len(seen(provider, asked)["requests"]) == 5


async def test_the_first_byte_has_a_deadline(generator: Open, provider: str) -> None:
    asked = generator("slow", first_byte_s=0.4)
    began = time.monotonic()
    _, usages, error = await told(asked)
    assert isinstance(error, Transient)
    assert "0.4 s" in error.message
    assert time.monotonic() - began < 1.5
    assert (usages[0].input_tokens, usages[0].estimated) == (321, True), "the server may have read the prompt"
    assert len(seen(provider, asked)["requests"]) == 1


async def test_the_last_byte_has_a_deadline_and_what_came_is_settled(generator: Open) -> None:
    began = time.monotonic()
    text, usages, error = await told(generator("itl100-len500", total_s=0.8, first_byte_s=0.8))
    assert isinstance(error, Transient)
    assert "last token" in error.message
    assert time.monotonic() - began < 2
    assert 3 <= len(text.split()) <= 8
    assert usages[0].output_tokens == -(-len(text) // 4)
    assert usages[0].estimated


async def test_a_slow_reader_is_not_a_slow_server(generator: Open) -> None:
    pieces = 0
    async for item in generator("len8", total_s=0.5, first_byte_s=0.5).generate(PROMPT, max_tokens=100):
        pieces += isinstance(item, str)
        await asyncio.sleep(0.1)
    assert pieces == 8


async def test_leaving_early_stops_the_server(generator: Open, provider: str) -> None:
    asked = generator("itl20-len1000")
    async with aclosing(asked.generate(PROMPT, max_tokens=100)) as stream:
        async for _ in stream:
            break
    for _ in range(50):
        story = seen(provider, asked)
        if story["abandoned"]:
            break
        await asyncio.sleep(0.05)
    assert story["abandoned"] == 1
    assert story["words"] < 60


async def test_thoughts_are_told_as_they_come_and_counted_once(generator: Open) -> None:
    async with aclosing(generator("think200-itl2-len3").generate(PROMPT, max_tokens=100)) as stream:
        items = [item async for item in stream]
    told = [item for item in items if isinstance(item, Usage)]
    assert "".join(item for item in items if isinstance(item, str)) == "the roof stands "
    assert len(told) == 201
    assert (told[49].input_tokens, told[49].output_tokens, told[49].estimated) == (321, 50, True), (
        "one left now has cost so much"
    )
    assert (told[-1].output_tokens, told[-1].estimated) == (3, False), "what the server says at the end is what counts"


async def test_cancelling_stops_the_server(generator: Open, provider: str) -> None:
    asked = generator("itl20-len1000")
    task = asyncio.create_task(told(asked))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(50):
        if seen(provider, asked)["abandoned"]:
            return
        await asyncio.sleep(0.05)
    pytest.fail("the server still writes")


@pytest.mark.parametrize(
    ("behaviour", "vendor", "kept"),
    [
        ("nooptions", "custom", {"max_tokens"}),
        ("nomax", "custom", {"max_completion_tokens", "stream_options"}),
        ("nonewmax", "openai", {"max_tokens", "stream_options"}),
        ("nooptions-nomax-nonewmax", "custom", set()),
    ],
)
async def test_a_parameter_the_server_does_not_know_is_left_out_and_remembered(
    generator: Open, provider: str, behaviour: str, vendor: str, kept: set[str]
) -> None:
    asked = generator(f"{behaviour}-len3", provider=vendor)
    for _ in range(2):
        text, usages, error = await told(asked)
        assert error is None
        assert text == "the roof stands "
        assert usages[0].estimated == ("stream_options" not in kept)
    requests = seen(provider, asked)["requests"]
    optional = {"max_tokens", "max_completion_tokens", "stream_options"}
    assert optional & set(requests[-1]) == kept
    assert optional & set(requests[-2]) == kept
    assert len(requests) == 1 + 1 + len(behaviour.split("-"))


async def test_a_limit_that_one_prompt_was_too_long_for_is_sent_again_with_the_next(generator: Open, provider: str) -> None:
    asked = generator("window60-len3")
    text, usages, error = await told(asked, max_tokens=100)
    assert isinstance(error, Permanent)
    assert (text, usages[0].input_tokens) == ("", 0)
    text, _, error = await told(asked, max_tokens=20)
    assert error is None
    assert text == "the roof stands "
    requests = seen(provider, asked)["requests"]
    assert [request.get("max_tokens") for request in requests] == [100, 20], "a limit that is not sent bounds no cost"


async def test_where_the_server_takes_no_limit_the_stream_is_left_at_it(generator: Open, provider: str) -> None:
    asked = generator("nomax-nonewmax-itl5-len400")
    text, usages, error = await told(asked, max_tokens=20)
    assert error is None
    assert len(text.split()) < 40
    assert (usages[0].input_tokens, usages[0].estimated) == (321, True)
    assert 20 <= usages[0].output_tokens <= 22
    assert seen(provider, asked)["words"] < 100


@pytest.mark.parametrize("behaviour", ["zeros", "odd", "firstusage"])
async def test_what_no_count_can_be_is_counted_here(generator: Open, behaviour: str) -> None:
    text, usages, error = await told(generator(f"{behaviour}-len20"))
    assert error is None
    read = 7 if behaviour == "firstusage" else 321
    assert [(u.input_tokens, u.output_tokens, u.estimated) for u in usages] == [(read, -(-len(text) // 4), True)]


async def test_what_came_after_the_last_report_of_a_stream_that_broke_is_counted_too(generator: Open) -> None:
    text, usages, error = await told(generator("firstusage-cut12-len20"))
    assert isinstance(error, Transient)
    assert [(u.input_tokens, u.output_tokens, u.estimated) for u in usages] == [(7, -(-len(text) // 4), True)]


async def test_nobody_there(generator: Open) -> None:
    _, usages, error = await told(generator("len3", base_url="http://127.0.0.1:9/v1", first_byte_s=5.0))
    assert isinstance(error, Transient)
    assert "127.0.0.1:9" in error.message
    assert usages[0] == Usage(model=usages[0].model, provider="custom")


async def test_nothing_of_this_machine_or_its_environment_is_sent(
    generator: Open, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-another")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-mine")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-of-mine")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    asked = generator("len3", key=None)
    _, _, error = await told(asked)
    assert error is None
    (headers,) = seen(provider, asked)["headers"]
    assert headers["authorization"] == "Bearer none"
    assert not [
        name for name in headers if name.startswith(("openai-", "x-stainless-lang", "x-stainless-os", "x-stainless-arch"))
    ]


async def test_the_key_is_shown_nowhere(generator: Open, caplog: pytest.LogCaptureFixture) -> None:
    asked = generator("404")
    with caplog.at_level(logging.DEBUG):
        await told(asked)
    assert KEY not in repr(asked)
    assert KEY not in caplog.text
