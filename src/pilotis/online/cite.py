"""Every `[n]` of an answer is checked: it points at a passage the writer was given, or it goes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pilotis.online.events import Citation
from pilotis.online.write import Draft
from pilotis.ports import Hit

_MARK_OR_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|[ \t]*\[(\d{1,4}(?:\s*[,;]\s*\d{1,4})*)\](?!\()", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cited:
    """A text whose marks are all good, their citations in order of appearance, and the marks that were not."""

    text: str
    citations: tuple[Citation, ...]
    unknown: tuple[int, ...]


def cite(draft: Draft) -> Cited:
    """Check the marks of a finished draft. Extracted sentences cite their exact span, a model's marks the whole passage."""
    if draft.prompt is None:
        spans = tuple(_citation(span.n, draft.passages[span.n - 1], span.start, span.end) for span in draft.spans)
        return Cited(text=draft.text, citations=spans, unknown=())
    known: dict[int, Citation] = {}
    unknown: dict[int, None] = {}

    def check(mark: re.Match[str]) -> str:
        if mark[1] is None:
            return mark[0]
        numbers = [int(number) for number in re.findall(r"\d+", mark[1])]
        good = [n for n in numbers if 1 <= n <= len(draft.passages)]
        unknown.update(dict.fromkeys(n for n in numbers if n not in good))
        for n in good:
            passage = draft.passages[n - 1]
            known.setdefault(n, _citation(n, passage, 0, len(passage.text)))
        space = mark[0][: mark[0].index("[")]
        return space + "".join(f"[{n}]" for n in good) if good else ""

    text = _MARK_OR_CODE.sub(check, draft.text).strip()
    return Cited(text=text, citations=tuple(known.values()), unknown=tuple(unknown))


def _citation(n: int, hit: Hit, start: int, end: int) -> Citation:
    return Citation(
        n=n,
        passage_id=hit.passage_id,
        document_id=hit.document_id,
        document=hit.document,
        title=hit.title,
        page=hit.page,
        start=hit.start + start,
        end=hit.start + end,
        quote=hit.text[start:end],
    )
