"""Records as the JSON this API shows. Euros are plain decimal strings, offsets count characters of a document's extracted text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from fastapi import Response
from pydantic_core import to_json

from pilotis.api.problems import encodable
from pilotis.online.events import Citation

if TYPE_CHECKING:
    from pilotis.online.events import Answer, Receipt
    from pilotis.ports import Document, Hit


def answer_view(answer: Answer) -> dict[str, Any]:
    return {
        "id": answer.id,
        "answer": answer.text,
        "found": answer.found,
        "language": answer.language,
        "citations": [{name: getattr(citation, name) for name in _CITED} for citation in answer.citations],
        **receipt_view(answer.receipt),
        "timings_ms": answer.timings_ms,
        "env": answer.env,
        "model": answer.model,
        "prompt": answer.prompt,
        "step": answer.step,
        "cache": answer.cache,
        "steps": [asdict(step) for step in answer.steps],
    }


def receipt_view(receipt: Receipt) -> dict[str, Any]:
    return {
        "usage": [asdict(usage) for usage in receipt.usages],
        "cost_eur": plain(receipt.cost_eur),
        "saved_eur": plain(receipt.saved_eur),
        "priced": receipt.priced,
        "elsewhere_eur": {env: None if cost is None else plain(cost) for env, cost in receipt.elsewhere_eur.items()},
        "price_book": receipt.price_book,
        "fx": receipt.fx,
    }


def passages_view(hits: Sequence[Hit]) -> list[dict[str, Any]]:
    return [{"n": n, **{name: getattr(hit, name) for name in _SHOWN}} for n, hit in enumerate(hits, 1)]


def document_view(document: Document) -> dict[str, Any]:
    return {"id": document.id} | {name: value for name, value in asdict(document).items() if name not in {"id", "bu"}}


def plain(amount: Decimal) -> str:
    """No exponent, at least six decimals, never rounded: `0.000000`, `0.0121000`."""
    exponent = amount.as_tuple().exponent
    if isinstance(exponent, int) and exponent > -6:
        amount = amount.quantize(Decimal("0.000001"))
    return format(amount, "f")


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(encode(content), status, headers, media_type="application/json")


def encode(content: Any) -> bytes:
    """JSON in UTF-8; a text that came with a lone surrogate is shown escaped rather than refused."""
    try:
        return to_json(content)
    except ValueError:
        return to_json(_encodable(content))


_SHOWN = (
    *("passage_id", "document_id", "document", "collection", "title", "headings", "page"),
    *("start", "end", "language", "text", "score", "dense", "lexical"),
)


_CITED = tuple(field.name for field in fields(Citation))


def _encodable(value: Any) -> Any:
    match value:
        case str():
            return encodable(value)
        case dict():
            return {_encodable(key): _encodable(item) for key, item in value.items()}
        case list() | tuple():
            return [_encodable(item) for item in value]
        case _:
            return value
