"""The split in the API processes themselves: no infrastructure, for releases that change settings, prompts or the index."""

from __future__ import annotations

from collections.abc import Sequence

from pilotis.ports.releases import Arm, Arms, Seen, Split, Splits

LIVE_S = 3.0
"""A process that has been silent for so long is gone: each reports every second."""


class SplitRouter:
    """See `ports.releases.TrafficRouter`. What is set is a row that every process follows; what is read is what all of them say."""

    name = "split"

    def __init__(self, splits: Splits) -> None:
        self._splits = splits

    async def set(self, arms: Arms, weight: int) -> None:
        await self._splits.want(Split(stable=arms.stable, candidate=arms.candidate, weight=weight))

    async def read(self, arms: Arms) -> int | None:
        shares = {_share(one.split, arms) for one in await self._following()}
        return shares.pop() if len(shares) == 1 else None

    async def healthy(self, arms: Arms, arm: Arm) -> bool:
        """Every process serves both arms, once it has made the candidate's parts; one that cannot keeps the split of before."""
        following = await self._following()
        wanted = await self._splits.wanted()
        if arm == "stable" or wanted is None or wanted.candidate != arms.candidate:
            return bool(following)
        return bool(following) and all(one.split == wanted for one in following)

    async def drained(self, arms: Arms) -> bool:
        return not any(one.inside.get(arms.candidate) for one in await self._following())

    async def _following(self) -> Sequence[Seen]:
        return [one for one in await self._splits.seen(within_s=LIVE_S) if one.release is None]


def _share(split: Split | None, arms: Arms) -> int | None:
    """The candidate's part of what one process has in force; None where that is about other releases."""
    if split is None:
        return None
    if split.stable == arms.candidate and split.candidate in {None, arms.stable}:
        return 100 - split.weight
    if split.stable != arms.stable:
        return None
    if split.candidate == arms.candidate:
        return split.weight
    return 0 if split.candidate is None or split.weight == 0 else None
