"""Golden sets: what is read, and how each fault is told."""

from __future__ import annotations

import json

import pytest

from pilotis.errors import Invalid
from pilotis.rag.golden import Expected, GoldenQuestion, line_of, parse

GOOD = """\ufeff{"id": "rotate", "question": "How do I rotate a key?", "passages": ["keys.md", {"document": "b.md", "quote": "Revoke it", "grade": 2}]}

{"question": "How long?", "passages": [{"passage": "p1"}], "answers": "4,000 characters", "tags": ["limits", "en"], "collection": "c"}
{"question": "Who won?", "unanswerable": true}
{"question": "A draft?", "passages": ["a"], "draft": true}
{"question": "Accepted?", "answers": ["yes"], "draft": true, "accepted": true}
"""


def test_reads_what_its_page_shows() -> None:
    golden = parse(GOOD, name="g.jsonl")
    first, second, third, fourth = golden.questions
    assert first == GoldenQuestion(
        id="rotate",
        text="How do I rotate a key?",
        expected=(Expected(document="keys.md"), Expected(document="b.md", quote="Revoke it", grade=2)),
    )
    assert (second.answers, second.tags, second.collection) == (("4,000 characters",), ("limits", "en"), "c")
    assert third.unanswerable
    assert fourth.text == "Accepted?"
    assert golden.drafts == 1


def test_the_digest_is_of_what_counts() -> None:
    def digest(text: str) -> str:
        return parse(text, name="x").digest

    lines = GOOD.removeprefix("\ufeff").splitlines()
    assert digest(GOOD) == digest("\n".join(reversed(lines))) == digest(GOOD.replace('"A draft?"', '"Another draft?"'))
    assert digest(GOOD) != digest(GOOD.replace('"grade": 2', '"grade": 3'))
    assert digest(GOOD) != digest(GOOD.replace("Who won?", "Who lost?"))


def test_a_line_says_the_same_again() -> None:
    for question in parse(GOOD, name="x").questions:
        assert parse(line_of(question), name="y").questions == (question,)
    (question,) = parse('{"question": "q", "passages": ["a"]}', name="z").questions
    drafted = json.loads(line_of(question, draft=True, note="from a heading"))
    assert drafted["draft"] is True
    assert drafted["accepted"] is False


@pytest.mark.parametrize(
    ("line", "told", "remedy"),
    [
        ('{"question": "q"', "g.jsonl, line 2: no JSON at column 17", "one JSON object a line"),
        ("[1]", "line 2: a list instead of an object", "question"),
        ('{"passages": ["a"]}', "line 2, question: is missing", "question"),
        ('{"question": "  ", "passages": ["a"]}', "line 2, question: is empty", "write something"),
        ('{"question": 3, "passages": ["a"]}', "line 2, question: a number instead of a text", "quotes"),
        ('{"question": "q"}', "line 2, passages: is missing", "unanswerable"),
        ('{"question": "q", "passage": ["a"]}', "'passage' is no field", "'passages'"),
        ('{"question": "q", "passages": "a"}', "line 2, passages: a text instead of a list", '["document.md"]'),
        ('{"question": "q", "passages": [7]}', "passages[0]: a number instead of a document", "document.md"),
        ('{"question": "q", "passages": [{"quote": "x"}]}', "passages[0]: names neither", "name"),
        ('{"question": "q", "passages": [{"document": "a", "passage": "b"}]}', "names both", "name"),
        ('{"question": "q", "passages": [{"passage": "b", "quote": "x"}]}', "passages[0].quote: stands beside", "document"),
        ('{"question": "q", "passages": [{"documents": "a"}]}', "passages[0]: 'documents' is no field", "'document'"),
        ('{"question": "q", "passages": [{"document": "a", "grade": 0}]}', "passages[0].grade: is 0", "1 to 100"),
        ('{"question": "q", "passages": [{"document": "a", "grade": true}]}', "passages[0].grade: is True", "1 to 100"),
        ('{"question": "q", "answers": [null]}', "answers[0]: null instead of a text", "quotes"),
        ('{"question": "q", "answers": {"a": 1}}', "answers: an object instead of a list", "answers"),
        ('{"question": "q", "unanswerable": "yes"}', "unanswerable: a text instead of true or false", "without quotes"),
        ('{"question": "q", "unanswerable": true, "answers": ["x"]}', "answers: is given for a question", "remove"),
        ('{"question": "q\\u0000", "passages": ["a"]}', "question: holds a NUL", "remove"),
        ('{"question": "q\\ud800", "passages": ["a"]}', "question: holds a NUL or half", "remove"),
        ('{"id": "one", "question": "q", "passages": ["a"]}', "id: 'one' is the id of line 1 too", "an id of its own"),
        (json.dumps({"question": "q" * 4001, "passages": ["a"]}), "question: has 4,001 characters", "shorten"),
        ("[" * 100_000, "line 2: ", "JSON"),
    ],
)
def test_faults_name_line_field_and_remedy(line: str, told: str, remedy: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse('{"id": "one", "question": "first", "passages": ["a"]}\n' + line, name="g.jsonl")
    assert caught.value.message.startswith("g.jsonl, line 2")
    assert told in caught.value.message
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "told"), [("", "no question"), ('{"question": "q", "passages": ["a"], "draft": true}', "1 drafts and no accepted")]
)
def test_nothing_to_ask(text: str, told: str) -> None:
    with pytest.raises(Invalid, match=told):
        parse(text, name="g.jsonl")


@pytest.mark.parametrize(
    ("text", "quote", "met"),
    [
        ("Create the new\n  key first, then revoke.", "create the NEW key", True),
        ("Create the new key first.", "the new keys", False),
        ("before it ends. Then one two three", "one two three four five six", True),
        ("four five six and so on", "one two three four five six", True),
        ("five six and so on", "one two three four five six", False),
        ("", "word", False),
    ],
)
def test_a_quotation_is_found_also_where_the_cut_went_through_it(text: str, quote: str, met: bool) -> None:
    expected = Expected(document="a", quote=quote)
    assert expected.is_met(document="a", passage="1", text=text) is met
    assert not expected.is_met(document="b", passage="1", text=text)


def test_a_passage_is_known_by_its_id() -> None:
    expected = Expected(passage="1")
    assert expected.is_met(document="a", passage="1", text="")
    assert not expected.is_met(document="a", passage="2", text="")
