"""Reading JSON bodies: the type is checked, then the size while reading, then every field."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from math import isfinite
from typing import Annotated, Any, TypeVar

from fastapi import Request
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pilotis.api.problems import invalid_fields
from pilotis.errors import Invalid
from pilotis.online.ask import MAX_TOP_K

MAX_JSON_BYTES = 256 * 1024

JSON_S = 10.0
"""How long a JSON body may take to arrive."""
FORM_S, FORM_BYTES_PER_S = 30.0, 4096
"""A form may take as long, and longer by what arrives at this rate: a slow line is served, one that dribbles is not."""

Read = TypeVar("Read", bound=BaseModel)


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("contains a NUL character, which no text can")
    return text


Text = Annotated[str, AfterValidator(_no_nul)]
"""A string that Postgres can hold. Lone surrogates never get this far: the JSON parser refuses them."""

Typed = Annotated[Text, Field(json_schema_extra={"minLength": 1})]
"""A question as it was typed. Whether a word is in it, and how long it is, is seen later, and told with codes of their own."""

TopK = Annotated[int, Field(json_schema_extra={"minimum": 1, "maximum": MAX_TOP_K})]
"""How many passages; what is out of bounds is told later, with a code of its own."""


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

    Raises Invalid: 415 for another content type, 413 above MAX_JSON_BYTES (before parsing), 408 where it does not come within
    JSON_S, 422 for anything else.
    """
    given = request.headers.get("content-type", "")
    media_type = given.partition(";")[0].strip().lower()
    if media_type != "application/json":
        named = f"content type {media_type!r}" if media_type else "a body without content type"
        raise Invalid(f"{named} is not read here", remedy="send content-type: application/json", status=415, code="media_type")
    body = await read_bytes(request)
    if not body:
        raise Invalid("the body is empty", remedy="send a JSON object; /docs has an example")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise invalid_fields(error.errors(include_url=False, include_input=False), list(model.model_fields)) from None


def json_body(model: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """What the OpenAPI page says about a body read by `read_json`."""
    content = {"application/json": {"schema": _whole(model.model_json_schema()), "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def _whole(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with its definitions written out where they are used: a reference would look for them at the page's root."""
    definitions = schema.pop("$defs", {})

    def written(part: Any) -> Any:
        match part:
            case {"$ref": str(name), **more}:
                return written(definitions[name.removeprefix("#/$defs/")] | more)
            case dict():
                return {key: written(value) for key, value in part.items()}
            case list():
                return [written(value) for value in part]
            case _:
                return part

    whole: dict[str, Any] = written(schema)
    return whole


def too_large(what: str, limit: int, found: str, *, remedy: str = "send less") -> Invalid:
    """413, with the bound and what was found."""
    return Invalid(f"{what} has {found}; the most is {limit:,} bytes", remedy=remedy, status=413, code="too_large")


async def form_chunks(request: Request) -> AsyncGenerator[bytes, None]:
    """The body of a form as it comes. Raises Invalid (408) where it comes too slowly."""
    stream, received = request.stream(), 0
    ends = asyncio.get_running_loop().time() + FORM_S
    while True:
        try:
            async with asyncio.timeout_at(ends + received / FORM_BYTES_PER_S):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise _too_slow(f"{received:,} bytes in {FORM_S + received / FORM_BYTES_PER_S:.0f} s") from None
        if chunk is None:
            return
        received += len(chunk)
        yield chunk


async def read_bytes(request: Request) -> bytes:
    """A body of at most MAX_JSON_BYTES. Raises Invalid: 413 above, 408 where it does not come within JSON_S."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > MAX_JSON_BYTES:
        raise too_large("the body", MAX_JSON_BYTES, f"{int(announced):,} bytes")
    read = bytearray()
    try:
        async with asyncio.timeout(JSON_S):
            async for chunk in request.stream():
                read += chunk
                if len(read) > MAX_JSON_BYTES:
                    raise too_large("the body", MAX_JSON_BYTES, f"more than {len(read) - 1:,} bytes")
    except TimeoutError:
        raise _too_slow(f"{len(read):,} bytes in {JSON_S:.0f} s") from None
    return bytes(read)


def _too_slow(found: str) -> Invalid:
    return Invalid(f"the body comes too slowly: {found}", remedy="send it faster, or less", status=408, code="too_slow")
