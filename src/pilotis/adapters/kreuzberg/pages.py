"""Where each page begins in text that was laid out anew: by finding the page's words in it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

_WORD = re.compile(r"[^\W_]+")
_PROBE = 32
_SHORTEST_PROBE = 8
_STEP = 6
_PROBES = 40
_MAX_LOST = 0.34


def page_starts(text: str, pages: Sequence[str]) -> tuple[int, ...] | None:
    """Offset in `text` of each page's first character, or None where too many pages cannot be found in it.

    Both sides are compared by their letters and digits only, so spacing, line joins, headings and table borders do not matter.
    A page without text, or one that is not found, begins where the next one does.
    """
    matches = list(_WORD.finditer(text))
    words = [match[0] for match in matches]
    ends = list(accumulate(map(len, words)))
    flow = "".join(words)
    starts: list[int | None] = []
    position = lost = written = 0
    for page in pages:
        letters = "".join(_WORD.findall(page))
        found = _find(flow, letters, position) if letters else None
        written += bool(letters)
        lost += bool(letters) and found is None
        starts.append(found)
        position = position if found is None else found + 1
    if not written or lost > _MAX_LOST * written:
        return None
    offsets: list[int] = []
    following = len(text)
    for start in reversed(starts):
        if start is not None:
            index = bisect_right(ends, start)
            following = _line_start(text, matches[index].start()) if index < len(matches) else len(text)
        offsets.append(following)
    offsets.reverse()
    first = next((index for index, start in enumerate(starts) if start is not None), 0)
    return (*([0] * (first + 1)), *offsets[first + 1 :])


def _line_start(text: str, offset: int) -> int:
    """Back over the markup a line begins with: "## ", "- ", "| ".

    Elsewhere than at the start of a line the offset stays.
    """
    start = offset
    while start > 0 and offset - start < _STEP and text[start - 1] != "\n" and not text[start - 1].isalnum():
        start -= 1
    return start if start == 0 or text[start - 1] == "\n" else offset


def _find(flow: str, letters: str, position: int) -> int | None:
    """Where `letters` begin in `flow` at or after `position`; a page's first words may be missing there (a running header)."""
    length = min(_PROBE, max(_SHORTEST_PROBE, len(letters) // 2), len(letters))
    horizon = position + 2 * len(letters) + 20_000
    for step in range(_PROBES):
        probe = letters[step * _STEP : step * _STEP + length]
        if len(probe) < length:
            break
        found = flow.find(probe, position, horizon)
        if found >= 0:
            skipped = step * _STEP
            while skipped and found > position and flow[found - 1] == letters[skipped - 1]:
                found, skipped = found - 1, skipped - 1
            return found
    return None
