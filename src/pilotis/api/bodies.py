"""Reading JSON bodies: the type is checked, then the size while reading, then every field."""

from __future__ import annotations

from math import isfinite
from typing import Annotated, Any, TypeVar

from fastapi import Request
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from pilotis.api.problems import invalid_fields
from pilotis.errors import Invalid

MAX_JSON_BYTES = 256 * 1024

Read = TypeVar("Read", bound=BaseModel)


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("contains a NUL character, which no text can")
    return text


Text = Annotated[str, AfterValidator(_no_nul)]
"""A string that Postgres can hold. Lone surrogates never get this far: the JSON parser refuses them."""


def _scalar(value: Any) -> Any:
    if isinstance(value, dict | list):
        raise ValueError("filter by a text, a number, true, false or null")  # noqa: TRY004 - pydantic reports a ValueError
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(f"{value} is no number in JSON")
    return _no_nul(value) if isinstance(value, str) else value


Filters = dict[Text, Annotated[str | int | float | bool | None, BeforeValidator(_scalar)]]
"""Metadata that a document must hold, by key."""


class Body(BaseModel):
    """A JSON body: frozen, strict, unknown fields refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


async def read_json(request: Request, model: type[Read]) -> Read:
    """The body as `model`.

    Raises Invalid: 415 for another content type, 413 above MAX_JSON_BYTES (before parsing), 422 for anything else.
    """
    given = request.headers.get("content-type", "")
    media_type = given.partition(";")[0].strip().lower()
    if media_type != "application/json":
        named = f"content type {media_type!r}" if media_type else "a body without content type"
        raise Invalid(f"{named} is not read here", remedy="send content-type: application/json", status=415, code="media_type")
    body = await _read(request)
    if not body:
        raise Invalid("the body is empty", remedy="send a JSON object; /docs has an example")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise invalid_fields(error.errors(include_url=False, include_input=False), list(model.model_fields)) from None


def json_body(model: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """What the OpenAPI page says about a body read by `read_json`."""
    content = {"application/json": {"schema": model.model_json_schema(), "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def too_large(what: str, limit: int, found: str, *, remedy: str = "send less") -> Invalid:
    """413, with the bound and what was found."""
    return Invalid(f"{what} has {found}; the most is {limit:,} bytes", remedy=remedy, status=413, code="too_large")


async def _read(request: Request) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > MAX_JSON_BYTES:
        raise too_large("the body", MAX_JSON_BYTES, f"{int(announced):,} bytes")
    read = bytearray()
    async for chunk in request.stream():
        read += chunk
        if len(read) > MAX_JSON_BYTES:
            raise too_large("the body", MAX_JSON_BYTES, f"more than {len(read) - 1:,} bytes")
    return bytes(read)
