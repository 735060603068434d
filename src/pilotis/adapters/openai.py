"""Answers from any OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import openai

from pilotis.adapters.breaker import Breaker
from pilotis.adapters.openai_chunks import Chunks
from pilotis.adapters.openai_client import Remote, estimate_tokens, late, never_arrived, retried, translate
from pilotis.derive.cost import Usage
from pilotis.errors import Permanent, PilotisError, Transient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from pilotis.rag.prompt import Prompt

OPTIONAL = ("stream_options", "max_completion_tokens", "max_tokens")
"""Parameters a server may not know. One that is refused by name is left out, or replaced, for as long as the process lives."""

_UNKNOWN = re.compile(
    r"un(?:recogni[sz]ed|supported|known|expected)|not (?:supported|permitted|allowed|recogni[sz]ed)", re.IGNORECASE
)


class OpenAIGenerator:
    """Streams chat completions.

    `generate` yields pieces of text and, last, its Usage, then raises if something went wrong: what was consumed is
    known however a stream ends. While the model thinks aloud, a Usage says how much, for whoever closes the generator early. Usage is the server's own where it reports one (`stream_options.include_usage`). Where it does
    not, or where the stream is cut, the pieces received are counted and `estimated` is true. A request that the server refused
    or never received counts 0; one that timed out before its first byte counts its prompt, which the server may well have read.

    A generator that is closed early can yield nothing more: `aclose` closes the HTTP stream, which makes servers stop writing,
    and the caller, who has every piece, estimates. Deadlines count the time spent waiting for the server, not the time the
    caller takes over a piece. Nothing is retried after the first byte: the caller has shown it to somebody.

    Where the server takes no limit under any name, the stream is left once the pieces received reach it.
    """

    def __init__(
        self,
        *,
        model: str,
        provider: str,
        base_url: str | None,
        key: str | None,
        first_byte_s: float,
        total_s: float,
        key_env: str | None = None,
        breaker: Breaker | None = None,
        count_tokens: Callable[[str], int] = estimate_tokens,
    ) -> None:
        self.model = model
        self.provider = provider
        self._remote = Remote(model=model, base_url=base_url, key=key, key_env=key_env, breaker=breaker or Breaker())
        self._first_byte_s = min(first_byte_s, total_s)
        self._total_s = total_s
        self._count_tokens = count_tokens
        self._client = self._remote.open(total_s=total_s)
        # The older name is the one every server but OpenAI's own knows; OpenAI's reasoning models take the newer one alone.
        self._limit = "max_completion_tokens" if provider == "openai" else "max_tokens"
        self._refused: set[str] = set()

    async def generate(self, prompt: Prompt, *, max_tokens: int) -> AsyncGenerator[str | Usage, None]:
        """Yield the answer's pieces, then its Usage.

        Raises SetupError (the key), Permanent (an unknown model, a request refused, a server that speaks another protocol, an
        empty answer) or Transient (overload, time, a connection that broke).
        """
        heard = _Heard()
        stream: Chunks | None = None
        failure: PilotisError | None = None
        try:
            stream, chunk, waited_s = await self._begin(prompt, max_tokens)
            while chunk is not None:
                before, piece = len(heard.text), heard.take(chunk)
                if piece:
                    yield piece
                elif len(heard.text) > before:
                    yield self._meanwhile(prompt, heard)
                if self._limit in self._refused and self._count_tokens(heard.text) >= max_tokens:
                    heard.finish = "length"
                    break
                chunk, waited_s = await self._next(stream, waited_s)
            failure = heard.fault(self._remote)
        except PilotisError as error:
            failure = error
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # a chunk of another shape
            failure = translate(error, self._remote)
        finally:
            if stream is not None:
                await stream.close()
        yield self._usage(prompt, heard, failure)
        if failure is not None:
            raise failure

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _begin(self, prompt: Prompt, max_tokens: int) -> tuple[Chunks, Any, float]:
        """Open a stream and read its first chunk (None where there is none); return what that took, too."""
        clock = asyncio.get_running_loop().time
        began = clock()

        async def attempt() -> tuple[Chunks, Any]:
            stream = await self._request(prompt, max_tokens)
            try:
                return stream, await stream.next()
            except BaseException:  # a cancelled task too must not leave the connection open
                await stream.close()
                raise

        stream, chunk = await retried(attempt, self._remote, within_s=self._first_byte_s)
        return stream, chunk, clock() - began

    async def _request(self, prompt: Prompt, max_tokens: int) -> Chunks:
        while True:
            options: dict[str, Any] = {self._limit: max_tokens, "stream_options": {"include_usage": True}}
            sent = {name: value for name, value in options.items() if name not in self._refused}
            messages = [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}]
            try:
                return await Chunks.open(self._client, model=self.model, messages=messages, stream=True, **sent)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                name = _refused_parameter(error, sent)
                if name is None:
                    raise
                self._learn(name)

    def _learn(self, refused: str) -> None:
        self._refused.add(refused)
        others = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
        if others.get(refused) not in self._refused:
            self._limit = others.get(refused, self._limit)

    async def _next(self, stream: Chunks, waited_s: float) -> tuple[Any, float]:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(self._total_s - waited_s):
                chunk = await stream.next()
        except TimeoutError as error:
            raise late(self._remote, self._total_s, missing="its last token") from error
        except openai.OpenAIError as error:
            raise translate(error, self._remote) from error
        return chunk, waited_s + clock() - began

    def _usage(self, prompt: Prompt, heard: _Heard, failure: PilotisError | None) -> Usage:
        if heard.usage is not None:
            return self._completed(_usage_of(heard.usage, self.model, self.provider), prompt, heard)
        cause = failure.__cause__ if isinstance(failure, Transient) else None
        timed_out = isinstance(cause, TimeoutError | openai.APITimeoutError) and not never_arrived(cause)
        consumed = heard.began or timed_out
        return Usage(
            model=self.model,
            provider=self.provider,
            input_tokens=prompt.tokens if consumed else 0,
            output_tokens=self._count_tokens(heard.text) if heard.text else 0,
            estimated=consumed,
        )

    def _meanwhile(self, prompt: Prompt, heard: _Heard) -> Usage:
        """Of all that came until now: thoughts and pieces, counted as they come."""
        heard.tokens += self._count_tokens(heard.text[heard.counted :])
        heard.counted = len(heard.text)
        return Usage(
            model=self.model, provider=self.provider, input_tokens=prompt.tokens, output_tokens=heard.tokens, estimated=True
        )

    def _completed(self, reported: Usage, prompt: Prompt, heard: _Heard) -> Usage:
        """With what the report leaves out counted here: nobody reads a prompt of no tokens, and what came later is not in it."""
        missed = heard.text[heard.reported :] if reported.output_tokens else heard.text
        if reported.input_tokens and not missed:
            return reported
        return replace(
            reported,
            input_tokens=reported.input_tokens or prompt.tokens,
            output_tokens=reported.output_tokens + (self._count_tokens(missed) if missed else 0),
            estimated=True,
        )


class _Heard:
    """What a stream has said so far."""

    def __init__(self) -> None:
        self.began = False
        self.text = ""
        self.answered = False
        self.usage: dict[str, Any] | None = None
        self.reported = 0
        """How much of the text was there when the usage was last reported."""
        self.counted = self.tokens = 0
        """How much of the text has been counted while the model still wrote, and how many tokens that were."""
        self.finish: str | None = None

    def take(self, chunk: Any) -> str:
        """Take note of a chunk; return the piece of the answer in it, often empty."""
        self.began = True
        piece = ""
        for choice in (chunk["choices"] or [])[:1]:
            self.finish = choice.get("finish_reason") or self.finish
            delta = choice.get("delta")
            if delta is not None:
                piece = delta.get("content") or ""
                thought = delta.get("reasoning_content") or delta.get("reasoning")
                self.text += piece + (thought if isinstance(thought, str) else "")
        self.answered = self.answered or bool(piece)
        usage = chunk.get("usage")
        if usage and isinstance(usage, dict):  # some servers report a running total in every chunk: the last one counts
            self.usage, self.reported = usage, len(self.text)
        return piece

    def fault(self, remote: Remote) -> PilotisError | None:
        """Say what is wrong with a stream that ended without an error, if anything."""
        if not self.began:
            return translate(ValueError("a stream without a single chunk"), remote)
        if self.finish is None:
            return Transient(remote.says("broke off in the middle of its answer"), remedy="try again")
        if not self.answered:
            raised = "raise tok_out_max" if self.finish == "length" else "rephrase the question or choose another model"
            return Permanent(remote.says(f"wrote no answer (finish_reason {self.finish})"), remedy=raised)
        return None


def _usage_of(reported: dict[str, Any], model: str, provider: str) -> Usage:
    """Map the server's figures; details it leaves out count 0. DeepSeek says beside the usage what others say in its details."""
    read, wrote = (_counts(reported.get(name)) for name in ("prompt_tokens_details", "completion_tokens_details"))
    said = _counts(reported)
    return Usage(
        model=model,
        provider=provider,
        input_tokens=said.get("prompt_tokens", 0),
        output_tokens=said.get("completion_tokens", 0),
        cached_tokens=read.get("cached_tokens") or said.get("prompt_cache_hit_tokens", 0),
        reasoning_tokens=wrote.get("reasoning_tokens", 0),
    )


def _counts(reported: object) -> dict[str, int]:
    """What in it can be a count."""
    if not isinstance(reported, dict):
        return {}
    whole = {name: int(value) for name, value in reported.items() if isinstance(value, int | float) and 0 <= value < math.inf}
    return {name: value for name, value in whole.items() if value > 0}


def _refused_parameter(error: openai.APIStatusError, sent: dict[str, Any]) -> str | None:
    """Name the optional parameter that the server does not know, if it complains of one that was sent.

    A limit whose value it finds too large for this prompt it knows well: without it the next answer could cost anything.
    """
    is_unknown = error.code != "unsupported_value" and _UNKNOWN.search(f"{error.code} {error.message}")
    doubted = [name for name in OPTIONAL if name in sent and (is_unknown or name == "stream_options")]
    return next(
        (name for name in doubted if name == error.param), next((name for name in doubted if name in error.message), None)
    )
