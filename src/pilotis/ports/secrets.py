"""Where secrets are kept: read once, when a process starts, and asked for their ages now and then."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """One secret. Its value is in no repr."""

    value: str = field(repr=False)
    at: datetime | None
    """When this value was put there; None where the keeper does not know."""


class Secrets(Protocol):
    """A keeper of secrets. Its calls block. No error of its holds a value, or the credentials it is asked with."""

    def place(self, name: str) -> str:
        """For people: where one of this name is kept, as in "rag/prod/OPENAI_API_KEY in AWS Secrets Manager"."""
        ...

    def read(self, names: Collection[str]) -> Mapping[str, Secret]:
        """Those that are there, by name.

        Raises SetupError where the keeper refuses, or keeps something that is no secret of ours; Transient where it is away.
        """
        ...
