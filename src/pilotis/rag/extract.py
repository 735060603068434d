"""Answers without a model: the sentences that answer, verbatim and cited, or the plain statement that none does."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pilotis.rag.evidence import Evidence, Source, weigh
from pilotis.rag.question import Question
from pilotis.rag.quote import MOST_WORDS, is_table_head, quote

PASSAGES_READ = 6
"""How many passages are searched for sentences: time grows with it, and later ones seldom hold the best."""
MOST_SENTENCES = 3
"""Of one span."""
MOST_SPANS = 3
SURE_ENOUGH = 0.8
"""Sentences are added until one of those shown answers with this probability, given that one of all does."""

CALIBRATED = frozenset({"all-MiniLM-L6-v2"})
"""Embedding models whose cosines `_confidence` knows to read; those of another model lie elsewhere."""
ANSWERED_ABOVE = 1 / 3
"""Set so that 95 % of the questions that the documents answer lie above it; `docs/benchmarks.md` says what else does."""

NOT_FOUND = {"en": "Not found in the documents.", "fr": "Pas trouvé dans les documents."}


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Sentences of passage `n` (from 1): `text[start:end]` is the source, `shown` the same without its markup."""

    n: int
    start: int
    end: int
    shown: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """What answers, best first; no spans where nothing does. `confidence` is the estimated probability that there is an answer."""

    spans: tuple[Span, ...]
    confidence: float


def extract(question: Question, passages: Sequence[Source], *, embedder: str = "", abstain: bool = True) -> Extraction:
    """Choose the sentences of the first passages that answer `question`. `embedder` names the model of their `dense` scores.

    Without `abstain` there are always some, save where no passage holds a sentence.
    """
    read = passages[:PASSAGES_READ]
    evidence = weigh(question, read)
    ranked = sorted((e for e in evidence if not _is_markup(read[e.passage].text, e.start, e.end)), key=_score, reverse=True)
    if not ranked:
        return Extraction(spans=(), confidence=0.0)
    best = ranked[0]
    confidence = _confidence(question, best, evidence, read, dense=embedder in CALIBRATED)
    if abstain and confidence < ANSWERED_ABOVE:
        return Extraction(spans=(), confidence=confidence)
    chosen = [e for e in _likely(ranked) if e.held or e is best]
    return Extraction(spans=tuple(_spans(question, chosen, evidence, read)), confidence=confidence)


def not_found(language: str) -> str:
    """The sentence that says the documents do not answer."""
    return NOT_FOUND.get(language, NOT_FOUND["en"])


def is_not_found(text: str) -> bool:
    """Whether an answer, a model's included, says that and nothing else."""
    plain = " ".join(re.sub(r"\[\d+\]", " ", text).casefold().split()).strip(" .!\"'«»*")
    return plain in {sentence.casefold().rstrip(".") for sentence in NOT_FOUND.values()}


def _likely(ranked: Sequence[Evidence]) -> Sequence[Evidence]:
    """The first few: as many as it takes to be sure enough that the answer is among them."""
    odds = [math.exp(_score(evidence) - _score(ranked[0])) for evidence in ranked]
    sure = 0.0
    for count, one in enumerate(odds[:MOST_SPANS], start=1):
        sure += one / sum(odds)
        if sure >= SURE_ENOUGH:
            return ranked[:count]
    return ranked[:MOST_SPANS]


def _score(evidence: Evidence) -> float:
    """Log-odds against the other sentences, fitted (listwise softmax) on halves of SQuAD 2.0 and PIAF, rounded."""
    return (
        3.9 * evidence.own
        + 1.0 * evidence.near
        + 0.5 * evidence.around
        + 0.3 * evidence.together
        + 1.3 * evidence.asked
        + 8.3 * evidence.rank
        + 1.8 * evidence.own * evidence.rank
        + 6.0 * evidence.alike
        + 1.1 * evidence.names
    )


def _confidence(
    question: Question, best: Evidence, evidence: Sequence[Evidence], read: Sequence[Source], *, dense: bool
) -> float:
    """Probability that the best sentence answers: five numbers, weighed by a logistic regression for the question's language.

    How near its passage is in meaning; how much any passage holds of the question while it is near; how much the sentence holds
    by itself, and of it side by side; whether the names asked about occur at all. Fitted on answerable questions of five sets
    against questions of one set asked of another, and of the same with their article taken out; halves were kept aside.
    The lexical score is no part of it, for it grows with the index. Of a model that is not `dense` to us only words count.
    """
    near = [max(0.0, passage.dense) for passage in read]
    if dense and near[best.passage] > 0:
        constant, meaning, together_near, own, together, names = _WEIGHTS[question.language == "en"]
        odds = (
            constant
            + meaning * near[best.passage]
            + together_near * max(one.weight * near[one.passage] for one in evidence)
            + own * best.own
            + together * best.together
            + names * max(one.names for one in evidence)
        )
    else:
        odds = -2.0 + 2.5 * best.own + 2.2 * best.around + best.together
    return 1 / (1 + math.exp(-odds))


_WEIGHTS = {
    True: (-9.75, 12.6, 2.75, 5.3, 2.6, 1.1),
    False: (-7.6, 7.6, 2.0, 3.3, 2.95, 2.55),
}
"""For a question in a language that the calibrated model knows, and for one in another: its cosines say less there, names more."""


def _spans(question: Question, chosen: Sequence[Evidence], evidence: Sequence[Evidence], read: Sequence[Source]) -> list[Span]:
    """Each chosen sentence with the neighbours it needs, best first; those that touch become one span while it stays short."""
    sentence = {(e.passage, e.position): e for e in evidence}
    asked = {word[:5] for word in re.findall(r"\w{3,}", question.normalised)}
    groups: list[range] = []
    owners: list[int] = []
    for best in chosen:
        text, passage = read[best.passage].text, best.passage
        taken = {position for group, owner in zip(groups, owners, strict=True) if owner == passage for position in group}
        if best.position in taken:
            continue
        lines = {position: e for (owner, position), e in sentence.items() if owner == passage and position not in taken}
        wide = _widen(best.position, lines, text)
        for at, group in enumerate(groups):
            joined = range(min(group.start, wide.start), max(group.stop, wide.stop))
            touch = owners[at] == passage and len(joined) == len(group) + len(wide)
            if touch and _is_short(text, sentence[passage, joined[0]], sentence[passage, joined[-1]]):
                groups[at] = joined
                break
        else:
            groups.append(wide)
            owners.append(passage)
    spans = []
    for group, passage in zip(groups, owners, strict=True):
        text = read[passage].text
        quoted = quote(text, sentence[passage, group[0]].start, sentence[passage, group[-1]].end, asked)
        spans.append(Span(n=passage + 1, start=quoted.start, end=quoted.end, shown=quoted.shown))
    first_said = {span.shown.casefold(): span for span in reversed(spans) if span.shown}
    return [span for span in spans if first_said.get(span.shown.casefold()) is span]


def _widen(position: int, lines: Mapping[int, Evidence], text: str) -> range:
    """A sentence that points back takes the one before along; one that announces, or asks, takes what follows, a list's items too."""
    first = last = position
    here = text[lines[position].start : lines[position].end]
    before = lines.get(first - 1)
    if before and _POINTS_BACK.match(here) and not _is_markup(text, before.start, before.end):
        first -= _is_short(text, before, lines[last])
    announces = bool(_ANNOUNCES.search(here))
    while announces and (after := lines.get(last + 1)):
        following = text[after.start : after.end]
        if (
            _is_markup(text, after.start, after.end)
            or not _is_short(text, lines[first], after)
            or (last > position and not _ITEM.match(following))
        ):
            break
        last += 1
    return range(first, last + 1)


def _is_short(text: str, first: Evidence, last: Evidence) -> bool:
    sentences_taken = last.position - first.position + 1
    return sentences_taken <= MOST_SENTENCES and len(text[first.start : last.end].split()) <= MOST_WORDS


def _is_markup(text: str, start: int, end: int) -> bool:
    """A heading, front matter, a rule, the head of a table: nothing to answer with."""
    line = text[start:end]
    return line.startswith(("#", "---")) or not any(map(str.isalnum, line)) or is_table_head(text, start, end)


_POINTS_BACK = re.compile(
    r"(?:He|She|It|They|This|These|That|Those|His|Her|Its|Their|Such|Il|Elle|Ils|Elles|Ce|Cela|Ceci|C['’]|Cette|Ces|Celui-ci|Celle-ci)\b"
)
_ITEM = re.compile(r"(?:[-*+•] |\d{1,3}[.)] )")
_ANNOUNCES = re.compile(r"[:?]\W*\Z")
