"""Golden sets: questions whose right passages or answers a person vouches for. One JSON object a line.

    {"id": "rotate", "question": "How do I rotate a key?", "passages": [{"document": "keys.md", "quote": "revoke the old one"}]}
    {"question": "How long may a question be?", "passages": ["answers.md"], "answers": ["4,000 characters"], "tags": ["limits"]}
    {"question": "Who won the cup?", "unanswerable": true}

A line with `"draft": true` counts once it says `"accepted": true` too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from typing import Any, NoReturn

from pilotis.errors import Invalid
from pilotis.rag.question import MAX_CHARACTERS

FIELDS = (
    "id",
    "question",
    "passages",
    "answers",
    "tags",
    "unanswerable",
    "collection",
    "draft",
    "accepted",
    "note",
)
EXPECTED_FIELDS = ("document", "quote", "passage", "grade")
MOST_GRADE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What is to be found: a document, the passage of it that holds `quote`, or the passage of an id."""

    document: str | None = None
    quote: str | None = None
    passage: str | None = None
    grade: int = 1
    """How much it is worth beside the others of its question."""

    def is_met(self, *, document: str, passage: str, text: str) -> bool:
        """Whether a passage is what is expected. Of a quotation that the cut went through, half in one piece is enough."""
        if self.passage is not None:
            return passage == self.passage
        return document == self.document and (self.quote is None or _holds(text, self.quote))


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenQuestion:
    """One question and what a good answer to it is."""

    id: str
    text: str
    expected: tuple[Expected, ...] = ()
    answers: tuple[str, ...] = ()
    """Any of them is right."""
    tags: tuple[str, ...] = ()
    unanswerable: bool = False
    """The right answer is that the documents do not say."""
    collection: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """A golden set. `digest` (SHA-256, hex) changes with whatever counts and with nothing else."""

    name: str
    questions: tuple[GoldenQuestion, ...]
    drafts: int
    """Lines that nobody has accepted yet: they do not count."""
    digest: str


def gains(ranked: Sequence[tuple[str, str, str]], expected: Sequence[Expected]) -> list[float]:
    """What each rank is worth. `ranked` are (document, passage id, text), best first.

    Each thing expected counts once, at the first passage that meets it; a passage that only meets what was found already takes no
    rank, and one that meets two things takes two.
    """
    missing = sorted(expected, key=lambda one: -one.grade)
    worth: list[float] = []
    for document, passage, text in ranked:
        met = [one for one in missing if one.is_met(document=document, passage=passage, text=text)]
        if met:
            worth += [float(one.grade) for one in met]
            missing = [one for one in missing if one not in met]
        elif not is_expected(document, passage, text, expected):
            worth.append(0.0)
    return worth


def is_expected(document: str, passage: str, text: str, expected: Sequence[Expected]) -> bool:
    """Whether a passage is among what is expected."""
    return any(one.is_met(document=document, passage=passage, text=text) for one in expected)


def parse(text: str, *, name: str) -> Golden:
    """Read a golden set; `name` is what faults are reported under, a file's.

    Raises Invalid, which names the line, the field and what to write instead.
    """
    found: list[GoldenQuestion] = []
    lines: dict[str, int] = {}
    drafts = 0
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if not line.strip():
            continue
        place = _Place(name, number)
        row = place.read(line)
        question = _question(row, place)
        if question.id in lines:
            place.fault(
                "id", f"{question.id!r} is the id of line {lines[question.id]} too", "give each question an id of its own"
            )
        lines[question.id] = number
        if place.flag(row, "draft") and not place.flag(row, "accepted"):
            drafts += 1
        else:
            found.append(question)
    if not found:
        what = f"{drafts} drafts and no accepted question" if drafts else "no question"
        remedy = 'read them and add "accepted": true to those that are right' if drafts else "write one JSON object a line"
        raise Invalid(f"{name} holds {what}", remedy=remedy, code="invalid_golden")
    return Golden(name=name, questions=tuple(found), drafts=drafts, digest=_digest(found))


def line_of(question: GoldenQuestion, *, draft: bool = False, note: str | None = None) -> str:
    """A question as a line of a golden set; `note` is for the reader and counts for nothing."""
    row: dict[str, Any] = {"id": question.id, "question": question.text}
    if question.expected:
        row["passages"] = [_row(one) for one in question.expected]
    for field, value in (("answers", question.answers), ("tags", question.tags)):
        if value:
            row[field] = list(value)
    if question.collection is not None:
        row["collection"] = question.collection
    if question.unanswerable:
        row["unanswerable"] = True
    if note:
        row["note"] = note
    if draft:
        row |= {"draft": True, "accepted": False}
    return json.dumps(row, ensure_ascii=False)


class _Place:
    """A line of a file, for reading its fields and for telling what is wrong with one."""

    def __init__(self, name: str, line: int) -> None:
        self._name, self._line = name, line

    def fault(self, field: str, what: str, remedy: str) -> NoReturn:
        where = f"{self._name}, line {self._line}" + (f", {field}" if field else "")
        raise Invalid(f"{where}: {what}", remedy=remedy, code="invalid_golden")

    def read(self, line: str) -> Mapping[str, Any]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            at = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            self.fault(
                "", f"no JSON{at}: {getattr(error, 'msg', error)}", "write one JSON object a line, without line breaks inside"
            )
        if not isinstance(row, dict):
            self.fault("", f"{_kind(row)} instead of an object", 'write {"question": "...", "passages": ["document.md"]}')
        self.known(row, FIELDS, "")
        return row

    def known(self, row: Mapping[str, Any], fields: Sequence[str], within: str) -> None:
        for field in row:
            if field not in fields:
                close = get_close_matches(field, fields, n=1)
                self.fault(
                    within,
                    f"{field!r} is no field of it",
                    f"did you mean {close[0]!r}?" if close else f"the fields are {', '.join(fields)}",
                )

    def text(self, row: Mapping[str, Any], field: str, *, within: str = "") -> str | None:
        value = row.get(field)
        return None if value is None else self.string(value, within + field)

    def string(self, value: Any, where: str) -> str:
        if not isinstance(value, str):
            self.fault(where, f"{_kind(value)} instead of a text", "put it between double quotes")
        if not value.strip():
            self.fault(where, "is empty", "write something, or leave the field out")
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            self.fault(where, "holds a NUL or half a surrogate pair, which no text can", "remove that character")
        return value

    def texts(self, row: Mapping[str, Any], field: str) -> tuple[str, ...]:
        value = row.get(field)
        if value is None:
            return ()
        given = [value] if isinstance(value, str) else value
        if not isinstance(given, list):
            self.fault(field, f"{_kind(value)} instead of a list of texts", f'write "{field}": ["..."]')
        return tuple(dict.fromkeys(self.string(one, f"{field}[{n}]") for n, one in enumerate(given)))

    def flag(self, row: Mapping[str, Any], field: str) -> bool:
        value = row.get(field, False)
        if not isinstance(value, bool):
            self.fault(field, f"{_kind(value)} instead of true or false", "write true or false, without quotes")
        return value


def _question(row: Mapping[str, Any], place: _Place) -> GoldenQuestion:
    text = place.text(row, "question")
    if text is None:
        place.fault("question", "is missing", 'write "question": "..."')
    if len(text) > MAX_CHARACTERS:
        place.fault("question", f"has {len(text):,} characters; the limit is {MAX_CHARACTERS:,}", "shorten it")
    given = row.get("passages")
    if given is not None and not isinstance(given, list):
        place.fault("passages", f"{_kind(given)} instead of a list", 'write "passages": ["document.md"]')
    question = GoldenQuestion(
        id=place.text(row, "id") or sha256(text.encode()).hexdigest()[:12],
        text=text,
        expected=tuple(dict.fromkeys(_expected(one, f"passages[{n}]", place) for n, one in enumerate(given or ()))),
        answers=place.texts(row, "answers"),
        tags=place.texts(row, "tags"),
        unanswerable=place.flag(row, "unanswerable"),
        collection=place.text(row, "collection"),
    )
    if question.unanswerable and (question.expected or question.answers):
        field = "passages" if question.expected else "answers"
        place.fault(field, "is given for a question said to be unanswerable", f"remove {field!r} or 'unanswerable'")
    if not (question.unanswerable or question.expected or question.answers):
        place.fault(
            "passages",
            "is missing, and so is every other way to judge an answer",
            'add "passages": ["document.md"], "answers": ["..."] or "unanswerable": true',
        )
    return question


def _expected(given: Any, where: str, place: _Place) -> Expected:
    if isinstance(given, str):
        return Expected(document=place.string(given, where))
    if not isinstance(given, dict):
        place.fault(
            where, f"{_kind(given)} instead of a document", 'write "document.md" or {"document": "document.md", "quote": "..."}'
        )
    place.known(given, EXPECTED_FIELDS, where)
    document, quote, passage = (place.text(given, field, within=f"{where}.") for field in ("document", "quote", "passage"))
    if (document is None) == (passage is None):
        what = "names neither a document nor a passage" if document is None else "names both a document and a passage"
        place.fault(where, what, 'write {"document": "name", "quote": "..."} or {"passage": "id"}')
    if quote is not None and document is None:
        place.fault(f"{where}.quote", "stands beside a passage's id", "name the document it is quoted from instead")
    grade = given.get("grade", 1)
    if not isinstance(grade, int) or isinstance(grade, bool) or not 1 <= grade <= MOST_GRADE:
        place.fault(f"{where}.grade", f"is {grade!r}", f"write a whole number from 1 to {MOST_GRADE}, or leave it out")
    return Expected(document=document, quote=quote, passage=passage, grade=grade)


def _row(expected: Expected) -> Any:
    row = {field: value for field in ("document", "quote", "passage") if (value := getattr(expected, field)) is not None}
    if expected.grade != 1:
        row["grade"] = expected.grade
    return expected.document if list(row) == ["document"] else row


def _holds(text: str, quote: str) -> bool:
    words, wanted = text.casefold().split(), quote.casefold().split()
    held, sought = f" {' '.join(words)} ", " ".join(wanted)
    if sought in held:
        return True
    # The document may have been cut inside the quotation: this passage then ends with its beginning, or begins with its end.
    return any(
        words[-size:] == wanted[:size] or words[:size] == wanted[-size:]
        for size in range(min(len(words), len(wanted)), (len(wanted) - 1) // 2, -1)
    )


def _digest(questions: Sequence[GoldenQuestion]) -> str:
    lines = sorted(line_of(question) for question in questions)
    return sha256("\n".join(lines).encode()).hexdigest()


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
    return "an object"
