"""What a source lists against what it brought before: what to read, and what is gone. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pilotis.derive.origin import Origin
from pilotis.ports import Item, Known, Unlisted

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class Listing:
    """What one walk through a source found."""

    items: dict[str, Item] = field(default_factory=dict)
    unlisted: list[Unlisted] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Comparison:
    """What there is to do. `known` and `gone` are by key, of the place (business unit and collection) the source brings to now."""

    known: dict[str, Known]
    to_read: list[Item]
    """New ones first, then those that were looked at longest ago: a run that is cut short goes on where it ended."""
    unchanged: list[Known]
    gone: dict[str, Known]
    elsewhere: list[Known]
    """Brought to another place before the contract changed."""
    by_digest: dict[str, list[str]]
    """SHA-256 -> the gone keys that had these bytes: what has them now was moved."""

    def lost(self) -> list[Known]:
        """What is gone and was not moved."""
        return [*self.gone.values(), *self.elsewhere]

    def take_gone(self, sha256: str) -> Known | None:
        """One that is gone and had these bytes; it counts as gone no more."""
        keys = self.by_digest.get(sha256, [])
        while keys:
            if found := self.gone.pop(keys.pop(), None):
                return found
        return None

    def give_back(self, known: Known) -> None:
        """It could not be moved."""
        self.gone[known.key] = known


def compare(listing: Listing, brought: Sequence[Known], origin: Origin, *, full: bool) -> Comparison:
    """With `full` all is read again, validators or not."""
    here = {known.key: known for known in brought if (known.bu, known.collection) == (origin.bu, origin.collection)}
    prefixes = tuple(part.prefix for part in listing.unlisted)
    missing = {
        key: known for key, known in here.items() if key not in listing.items and not (prefixes and key.startswith(prefixes))
    }
    read, unchanged = [], []
    for key, item in listing.items.items():
        known = here.get(key)
        same = known and known.document_id and known.validator and known.validator == item.validator and not full
        if known and same:
            unchanged.append(known)
        else:
            read.append(item)
    by_digest: dict[str, list[str]] = {}
    for key, known in missing.items():
        if known.sha256 and known.document_id:
            by_digest.setdefault(known.sha256, []).append(key)
    return Comparison(
        known=here,
        to_read=sorted(read, key=lambda item: _turn(item, here)),
        unchanged=unchanged,
        gone=missing,
        elsewhere=[known for known in brought if (known.bu, known.collection) != (origin.bu, origin.collection)],
        by_digest=by_digest,
    )


def held_because(*, lost: int, had: int, listed: int, incomplete: str | None, allowed: bool) -> str | None:
    """Why `lost` documents of `had` are not deleted, where they are not.

    A run that did not see or compare everything never deletes. Otherwise a source that is suddenly empty, or lacks more than half of
    what it brought, is more often a disk that is not mounted than a decision: somebody has to say that it is one.
    """
    if not lost:
        return None
    if incomplete:
        return incomplete
    if allowed:
        return None
    if not listed:
        return f"the source lists nothing any more, and brought {had} before"
    if lost * 2 > had:
        return f"{lost} of the {had} it brought are gone, which is more than half"
    return None


def with_document(brought: Collection[Known]) -> int:
    return sum(known.document_id is not None for known in brought)


def _turn(item: Item, known: Mapping[str, Known]) -> tuple[datetime, str]:
    before = known.get(item.key)
    return (before.seen_at or _NEVER) if before and before.document_id else _NEVER, item.key
