"""The values that a contract is made of: money exact, names bounded, no secret anywhere."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema


class Record(BaseModel):
    """Base of every table of the file."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", protected_namespaces=())


def listed(value: Any) -> Any:
    """A list of the file as the tuple that records hold."""
    return tuple(value) if isinstance(value, list) else value


def _exact(value: Any) -> Any:
    """Whole numbers become decimals; floats, which have already lost digits, and quoted numbers are refused."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("must be a number", "Write it without quotes, decimals after a point: 16.5.")  # noqa: TRY004 (pydantic expects it)
    return Decimal(value)


def _day(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return dt.date.fromisoformat(value)
        except ValueError as error:
            raise ValueError("is not a date of the calendar", "Write it as 2025-06-30.") from error
    if isinstance(value, dt.datetime):
        raise ValueError("must be a date without a time", "Write it as 2025-06-30.")  # noqa: TRY004 (pydantic expects it)
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (LookupError, ValueError, OSError) as error:
        raise ValueError("is not a time zone of the IANA database", "Write it as Europe/Paris.") from error
    return value


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or re.search(r"\s", value):
        raise ValueError("must be an http or https address", "Write it as http://localhost:8000/v1.")
    if parts.username or parts.password or parts.query:
        raise ValueError(
            "must carry no user, password or query",
            "Put the key in an environment variable, and that variable's name in key_env.",
        )
    return value


def _key_env(value: str) -> str:
    if not re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", value):
        raise ValueError(
            "must be the name of an environment variable, never the key itself",
            "Write it as OPENAI_API_KEY, and set that variable.",
        )
    return value


def _place(value: str) -> str:
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s]*)?|(/|~/)[^\0-\x1f]+", value):
        raise ValueError(
            "must be the whole path of a folder, or the address of a bucket",
            "Write it as /mnt/backup/pilotis or s3://bucket/prefix.",
        )
    return value


def _printable(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must be printable and not blank", "Write the business unit as its API keys name it.")
    return value


def number(*, ge: Decimal | None = None, gt: Decimal | None = None, le: Decimal, places: int) -> Any:
    """A decimal within bounds, for use in `Annotated`."""
    bounds = {"minimum": ge, "exclusiveMinimum": gt, "maximum": le}
    schema: dict[str, Any] = {"type": "number"} | {key: int(bound) for key, bound in bounds.items() if bound is not None}
    return (
        BeforeValidator(_exact),
        Field(ge=ge, gt=gt, le=le, decimal_places=places, allow_inf_nan=False),
        WithJsonSchema(schema),
    )


_ZERO, _ONE = Decimal(0), Decimal(1)

Euros = Annotated[Decimal, *number(ge=_ZERO, le=Decimal(10**9), places=15)]
Amount = Annotated[Decimal, *number(gt=_ZERO, le=Decimal(10**9), places=15)]
"""Euros, and more than none."""
Limit = Annotated[Decimal, *number(gt=_ZERO, le=Decimal(10**9), places=6)]
"""Euros in whole micro-euros, as budgets are counted, and more than none."""
PerSecond = Annotated[Decimal, *number(gt=_ZERO, le=Decimal(10**6), places=6)]
Share = Annotated[Decimal, *number(ge=_ZERO, le=_ONE, places=9)]
Seconds = Annotated[Decimal, *number(gt=_ZERO, le=Decimal(86_400), places=3)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Day = Annotated[dt.date, BeforeValidator(_day)]
Zone = Annotated[str, AfterValidator(_zone)]
Url = Annotated[str, AfterValidator(_url)]
KeyEnv = Annotated[str, AfterValidator(_key_env)]
Place = Annotated[str, AfterValidator(_place)]

_NAME, _FLAG, _MODEL, _LANGUAGE = (
    r"^[a-z][a-z0-9-]{0,39}$",
    r"^(hybrid|rerank|prompt_v[1-9][0-9]{0,3})$",
    r"^\S+$",
    r"^[a-z]{2}$",
)
WORDS = {
    _NAME: "must be lower-case letters, digits and hyphens, beginning with a letter, 40 at most",
    _FLAG: "must be hybrid, rerank, or prompt_v followed by a number",
    _MODEL: "must be a model's name, without spaces",
    _LANGUAGE: "must be a code of two letters, such as fr",
}
"""What each pattern asks for, in words."""

Name = Annotated[str, Field(pattern=_NAME)]
Flag = Annotated[str, Field(pattern=_FLAG)]
ModelName = Annotated[str, Field(min_length=1, max_length=200, pattern=_MODEL)]
Language = Annotated[str, Field(pattern=_LANGUAGE)]
UnitName = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]
"""Of a business unit: free text, as its API keys have it."""
