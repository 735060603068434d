"""What a document may be called, and what may be known of it."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from pilotis.errors import Invalid

MAX_NAME, MAX_COLLECTION, MAX_METADATA_BYTES = 1024, 200, 16_384

_ABSOLUTE = re.compile(r"(?:[A-Za-z]:)?[\\/]")
_BREAKING = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Controls, lone surrogates, line and paragraph separators."""


def clean_name(name: str) -> str:
    """The name in NFC; of an absolute path, POSIX or Windows, its last part: where a file lay is nobody's business.

    Raises Invalid for an empty or overlong one and for control characters, newlines among them.
    """
    cleaned = _clean(name, "the document's name", MAX_NAME)
    return _clean(re.split(r"[\\/]", cleaned)[-1], "the document's name", MAX_NAME) if _ABSOLUTE.match(cleaned) else cleaned


def clean_collection(name: str) -> str:
    """The same for a collection."""
    return _clean(name, "the collection's name", MAX_COLLECTION)


def clean_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Raises Invalid for what JSON or Postgres cannot hold: NUL, lone surrogates, NaN, more than 16 KiB."""
    try:
        text = json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False)
        size = len(text.encode())
    except (ValueError, TypeError, RecursionError) as error:
        reason = f"the metadata cannot be stored: {error}"
        raise Invalid(reason, remedy="send a plain JSON object", code="invalid_metadata") from error
    if "\\u0000" in text.replace("\\\\", ""):
        raise Invalid("the metadata holds a NUL character", remedy="remove it", code="invalid_metadata")
    if size > MAX_METADATA_BYTES:
        reason = f"the metadata has {size:,} bytes; the limit is {MAX_METADATA_BYTES:,}"
        raise Invalid(reason, remedy="send less", code="invalid_metadata")
    return dict(metadata)


def _clean(name: str, what: str, longest: int) -> str:
    cleaned = unicodedata.normalize("NFC", name).strip()
    if not cleaned:
        raise Invalid(f"{what} is empty", remedy="name it", code="invalid_name")
    if len(cleaned) > longest:
        reason = f"{what} has {len(cleaned):,} characters; the limit is {longest:,}"
        raise Invalid(reason, remedy="shorten it", code="invalid_name")
    for position, character in enumerate(cleaned):
        if unicodedata.category(character) in _BREAKING:
            raise Invalid(
                f"{what} holds U+{ord(character):04X} at position {position}: {cleaned[:80]!a}",
                remedy="use a name without control characters or newlines",
                code="invalid_name",
            )
    return cleaned
