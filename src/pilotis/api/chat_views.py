"""Answers in the form that clients of OpenAI's API read. What they do not know is under `pilotis`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pilotis.api.views import encode, plain
from pilotis.rag.footnotes import footnotes

if TYPE_CHECKING:
    from pilotis.online.events import Answer

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What all parts of one reply have in common."""

    id: str
    created: int
    """Seconds since 1970."""
    model: str
    """As the request named it."""
    with_usage: bool = False

    def whole(self, answer: Answer, *, footnotes: bool) -> dict[str, Any]:
        text = answer.text + (notes(answer) if footnotes else "")
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(answer)}
        head = self._head("chat.completion")
        return head | {"choices": [choice], "usage": usage_view(answer), "pilotis": extension(answer)}

    def delta(self, delta: dict[str, Any], *, finish: str | None = None, more: dict[str, Any] | None = None) -> bytes:
        """One piece of a stream; `more` stands beside the choices."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._frame([choice], more or {})

    def usage(self, answer: Answer) -> bytes:
        """The piece that tells the usage: it has no choice."""
        return self._frame([], {"usage": usage_view(answer)})

    def _frame(self, choices: list[dict[str, Any]], more: dict[str, Any]) -> bytes:
        usage = {"usage": None} if self.with_usage else {}
        return frame(self._head("chat.completion.chunk") | {"choices": choices} | usage | more)

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def frame(content: Any) -> bytes:
    """One server-sent event, without a name, as these clients expect it."""
    return b"data: " + encode(content) + b"\n\n"


def extension(answer: Answer) -> dict[str, Any]:
    """What no other service tells: the sources, what it cost, what was saved, and on which way the answer came."""
    shown = ("n", "document_id", "document", "title", "page", "start", "end", "quote")
    return {
        "id": answer.id,
        "found": answer.found,
        "language": answer.language,
        "sources": [{name: getattr(citation, name) for name in shown} for citation in answer.citations],
        "cost_eur": plain(answer.receipt.cost_eur),
        "saved_eur": plain(answer.receipt.saved_eur),
        "priced": answer.receipt.priced,
        "model": answer.model,
        "step": answer.step,
        "cache": answer.cache,
        "steps": [asdict(step) for step in answer.steps],
    }


def usage_view(answer: Answer) -> dict[str, Any]:
    """The writer's tokens; none where sentences were extracted, or the answer came from the cache."""
    written = [usage for usage in answer.receipt.usages if usage.model == answer.model]
    read, wrote = sum(usage.input_tokens for usage in written), sum(usage.output_tokens for usage in written)
    return {
        "prompt_tokens": read,
        "completion_tokens": wrote,
        "total_tokens": read + wrote,
        "prompt_tokens_details": {"cached_tokens": sum(usage.cached_tokens for usage in written)},
        "completion_tokens_details": {"reasoning_tokens": sum(usage.reasoning_tokens for usage in written)},
    }


def finish_reason(answer: Answer) -> str:
    """`length` where the writer was cut off, also where the answer comes from the cache."""
    return "length" if answer.cut else "stop"


def notes(answer: Answer) -> str:
    """The sources as text behind an answer, for clients that show nothing else; empty where nothing was cited."""
    return footnotes(answer.citations, answer.language)


def model_view(model: str, bu: str) -> dict[str, Any]:
    return {"id": model, "object": "model", "created": 0, "owned_by": bu}
