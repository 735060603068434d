"""From votes on answers to golden questions that a person may accept."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from pilotis.errors import Invalid, NotFound
from pilotis.ports.quality import Opinion
from pilotis.rag.golden import Expected, GoldenQuestion, line_of

LONGEST_QUOTE = 300


def no_answer(answer_id: str) -> NotFound:
    """The same for an answer that never was and for one of another business unit."""
    return NotFound(
        f"there is no answer {answer_id!r}", remedy="send the id of an answer of this business unit, as its 'id' field has it"
    )


def no_passage(opinion: Opinion) -> Invalid:
    """For a correct passage that is none of the business unit's."""
    return Invalid(
        f"there is no passage {opinion.passage_id!r}",
        remedy="send the 'passage_id' of a passage as an answer or a search shows it, or leave it out",
        code="unknown_passage",
    )


def candidates(opinions: Iterable[Opinion]) -> list[str]:
    """Lines of a golden set, all drafts: questions that came with the passage which is right, the latest word on each."""
    found: dict[str, str] = {}
    for opinion in opinions:
        if opinion.question is None or opinion.passage_id is None:
            continue
        question = " ".join(opinion.question.split())
        if question.casefold() in found:
            continue
        found[question.casefold()] = line_of(
            GoldenQuestion(
                id=f"feedback-{sha256(question.casefold().encode()).hexdigest()[:10]}",
                text=question,
                expected=(_expected(opinion),),
                tags=("feedback",),
            ),
            draft=True,
            note=_note(opinion),
        )
    return list(found.values())


def _expected(opinion: Opinion) -> Expected:
    if opinion.document is None or not opinion.excerpt:
        return Expected(document=opinion.document) if opinion.document else Expected(passage=opinion.passage_id)
    quote = opinion.excerpt[:LONGEST_QUOTE]
    if len(opinion.excerpt) > LONGEST_QUOTE:
        quote = quote.rsplit(maxsplit=1)[0]
    return Expected(document=opinion.document, quote=" ".join(quote.split()))


def _note(opinion: Opinion) -> str:
    said = f"voted {opinion.vote} on {opinion.at:%Y-%m-%d}, answer {opinion.answer_id}"
    return f"{said}: {opinion.comment}" if opinion.comment else said
