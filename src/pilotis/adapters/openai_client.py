"""The way to any OpenAI-compatible server: one client, retries inside a deadline, errors put into our words once.

Importing this loads the `openai` SDK (0.5 to 1 s, 45 MB resident): import it only where a remote model is configured.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import openai
from httpx2 import ConnectTimeout, Timeout

from pilotis.adapters.breaker import Breaker
from pilotis.errors import Permanent, PilotisError, SetupError, Transient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

OPENAI_URL = "https://api.openai.com/v1"
ATTEMPTS = 5
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 4.0
CONNECT_S = 5.0
QUOTED_CHARACTERS = 300
"""As much of a server's own words as a message of ours repeats."""

_LENGTH = re.compile(r"\b(?:tokens?|length|too (?:long|large|big|many)|context|characters|maximum|exceed\w*)\b", re.IGNORECASE)

_TOLD = (
    *("OpenAI-Organization", "OpenAI-Project", "X-Stainless-Lang", "X-Stainless-Package-Version", "X-Stainless-OS"),
    *("X-Stainless-Arch", "X-Stainless-Runtime", "X-Stainless-Runtime-Version", "X-Stainless-Async"),
)
"""Headers the SDK takes from the machine and the environment: a server of whatever owner has no business with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A model behind a URL. `key` is None where the server asks for none; `key_env` names its variable, for messages."""

    model: str
    base_url: str | None = None
    key: str | None = field(default=None, repr=False)
    key_env: str | None = None
    breaker: Breaker = field(default_factory=Breaker, repr=False, compare=False)

    @property
    def address(self) -> str:
        """Where the server is, without what a URL may carry in secrets."""
        url = urlsplit(self.base_url or OPENAI_URL)
        return f"{url.scheme}://{url.hostname}{f':{url.port}' if url.port else ''}{url.path}"

    def says(self, what: str, detail: str = "") -> str:
        """The text of an error: before the colon what a caller of ours may know, behind it what is for the operator."""
        return f"{self.model} {what}: {self.address}{detail and f', {detail}'}"

    def open(self, *, total_s: float) -> openai.AsyncOpenAI:
        """Return a client that neither retries nor reads the environment."""
        return openai.AsyncOpenAI(
            api_key=self.key or "none",
            base_url=self.base_url or OPENAI_URL,
            timeout=Timeout(total_s, connect=min(CONNECT_S, total_s)),
            max_retries=0,
            default_headers={name: openai.Omit() for name in _TOLD},  # type: ignore[misc]  # the SDK takes Omit here
            # Its default transport takes twice as long for each call.
            http_client=openai.DefaultAioHttpClient(),
        )


def estimate_tokens(text: str) -> int:
    """Tokens of a text for a model whose tokenizer we do not have: a quarter of its UTF-8 bytes, rounded up."""
    return math.ceil(len(text.encode("utf-8", "replace")) / 4)


def refused(error: PilotisError) -> openai.APIStatusError | None:
    """The refusal behind an error, where the same request in another form or size might pass: 400, 413 or 422."""
    cause = error.__cause__
    return cause if isinstance(cause, openai.APIStatusError) and cause.status_code in (400, 413, 422) else None


def is_about_length(refusal: openai.APIStatusError) -> bool:
    """Whether a server finds what it was sent too long. Each says so in words of its own."""
    return refusal.status_code == 413 or _LENGTH.search(refusal.message) is not None


async def retried(attempt: Callable[[], Awaitable[T]], remote: Remote, *, within_s: float) -> T:
    """Await `attempt()` until it succeeds, at most 5 times and never beyond `within_s`.

    Tried again: refused or broken connections, 408, 409, 429 and 5xx, after the server's Retry-After or after a pause that
    doubles and is drawn at random below its bound ("full jitter").

    Raises what `translate` says of the last failure, and Transient where the time is up or the server is left alone.
    """
    loop = asyncio.get_running_loop()
    ends = loop.time() + within_s
    tried = 0
    while True:
        tried += 1
        require_closed(remote)
        try:
            async with asyncio.timeout_at(ends):
                found = await attempt()
        except TimeoutError as error:
            remote.breaker.failed()
            raise late(remote, within_s) from error
        except (openai.OpenAIError, ValueError, TypeError, AttributeError) as error:
            _note(error, remote)
            pause_s = _pause_s(error, tried)
            if not _passing(error) or tried == ATTEMPTS or loop.time() + pause_s >= ends:
                raise translate(error, remote, tried=tried) from error
            await asyncio.sleep(pause_s)
        except BaseException:  # given up by the caller: it says nothing of the server
            remote.breaker.abandoned()
            raise
        else:
            remote.breaker.succeeded()
            return found


def require_closed(remote: Remote) -> None:
    """Raises Transient at once where the server has failed so often that it is left alone for a moment."""
    wait_s = remote.breaker.retry_after_s()
    if wait_s is not None:
        raise Transient(
            remote.says("has failed again and again and is left alone for a moment"),
            remedy="try again shortly; look at the model's server",
            retry_after_s=wait_s,
        )


def late(remote: Remote, within_s: float, *, missing: str = "an answer") -> Transient:
    """Build the error for a server that kept us waiting."""
    return Transient(
        remote.says(f"did not send {missing} within {within_s:g} s"),
        remedy="try again; if it lasts, raise perf.first_byte_s or perf.total_s in the contract",
    )


def translate(error: Exception, remote: Remote, *, tried: int = 1) -> PilotisError:
    """Say in our words what went wrong: what to set up, what to try later, what cannot help."""
    if isinstance(error, openai.APITimeoutError) and not never_arrived(error):
        return Transient(remote.says("did not answer in time"), remedy="try again; look whether the server is overloaded")
    if isinstance(error, openai.APIConnectionError):
        cause = _quote(str(error.__cause__ or error), remote)
        return Transient(remote.says("cannot be reached", cause), remedy="check that a server listens there")
    if isinstance(error, openai.APIStatusError):
        return _of_status(error, remote, tried)
    if isinstance(error, openai.APIError):  # reported inside a stream that began well
        return Transient(remote.says("broke off", _quote(error.message, remote)), remedy="try again")
    return Permanent(
        remote.says("answered something that is not the OpenAI protocol", _quote(str(error), remote)),
        remedy="check that base_url points at an OpenAI-compatible API, often a path that ends in /v1",
    )


def never_arrived(error: BaseException | None) -> bool:
    """Whether no connection came about: the aiohttp transport calls a refused one a timeout, too."""
    return isinstance(error, openai.APITimeoutError) and isinstance(error.__cause__, ConnectTimeout)


def _of_status(error: openai.APIStatusError, remote: Remote, tried: int) -> PilotisError:
    status, said = error.status_code, _quote(error.message, remote)
    if status in (401, 403):
        variable = remote.key_env or "the key's variable"
        fault = "refused the key" if remote.key else "asks for a key and none is set"
        return SetupError(remote.says(f"{fault} ({status})"), remedy=f"set {variable} to a key that may use {remote.model}")
    if status == 404:
        return Permanent(remote.says("is not there", said), remedy="correct the model's name or its base_url in the contract")
    if status == 429 and error.code == "insufficient_quota":
        return Permanent(remote.says("has no credit left on its account"), remedy="settle it with the provider, then ask again")
    if _passing(error):
        after_s = _retry_after_s(error)
        what = "is overloaded (429)" if status == 429 else f"failed ({status})"
        times = f"tried {tried} times" if tried > 1 else ""
        detail = ", ".join(filter(None, ("" if status == 429 else said, times)))
        return Transient(
            remote.says(what, detail), remedy="try again later", retry_after_s=after_s if after_s is not None else 5.0
        )
    return Permanent(remote.says(f"refused the request ({status})", said), remedy="shorten the request or correct the contract")


def _passing(error: Exception) -> bool:
    """Tell whether the same request may succeed in a moment."""
    if isinstance(error, openai.APIStatusError):
        if error.code == "insufficient_quota":
            return False
        return error.status_code in (408, 409, 429) or (error.status_code >= 500 and error.status_code != 501)
    return isinstance(error, openai.APIConnectionError) or type(error) is openai.APIError


def _note(error: Exception, remote: Remote) -> None:
    """A server that answers is alive, also one that refuses: too many requests (429) are ours to send fewer of."""
    if _passing(error) and not (isinstance(error, openai.APIStatusError) and error.status_code == 429):
        remote.breaker.failed()
    elif isinstance(error, openai.APIStatusError):
        remote.breaker.succeeded()
    else:
        remote.breaker.abandoned()


def _pause_s(error: Exception, tried: int) -> float:
    asked = _retry_after_s(error)
    bound = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**tried)
    drawn = random.uniform(FIRST_PAUSE_S / 2, bound)  # noqa: S311  spreads callers, protects nothing
    return drawn if asked is None else asked + random.uniform(0, FIRST_PAUSE_S)  # noqa: S311


def _retry_after_s(error: Exception) -> float | None:
    """Seconds of a Retry-After header; its date form is rare among model servers and reads as absent."""
    if not isinstance(error, openai.APIStatusError):
        return None
    try:
        asked = float(error.response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return asked if 0 <= asked < 86_400 else None


def _quote(text: str, remote: Remote) -> str:
    shown = " ".join(text.split())
    if remote.key:
        shown = shown.replace(remote.key, "[key]")
    return shown if len(shown) <= QUOTED_CHARACTERS else f"{shown[:QUOTED_CHARACTERS]}…"
