"""Where documents come from: a source that can be listed and read, and the memory of what it brought."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from pilotis.ports.content import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that a source lists."""

    key: str
    """Its name inside the source, which is its document's name too: a path, or an address. It may hold anything."""
    size: int | None = None
    """Bytes, where the list tells."""
    validator: str | None = None
    """What stays the same as long as the bytes do, where the list tells; an item whose validator is known is not read again."""
    unfit: str | None = None
    """Why it can be no document, such as a symbolic link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlisted:
    """A part of a source that could not be listed: what is known to lie there is neither there nor gone."""

    prefix: str
    """Of the keys that lie there; empty for any."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What is told of the bytes that were read."""

    validator: str | None = None
    """Of exactly these bytes; None where there is none to be trusted, so that they are read again the next time."""
    media_type: str | None = None
    """As the source declares it."""


class Source(Protocol):
    """A folder, a bucket, a site: read only, and never to be trusted."""

    at_once: int
    """How many items may be fetched at a time."""

    def items(self) -> AsyncGenerator[Item | Unlisted, None]:
        """All there is, each key once. Raises Transient where the source is away, SetupError where it asks for something to be set up."""
        ...

    async def fetch(self, item: Item, into: Path, *, known: str | None, most_bytes: int) -> Fetched | None:
        """Write the item's bytes to the file `into`; None where they are those of the validator `known`.

        Raises NotFound where the item is gone, Invalid where it has more than `most_bytes` or is refused, Transient where it cannot
        be had now.
        """
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a source brought, or was about to bring."""

    key: str
    bu: str
    collection: str
    name: str
    """Of the document."""
    sha256: str | None = None
    """Of the bytes that were taken in last; None before the first were."""
    size: int = 0
    validator: str | None = None
    document_id: str | None = None
    """None where there is no such document, or no longer."""
    state: State | None = None
    """Of that document."""
    brought: bool = True
    """False where the document was there before the source had it, and has the same content: it is not the source's to delete."""
    seen_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The last synchronisation of a source, and what it has brought altogether."""

    source: str
    began_at: datetime | None
    finished_at: datetime | None
    """None, or before `began_at`, while one is under way or where one died."""
    leads: bool
    """Whether some process synchronises it now."""
    report: Mapping[str, Any] = field(default_factory=dict)
    documents: Mapping[State, int] = field(default_factory=dict)


class SourceItems(Protocol):
    """What each source brought, and who synchronises it now. Every verb is one transaction and may run twice."""

    async def known(self, source: str) -> Sequence[Known]: ...

    async def begin(self, source: str, item: Known, *, sources: Collection[str]) -> Known:
        """Note what is about to be brought, before it is; return it as it stands, `sha256` that of a document already there.

        Raises Conflict where another one of `sources`, or another item of this one, brought a document of that name. What was brought
        by a source that is none of them any more is this one's from now on.
        """
        ...

    async def keep(self, source: str, item: Known) -> None:
        """Note what was brought: the next run knows these bytes."""
        ...

    async def seen(self, source: str, items: Sequence[Known]) -> None:
        """Note that these were there, unchanged."""
        ...

    async def move(self, source: str, old: Known, new: Known, *, media_type: str) -> bool:
        """Give the document of `old` the name of `new`: passages and vectors stay. Read again only where `media_type` is another.

        False, with nothing done, where the document is gone or something else has that name.
        """
        ...

    async def drop(self, source: str, item: Known) -> None:
        """Forget that the source brought it. The document is not touched."""
        ...

    async def lead(self, source: str, *, holder: str, lease_s: float, every_s: float | None = None) -> bool:
        """Take the source for `lease_s` seconds; False while another holder has it.

        With `every_s` also where its last run began less than that ago, or failed a moment ago.
        """
        ...

    async def renew(self, source: str, *, holder: str, lease_s: float) -> bool:
        """Keep it for `lease_s` more seconds; False where it was lost."""
        ...

    async def finish(self, source: str, *, holder: str, report: Mapping[str, Any], succeeded: bool) -> None:
        """Give it back, with what the run did. Does nothing where it was lost."""
        ...

    async def runs(self) -> Sequence[Run]: ...
