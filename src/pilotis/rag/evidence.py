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

ASKING = frozenset("mani much kind type exampl tell give explain describ list dit expliqu decr exempl sort".split())
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
    alike: float
    """Share of the question's words that it holds in another form only: derived (founder, foundation) or misspelt by one letter."""
    names: float
    """Share of the question's names and numbers that its passage holds, title and headings included; 1 where it asks about none."""
    weight: float
    """How much the whole passage holds, in words as rare as one found nowhere: two rare words tell more than one that is all."""
    asked: float
    """1 where it holds something new of the kind asked for (a date, a number, a name), 0 where not, 1/2 where no kind is known."""
    rank: float
    """Fused score of its passage over the best one's; by place alone where a reranker's scores are all below 0."""


def weigh(question: Question, passages: Sequence[Source]) -> list[Evidence]:
    """Evidence of every sentence, passage by passage."""
    read = [_Read(passage, question) for passage in passages]
    for text in read:
        text.look_alike()
    rarity = _rarity(read)
    rarest = math.log(1 + 2 * (sum(len(text.spans) for text in read) + ELSEWHERE + 0.5))
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
        weight = sum(rarity[term] for term in text.everything) / rarest
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
                    alike=text.alike(position),
                    names=text.names,
                    weight=weight,
                    asked=holds(text.source.text[start:end]) if near else 0.0,
                    rank=max(0.0, text.source.score) / best if best > 0 else 1 / (1 + number),
                )
            )
    return found


class _Read:
    """A passage cut into sentences and words, beside the question's words by the rules of the passage's language."""

    def __init__(self, source: Source, question: Question) -> None:
        self.source = source
        asked = [term for term in terms(question.text, source.language, asked_in=question.language) if term not in ASKING]
        self.wanted = frozenset(asked)
        self.pairs = set(pairwise(asked))
        self.spans = sentences(source.text, source.language)
        self.terms = [terms(source.text[start:end], source.language) for start, end in self.spans]
        self.held = [self.wanted.intersection(words) for words in self.terms]
        self._forms: dict[str, frozenset[str]] = {}
        self._names = question_names(question)

    def look_alike(self) -> None:
        """Find, for each word of the question, what the passage holds that differs from it by its ending or by a letter."""
        families: dict[str, list[str]] = {}
        for word in set().union(*self.terms):
            families.setdefault(word[:_SAME_BEGINNING], []).append(word)
        for term in self.wanted:
            forms = frozenset(
                word for word in families.get(term[:_SAME_BEGINNING], ()) if word != term and _is_alike(word, term)
            )
            if forms:
                self._forms[term] = forms

    @cached_property
    def names(self) -> float:
        if not self._names:
            return 1.0
        text = " ".join((self.source.title or "", *self.source.headings, self.source.text)).casefold()
        return sum(name in text for name in self._names) / len(self._names)

    def alike(self, position: int) -> float:
        found = [
            term
            for term, forms in self._forms.items()
            if term not in self.held[position] and not forms.isdisjoint(self.terms[position])
        ]
        return len(found) / len(self.wanted) if found else 0.0

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


def question_names(question: Question) -> frozenset[str]:
    """The beginnings of the question's names and numbers, folded; its first word is a capital for another reason."""
    return frozenset(match[0].casefold()[:_NAME_BEGINNING] for match in _ASKED_NAME.finditer(question.text))


def _is_alike(word: str, term: str) -> bool:
    """Whether two stems that begin alike share most of their letters, or differ by one letter, put, taken, changed or swapped."""
    longest = max(len(word), len(term))
    same = next((n for n, (a, b) in enumerate(zip(word, term, strict=False)) if a != b), min(len(word), len(term)))
    if same >= max(5, 0.7 * longest):
        return True
    if longest - min(len(word), len(term)) > 1 or min(len(word), len(term)) < 5:
        return False
    word, term = word[same:], term[same:]
    return word[1:] == term[1:] or word[1:] == term or word == term[1:] or (word[:2] == term[1::-1] and word[2:] == term[2:])


_SAME_BEGINNING, _NAME_BEGINNING = 3, 6
_ASKED_NAME = re.compile(r"(?<!^)(?<![.!?] )\b[A-ZÀ-ÖØ-Þ][\w-]{2,}|\b\d{2,}\b")
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
_WHAT = r"\b(?:what|which|quel(?:le)?s?)(?: (?:is|was|are|were|est|était|sont|étaient|fut))?(?: (?:the|le|la|les)\b| l['’])? ?(?:\w+ )?"
"""Up to the noun that tells the kind: "quelle est la date", "in which large city"."""


def _asks(words: str, *nouns: str) -> re.Pattern[str]:
    return re.compile(rf"{words}|{_WHAT}(?:{'|'.join(' '.join(nouns).split())})\b")


_KINDS: tuple[tuple[re.Pattern[str], re.Pattern[str]], ...] = (
    (
        _asks(
            r"\bwhen\b|\bquand\b|\bdepuis combien\b",
            "years? dates? days? months? century decades? time",
            "années? ans? jours? mois siècles? heures? décennies? époque période",
        ),
        _DATE,
    ),
    (
        _asks(
            r"\bhow (?:many|much|long|far|old|tall|big|large|fast|high|often)\b|\bcombien\b",
            "percentage number percent amount price cost size population age height length",
            "pourcentage nombre prix taille montant âge superficie part distance durée hauteur longueur",
        ),
        _NUMBER,
    ),
    (
        _asks(
            r"\bwho(?:m|se)?\b|^(?:à |a |de |par |avec |chez |contre )?qui\b|\bqui (?:est|était|sont|a|ont|fut)\b|\bcomment s['’]appel",
            "person king queen president author artist scientist team company",
            "roi reine président auteur artiste homme femme équipe nom entreprise acteur réalisateur joueur",
        ),
        _NAME,
    ),
    (
        _asks(
            r"\bwhere\b|\boù\b|^(?:d['’])?ou\b",
            "city country countries state place region town continent river",
            "villes? pays lieux? région endroit département état capitale île",
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
