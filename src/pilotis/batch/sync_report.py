"""What one synchronisation did, as it is shown and as it is stored."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

Fate = Literal["new", "changed", "moved", "deleted", "unchanged", "failed", "skipped", "kept"]
"""`kept`: gone from the source, and there before it had it. `skipped`: no document, or excluded by the contract."""
FATES: tuple[Fate, ...] = ("new", "changed", "moved", "deleted", "unchanged", "failed", "skipped", "kept")

MOST_NAMED = 100
"""As many names of each fate are told."""
LONGEST_TOLD = 500


@dataclass(slots=True)
class Report:
    """Filled while the run goes on; who shows progress reads it."""

    source: str
    dry_run: bool = False
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    listed: int = 0
    counts: dict[Fate, int] = field(default_factory=lambda: dict.fromkeys(FATES, 0))
    named: dict[Fate, list[tuple[str, str]]] = field(default_factory=dict)
    """By fate the first names, each with a remark: why it failed, where it was moved from."""
    held: int = 0
    """How many documents would be deleted and are not, for `held_because`."""
    held_because: str | None = None
    left: int = 0
    """How many items wait for the next run, because the time or the bytes of this one were up."""
    bytes: int = 0
    seconds: float = 0.0
    error: str | None = None
    """Why the run ended early, or did not begin."""
    unlisted: list[tuple[str, str]] = field(default_factory=list)
    """Parts that could not be listed, and why."""
    _began: float = field(default_factory=time.monotonic)

    def add(self, fate: Fate, key: str, remark: str = "") -> None:
        self.counts[fate] += 1
        named = self.named.setdefault(fate, [])
        if fate != "unchanged" and len(named) < MOST_NAMED:
            named.append((told(key), told(remark)))

    def end(self) -> None:
        self.seconds = round(time.monotonic() - self._began, 1)

    @property
    def compared(self) -> int:
        """How many of what was listed are dealt with."""
        return sum(self.counts[fate] for fate in ("new", "changed", "moved", "unchanged", "failed")) + self.left

    @property
    def is_clean(self) -> bool:
        """Whether nothing needs a person."""
        return not (self.error or self.counts["failed"] or self.held or self.unlisted)

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "source": self.source,
            "dry_run": self.dry_run,
            "began_at": self.began_at.isoformat(),
            "seconds": self.seconds,
            "listed": self.listed,
            **{str(fate): count for fate, count in self.counts.items()},
            "held": self.held,
            "held_because": self.held_because,
            "left": self.left,
            "bytes": self.bytes,
            "error": self.error,
            "unlisted": [{"prefix": prefix, "reason": reason} for prefix, reason in self.unlisted],
            "names": {
                fate: [{"name": name, "remark": remark} if remark else {"name": name} for name, remark in named]
                for fate, named in self.named.items()
                if named
            },
        }


def told(text: str) -> str:
    """As much of it as can be stored and shown: names come from strangers."""
    shown = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    return shown if len(shown) <= LONGEST_TOLD else f"{shown[:LONGEST_TOLD]}…"
