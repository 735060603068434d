"""Answers without a model: the sentences that answer, verbatim and cited, or the plain statement that none does."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pilotis.rag.evidence import Evidence, Source, weigh
from pilotis.rag.question import Question

PASSAGES_READ = 6
"""How many passages are searched for sentences: time grows with it, and later ones seldom hold the best."""
MOST_SENTENCES, MOST_WORDS = 3, 60
"""Of one span."""
MOST_SPANS = 3
WORTH_SAYING = 0.25
"""Another sentence is shown where it is at least so likely to answer as the best one is."""

CALIBRATED = frozenset({"all-MiniLM-L6-v2"})
"""Embedding models whose cosines `_confidence` knows to read; those of another model lie elsewhere."""
ANSWERED_ABOVE = 0.33
"""Measured with all-MiniLM-L6-v2 on the questions that were not fitted. Above it lie 94 % (French 91 %) of those the documents answer,
under 1 % of those about another subject in another corpus, but 11 % (French 54 %) of those whose article was taken out of the
corpus, and 91 % of SQuAD 2.0's, which were written to look answerable: to tell these takes a model that reads."""

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


def extract(question: Question, passages: Sequence[Source], *, embedder: str = "") -> Extraction:
    """Choose the sentences of the first passages that answer `question`. `embedder` names the model of their `dense` scores."""
    read = passages[:PASSAGES_READ]
    evidence = weigh(question, read)
    ranked = sorted((e for e in evidence if not _is_markup(read[e.passage].text[e.start : e.end])), key=_score, reverse=True)
    if not ranked:
        return Extraction(spans=(), confidence=0.0)
    best = ranked[0]
    confidence = _confidence(best, read[best.passage], dense=embedder in CALIBRATED)
    if confidence < ANSWERED_ABOVE:
        return Extraction(spans=(), confidence=confidence)
    enough = _score(best) + math.log(WORTH_SAYING)
    chosen = [e for e in ranked[:MOST_SPANS] if _score(e) >= enough and (e.held or e is best)]
    return Extraction(spans=tuple(_spans(question, chosen, evidence, read)), confidence=confidence)


def not_found(language: str) -> str:
    """The sentence that says the documents do not answer."""
    return NOT_FOUND.get(language, NOT_FOUND["en"])


def is_not_found(text: str) -> bool:
    """Whether an answer, a model's included, says that and nothing else."""
    plain = " ".join(re.sub(r"\[\d+\]", " ", text).casefold().split()).strip(" .!\"'«»*")
    return plain in {sentence.casefold().rstrip(".") for sentence in NOT_FOUND.values()}


def shown(source: str) -> str:
    """A stretch of Markdown as plain text on one line. Marks like `[3]` go too, save in code: they would pass for citations."""
    text = source
    for pattern, kept in _MARKUP:
        text = pattern.sub(kept, text)
    return " ".join(text.split())


def _score(evidence: Evidence) -> float:
    """Log-odds against the other sentences, fitted (listwise softmax) on 1 000 questions of SQuAD 2.0 and PIAF, rounded."""
    return (
        2.0 * evidence.own
        + 1.7 * evidence.near
        + 1.5 * evidence.around
        + 1.7 * evidence.together
        + 1.2 * evidence.asked
        + 2.7 * evidence.rank
        + 2.3 * evidence.own * evidence.rank
        + 2.0 / (1 + evidence.passage)
    )


def _confidence(best: Evidence, passage: Source, *, dense: bool) -> float:
    """Probability that the best sentence answers: a logistic regression on answerable questions against unanswerable ones.

    The lexical score is no part of it: it grows with the size of the index.
    """
    if dense and passage.dense > 0:
        odds = -4.8 + 1.6 * best.own + 2.1 * best.around + 0.5 * best.together + 6.9 * passage.dense
    else:
        odds = -2.0 + 2.5 * best.own + 2.2 * best.around + best.together
    return 1 / (1 + math.exp(-odds))


def _spans(question: Question, chosen: Sequence[Evidence], evidence: Sequence[Evidence], read: Sequence[Source]) -> list[Span]:
    """Each chosen sentence with the neighbours it needs, best first; those that touch become one span while it stays short."""
    sentence = {(e.passage, e.position): e for e in evidence}
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
        start, end = _window(text, sentence[passage, group[0]].start, sentence[passage, group[-1]].end, question)
        spans.append(Span(n=passage + 1, start=start, end=end, shown=shown(text[start:end])))
    first_said = {span.shown.casefold(): span for span in reversed(spans) if span.shown}
    return [span for span in spans if first_said.get(span.shown.casefold()) is span]


def _widen(position: int, lines: Mapping[int, Evidence], text: str) -> range:
    """A sentence that points back takes the one before along; one that announces, or asks, takes what follows, a list's items too."""
    first = last = position
    here = text[lines[position].start : lines[position].end]
    before = lines.get(first - 1)
    if before and _POINTS_BACK.match(here) and not _is_markup(text[before.start : before.end]):
        first -= _is_short(text, before, lines[last])
    announces = bool(_ANNOUNCES.search(here))
    while announces and (after := lines.get(last + 1)):
        following = text[after.start : after.end]
        if (
            _is_markup(following)
            or not _is_short(text, lines[first], after)
            or (last > position and not _ITEM.match(following))
        ):
            break
        last += 1
    return range(first, last + 1)


def _is_short(text: str, first: Evidence, last: Evidence) -> bool:
    sentences_taken = last.position - first.position + 1
    return sentences_taken <= MOST_SENTENCES and len(text[first.start : last.end].split()) <= MOST_WORDS


def _window(text: str, start: int, end: int, question: Question) -> tuple[int, int]:
    """The whole stretch, or of an overlong one (a table, a block of code) the clauses where most of the question's words stand."""
    words = [match.span() for match in re.finditer(r"\S+", text[start:end])]
    if len(words) <= MOST_WORDS:
        return start, end
    asked = {word[:5] for word in re.findall(r"\w{3,}", question.normalised)}
    holds = [{word[:5] for word in re.findall(r"\w{3,}", text[start + a : start + b].casefold())} & asked for a, b in words]
    begins = [0] + [n for n in range(1, len(words) - MOST_WORDS + 1) if _begins_clause(text, start + words[n][0])]
    at = max(begins, key=lambda n: (len(frozenset().union(*holds[n : n + MOST_WORDS])), -n))
    return start + words[at][0], start + words[min(at + MOST_WORDS, len(words)) - 1][1]


def _begins_clause(text: str, position: int) -> bool:
    gap = text[max(0, position - 100) : position]
    return "\n" in gap[len(gap.rstrip()) :] or gap.rstrip()[-1:] in {";", ":", ","}


def _is_markup(text: str) -> bool:
    """A heading, front matter, a rule, a table's frame: nothing to answer with."""
    return text.startswith(("#", "---")) or not any(character.isalnum() for character in text)


_POINTS_BACK = re.compile(
    r"(?:He|She|It|They|This|These|That|Those|His|Her|Its|Their|Such|Il|Elle|Ils|Elles|Ce|Cela|Ceci|C['’]|Cette|Ces|Celui-ci|Celle-ci)\b"
)
_ITEM = re.compile(r"(?:[-*+•] |\d{1,3}[.)] )")
_ANNOUNCES = re.compile(r"[:?]\W*\Z")
_TAGS = (
    "a|abbr|b|blockquote|br|center|code|dd|details|div|dl|dt|em|figcaption|figure|font|h[1-6]|hr|i|img|kbd|li|mark|ol|p|pre|section|"
    "small|span|strong|sub|summary|sup|table|tbody|td|th|thead|tr|u|ul"
)
"""What is left of other things between angle brackets may be the point: `ingest <path>`."""
_MARKUP: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(```.*?(?:```|\Z)|`[^`\n]*`)|\[\^?\d+(?:[,;\s]+\d+)*\]", re.DOTALL), r"\1"),
    (re.compile(r"^[ \t]*(?:`{3,}|~{3,}).*$", re.MULTILINE), " "),
    (re.compile(r"^[ \t]*(?:/{3,}|:{3,}).*$", re.MULTILINE), " "),
    (re.compile(rf"<!--.*?-->|</?(?:{_TAGS})(?:\s[^<>]{{0,300}})?/?>", re.DOTALL | re.IGNORECASE), " "),
    (re.compile(r"!\[([^\]\n]*)\]\([^)\n]*\)|(?<!!)\[([^\]\n]+)\]\([^)\n]*\)"), r"\1\2"),
    (re.compile(r"^[ \t]*(?:[-*+•] |#{1,6} |> ?|\|)", re.MULTILINE), " "),
    (re.compile(r"\|?[ \t]*:?-{3,}:?[ \t]*\|[-:| \t]*|\|[ \t]*$", re.MULTILINE), " "),
    (re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1"), r"\2"),
    (re.compile(r"(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])|(?<!\w)_(?=\S)([^_\n]+?)(?<=\S)_(?!\w)"), r"\1\2"),
    (re.compile(r"`([^`\n]+)`"), r"\1"),
)
