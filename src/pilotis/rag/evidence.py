"""How much a sentence speaks to a question, as a handful of numbers between 0 and 1.

The words a question shares with a sentence weigh by how rare they are among the sentences read: a name counts for more than a verb.
What a sentence lacks may stand beside it or in its headings, and words that stand together in both say more than the same words apart.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Protocol

from pilotis.rag.lexical import terms
from pilotis.rag.question import Question
from pilotis.rag.sentence import sentences

ELSEWHERE = 20
"""Sentences imagined that hold none of the words: in two sentences about one thing its name is not yet common."""

_ASKING = frozenset("mani much kind type exampl tell give explain describ list dit expliqu decr exempl sort".split())
"""Stems that say how to answer rather than about what."""


class Source(Protocol):
    """What is read of a passage; `ports.Hit` is one."""

    @property
    def text(self) -> str: ...
    @property
    def language(self) -> str: ...
    @property
    def title(self) -> str | None: ...
    @property
    def headings(self) -> tuple[str, ...]: ...
    @property
    def score(self) -> float: ...
    @property
    def dense(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One sentence and what speaks for it."""

    passage: int
    """Position of its passage, from 0."""
    position: int
    """Position in its passage, from 0."""
    start: int
    end: int
    """Where it stands in the passage's text."""
    held: frozenset[str]
    """Words of the question that it holds."""
    own: float
    """Share of the question's words that it holds, by rarity."""
    near: float
    """Share that it holds together with the sentences before and after."""
    around: float
    """Share that its whole passage holds, title and headings included."""
    together: float
    """Share of the question's pairs of neighbouring words that stand side by side in it."""
    asked: float
    """1 where it holds something new of the kind asked for (a date, a number, a name), 0 where not, 1/2 where no kind is known."""
    rank: float
    """Fused score of its passage over the best one's; by place alone where a reranker's scores are all below 0."""


def weigh(question: Question, passages: Sequence[Source]) -> list[Evidence]:
    """Evidence of every sentence, passage by passage."""
    read = [_Read(passage, question) for passage in passages]
    rarity = _rarity(read)
    best = max((passage.score for passage in passages), default=0.0)
    holds = _kind_asked(question)

    shares: dict[tuple[str, frozenset[str]], float] = {}

    def share(text: _Read, held: frozenset[str]) -> float:
        if not held:
            return 0.0
        key = (text.source.language, held)
        if key not in shares:
            shares[key] = sum(rarity[term] for term in held) / sum(rarity[term] for term in text.wanted)
        return shares[key]

    found: list[Evidence] = []
    for number, text in enumerate(read):
        around = share(text, text.everything)
        for position, (start, end) in enumerate(text.spans):
            near = share(text, frozenset().union(*text.held[max(0, position - 1) : position + 2]))
            found.append(
                Evidence(
                    passage=number,
                    position=position,
                    start=start,
                    end=end,
                    held=text.held[position],
                    own=share(text, text.held[position]),
                    near=near,
                    around=around,
                    together=text.together(position),
                    asked=holds(text.source.text[start:end]) if near else 0.0,
                    rank=max(0.0, text.source.score) / best if best > 0 else 1 / (1 + number),
                )
            )
    return found


class _Read:
    """A passage cut into sentences and words, beside the question's words by the rules of the passage's language."""

    def __init__(self, source: Source, question: Question) -> None:
        self.source = source
        asked = [term for term in terms(question.text, source.language, asked_in=question.language) if term not in _ASKING]
        self.wanted = frozenset(asked)
        self.pairs = set(pairwise(asked))
        self.spans = sentences(source.text, source.language)
        self.terms = [terms(source.text[start:end], source.language) for start, end in self.spans]
        self.held = [self.wanted.intersection(words) for words in self.terms]

    @cached_property
    def everything(self) -> frozenset[str]:
        heading = terms(" ".join((self.source.title or "", *self.source.headings)), self.source.language)
        return self.wanted.intersection(heading).union(*self.held)

    def together(self, position: int) -> float:
        if len(self.held[position]) < 2:
            return 0.0
        return len(self.pairs.intersection(pairwise(self.terms[position]))) / max(1, len(self.pairs))


def _rarity(read: Sequence[_Read]) -> dict[str, float]:
    """Inverse sentence frequency of each word of the question, as BM25 counts it; a word nowhere found is the rarest."""
    sentences_read = sum(len(text.held) for text in read) + ELSEWHERE
    counts = Counter(term for text in read for held in text.held for term in held)
    wanted = {term for text in read for term in text.wanted}
    return {term: math.log(1 + (sentences_read - counts[term] + 0.5) / (counts[term] + 0.5)) for term in wanted}


_NUMBER_WORDS = (
    "one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred thousand million billion half "
    "deux trois quatre cinq sept huit neuf dix onze douze quinze vingt trente quarante cinquante cent mille millions milliards moitié"
)
_MONTHS = (
    "january february march april may june july august september october november december "
    "janvier février mars avril mai juin juillet août septembre octobre novembre décembre"
)
_NUMBER = re.compile(rf"\d[\d.,\u202f\u00a0]*|\b(?:{'|'.join(_NUMBER_WORDS.split())})\b", re.IGNORECASE)
_DATE = re.compile(
    rf"\b\d{{1,2}}[:h]\d{{2}}\b|\b1\d{{3}}\b|\b20\d\d\b|\b\d+(?:st|nd|rd|th|e|ème)\b|\b(?:{'|'.join(_MONTHS.split())})\b|\bsiècle\b|\bcentury\b",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?<=[\w,(«\"’'] )[A-ZÀ-ÖØ-Þ][\w-]+|\b[A-ZÀ-ÖØ-Þ][\w-]+ [A-ZÀ-ÖØ-Þ][\w-]+")
_PLACE = re.compile(
    r"\b(?:in|at|near|from|to|of|on|à|au|aux|en|dans|de|vers|près|sur|d['’])\s?(?:the |la |le |les |l['’])?[A-ZÀ-ÖØ-Þ]\w+"
)
_KINDS: tuple[tuple[re.Pattern[str], re.Pattern[str]], ...] = (
    (
        re.compile(
            r"\bwhen\b|\b(?:what|which|quel(?:le)?s?) (?:\w+ )?(?:year|date|day|month|century|decade|time|année|an|jour|mois|siècle|heure|décennie)\b|\bquand\b|\bdepuis combien\b"
        ),
        _DATE,
    ),
    (
        re.compile(
            r"\bhow (?:many|much|long|far|old|tall|big|large|fast|high|often)\b|\b(?:what|quel(?:le)?) (?:\w+ )?(?:percentage|number|percent|amount|price|cost|size|population|age|pourcentage|nombre|prix|taille|montant|âge|superficie|part|distance|durée)\b|\bcombien\b"
        ),
        _NUMBER,
    ),
    (
        re.compile(
            r"\bwho(?:m|se)?\b|^(?:à |de |par |avec |chez )?qui\b|\bqui (?:est|était|sont|a|ont|fut)\b|\b(?:which|what|quel(?:le)?) (?:\w+ )?(?:person|king|queen|president|author|artist|scientist|roi|reine|président|auteur|artiste|homme|femme)\b|\bcomment s['’]appel"
        ),
        _NAME,
    ),
    (
        re.compile(
            r"\bwhere\b|\boù\b|\b(?:in |dans |en |à )?(?:what|which|quel(?:le)?s?) (?:\w+ )?(?:city|country|state|place|region|town|continent|ville|pays|lieu|région|endroit|département|état)\b"
        ),
        _PLACE,
    ),
)
"""A question of the first form asks for what the second finds. Spelt for the normalised question."""


def _kind_asked(question: Question) -> Callable[[str], float]:
    known = set(re.findall(r"\w+", question.normalised))
    for form, thing in _KINDS:
        if form.search(question.normalised):
            return lambda text: float(
                any(not known.issuperset(re.findall(r"\w+", m[0].casefold())) for m in thing.finditer(text))
            )
    return lambda _: 0.5
