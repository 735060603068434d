"""How a folder differs from what the contract says should be in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

What = Literal["missing", "edited", "outdated", "foreign", "left over"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One file that is not as it should be.

    "edited" was changed since it was rendered; "outdated" is as it was rendered, from another contract or version; "foreign" was never
    rendered and stands where a rendered file belongs; "left over" is rendered no more.
    """

    path: str
    what: What


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is on disk at one path: the SHA-256 (hex) of the file that is there, None where none is, and the one it was rendered with."""

    there: str | None
    rendered: str | None


def compare(wanted: Mapping[str, str], found: Mapping[str, Found]) -> tuple[Drift, ...]:
    """The drift of every path. `wanted` has the SHA-256 of each file; `found` has every path of it and every one rendered before."""
    drifts: list[Drift] = []
    for path, on_disk in sorted(found.items()):
        what: What | None = None
        if path not in wanted:
            what = None if on_disk.there is None else "left over"
        elif on_disk.there is None:
            what = "missing"
        elif on_disk.there != wanted[path]:
            what = _changed(on_disk)
        if what is not None:
            drifts.append(Drift(path=path, what=what))
    return tuple(drifts)


def _changed(on_disk: Found) -> What:
    if on_disk.rendered is None:
        return "foreign"
    return "outdated" if on_disk.there == on_disk.rendered else "edited"
