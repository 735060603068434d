from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotis.rag.extract import MOST_SENTENCES, Extraction, extract, is_not_found, not_found
from pilotis.rag.question import Question, normalise
from pilotis.rag.quote import MOST_WORDS, shown
from pilotis.rag.sentence import sentences

MINILM = "all-MiniLM-L6-v2"


@dataclass(frozen=True)
class Passage:
    text: str
    language: str = "en"
    title: str | None = None
    headings: tuple[str, ...] = ()
    score: float = 1.0
    dense: float = 0.0
    lexical: float = 5.0


def ask(text: str, *passages: Passage | str, language: str = "en", embedder: str = "") -> Extraction:
    question = Question(text=text, normalised=normalise(text), language=language)
    return extract(question, [p if isinstance(p, Passage) else Passage(p, language) for p in passages], embedder=embedder)


def said(extraction: Extraction) -> list[str]:
    return [span.shown for span in extraction.spans]


CASTLE = (
    "Montrouge is a castle on the river Ource. It was built by Hugues de Vergy in 1243 after the old tower burnt. "
    "The castle has four towers and a chapel. Its roof was replaced in 1911. The castle belongs to the town of Autricourt."
)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How many towers does the castle have?", "The castle has four towers and a chapel."),
        ("When was the roof of the castle replaced?", "Its roof was replaced in 1911."),
        ("To which town does the castle belong?", "The castle belongs to the town of Autricourt."),
        ("Who built the castle of Montrouge?", "It was built by Hugues de Vergy in 1243 after the old tower burnt."),
    ],
)
def test_the_sentence_that_answers_comes_first(question: str, answer: str) -> None:
    assert answer in said(ask(question, CASTLE, "Castles are large. Rivers are long."))[0]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Quand la toiture du château a-t-elle été remplacée ?", "La toiture du château fut remplacée en 1911."),
        ("Combien de tours le château compte-t-il ?", "Le château compte quatre tours et une chapelle."),
    ],
)
def test_french_is_read_as_french(question: str, answer: str) -> None:
    text = "La toiture du château est belle. La toiture du château fut remplacée en 1911. Le château compte quatre tours et une chapelle."
    assert said(ask(question, text, language="fr"))[0] == answer


def test_a_date_is_preferred_where_one_is_asked_for() -> None:
    feast, date = (
        Passage("The bridge of Arles was opened with a feast."),
        Passage("The bridge of Arles was opened in June 1875."),
    )
    with_date = said(ask("When was the bridge of Arles opened?", feast, date))
    without = said(ask("How was the bridge of Arles opened?", feast, date))
    assert with_date.index(date.text) == 0
    assert without.index(feast.text) == 0


def test_headings_say_what_a_passage_is_about() -> None:
    upload = Passage("The timeout is 10 seconds.", headings=("Client", "Upload"))
    pool = Passage("The timeout is 30 seconds.", headings=("Server", "Database pool"))
    rest = Passage("Retries follow. Errors are logged. Nothing else happens here.")
    found = ask("What is the timeout of the database pool?", upload, pool, rest)
    assert said(found)[0] == "The timeout is 30 seconds."
    assert ask("What is the timeout of the mail relay?", upload, pool, rest).confidence < found.confidence


def test_a_sentence_that_points_back_brings_what_it_points_at() -> None:
    (span, *_) = ask("Who built the castle in 1243?", CASTLE).spans
    assert span.shown.startswith("Montrouge is a castle on the river Ource. It was built by Hugues")


def test_a_sentence_that_announces_brings_what_follows() -> None:
    text = (
        "Read this first.\n\nTo install the service, run:\n\n```console\n$ pip install pilotis\n```\n\nThen read on. It rains."
    )
    (span, *_) = ask("How to install the service?", text, "Rivers are long. Castles are large.").spans
    assert span.shown == "To install the service, run: `$ pip install pilotis`"
    assert text[span.start : span.end].endswith("```")


def test_a_heading_is_no_answer() -> None:
    text = "## What is the retention of backups?\n\nThirty days on the second site, for all backups."
    found = ask("What is the retention of backups?", text)
    assert said(found) == ["Thirty days on the second site, for all backups."]


@pytest.mark.parametrize(
    "question",
    ["Who won the world cup of 1998?", "What does the moon weigh?", "Qui a peint la Joconde ?", "?", "What is it?", "the"],
)
def test_what_the_passages_do_not_say_is_not_answered(question: str) -> None:
    found = ask(question, Passage(CASTLE, dense=0.1), Passage("Castles are large.", dense=0.05), embedder=MINILM)
    assert found.spans == ()
    assert found.confidence < 0.3


def test_without_passages_there_is_no_answer() -> None:
    assert ask("Who built the castle?") == Extraction(spans=(), confidence=0.0)
    assert ask("Who built the castle?", "---", "# Title").spans == ()


def test_cosines_count_only_where_their_scale_is_known() -> None:
    near, far = Passage(CASTLE, dense=0.7), Passage(CASTLE, dense=0.1)
    question = "Which person erected this fortress?"
    assert ask(question, near, embedder=MINILM).confidence > 3 * ask(question, far, embedder=MINILM).confidence
    assert ask(question, near, embedder="other").confidence == ask(question, far, embedder="other").confidence


def test_a_search_by_words_alone_can_still_answer() -> None:
    assert ask("How many towers does the castle have?", Passage(CASTLE, dense=0.0), embedder=MINILM).spans


def test_an_overlong_block_is_shown_where_the_words_are() -> None:
    rows = "\n".join(f"option_{n} = {n}  # sets value number {n} of the table" for n in range(200))
    text = f"```toml\n{rows}\nretention_days = 30  # how long backups are kept\n{rows}\n```"
    (span, *_) = ask("How long are backups kept, retention?", text).spans
    assert "retention_days = 30" in span.shown
    assert len(text[span.start : span.end].split()) <= MOST_WORDS


@pytest.mark.parametrize(
    ("source", "plain"),
    [
        ("- **Uploads** are `limited` to [100 MiB](limits.md#size).", "Uploads are limited to 100 MiB."),
        ("> A *quoted* __word__ and snake_case_name, 2 * 3 * 4", "A quoted word and snake_case_name, 2 * 3 * 4"),
        ("The city grew.[12][note] It\nfell [3, 4].", "The city grew.[note] It fell ."),
        ("![A chart](chart.png) shows it", "A chart shows it"),
        ("| a | b |", "a | b"),
        ("1. Open the file", "1. Open the file"),
        ("a <br/> b <!-- hidden --> c if x < y and y > z", "a b c if x < y and y > z"),
        ('<img src="a.png"> run `ingest <path>` on items[0] or `items[0]`', "run ingest <path> on items or items[0]"),
    ],
)
def test_markup_is_not_shown(source: str, plain: str) -> None:
    assert shown(source) == plain


def test_no_text_of_a_document_passes_for_a_citation() -> None:
    found = ask("How many towers does the castle have?", "The castle has four towers [7] and [12]a chapel[^3].")
    assert not re.search(r"\[\^?\d+\]", found.spans[0].shown)


@pytest.mark.parametrize("language", ["en", "fr", "de"])
def test_the_statement_that_nothing_was_found_is_recognised(language: str) -> None:
    assert is_not_found(not_found(language))
    assert is_not_found(f"**{not_found(language).upper()}** [1]")
    assert not is_not_found(f"{not_found(language)} But the castle has four towers.")
    assert not is_not_found("")


WORDS = st.sampled_from(
    [
        "castle",
        "towers",
        "river",
        "was",
        "built",
        "1243",
        "It",
        "The",
        "has",
        "four",
        "He.",
        "#",
        "```",
        "|",
        "-",
        "a:",
        "b?",
        "[3]",
        "**x**",
        "Montrouge\n\n",
        "\n",
        "Q&A",
        "é",
    ]
)
TEXT = st.lists(WORDS, max_size=120).map(" ".join)


@given(question=TEXT.filter(str.strip), texts=st.lists(TEXT, max_size=8), dense=st.floats(0, 1))
def test_spans_are_verbatim_short_whole_and_apart(question: str, texts: list[str], dense: float) -> None:
    passages = [Passage(text, dense=dense) for text in texts]
    found = ask(question, *passages, embedder=MINILM)
    assert 0 <= found.confidence <= 1
    for span in found.spans:
        source = texts[span.n - 1]
        assert 0 <= span.start < span.end <= len(source)
        assert source[span.start : span.end] == source[span.start : span.end].strip()
        assert span.shown
        assert span.shown == shown(source[span.start : span.end]) or "```" in source
        inside = [(a, b) for a, b in sentences(source, "en") if a < span.end and b > span.start]
        assert len(inside) <= MOST_SENTENCES
        assert len(source[span.start : span.end].split()) <= MOST_WORDS
    for one in found.spans:
        assert not any(o.n == one.n and o.start < one.end and one.start < o.end for o in found.spans if o is not one)


def test_what_two_passages_say_alike_is_said_once() -> None:
    found = ask("How many towers does the castle have?", CASTLE, CASTLE)
    assert len(said(found)) == len(set(said(found)))
    assert found.spans[0].n == 1


def test_scores_below_zero_keep_their_order() -> None:
    first, second = Passage("The castle has four towers.", score=-1.0), Passage("The castle has two towers.", score=-9.0)
    assert next(span.n for span in ask("How many towers has the castle?", first, second).spans) == 1


def test_a_misspelt_or_derived_word_still_finds_its_sentence() -> None:
    text = "The museum shows armour. The foundation of the museum by Kahadol took place in May. Its garden is large."
    assert "Kahadol" in said(ask("Who is the founder kahadoll of that museum?", text))[0]


def test_one_sentence_is_enough_where_it_stands_out_and_more_are_shown_where_several_might_answer() -> None:
    sure = ask("When was the roof of the castle replaced?", CASTLE, "Castles are large. Rivers are long.")
    clocks = Passage(
        "The clock of Vergy has a bell. The clock of Vergy strikes. The clock of Vergy is blue. The clock of Vergy is loud."
    )
    unsure = ask("What about the clock of Vergy?", clocks)
    assert len(said(sure)) == 1
    assert len(" ".join(said(unsure)).split(".")) > 2


def test_a_name_that_occurs_nowhere_counts_against_an_answer() -> None:
    passage = Passage(CASTLE, dense=0.45)
    known = ask("How many towers does the castle of Montrouge have?", passage, embedder=MINILM)
    strange = ask("How many towers does the castle of Carcassonne have?", passage, embedder=MINILM)
    assert known.spans
    assert strange.confidence < known.confidence - 0.1


def test_the_head_of_a_table_is_no_answer() -> None:
    text = "| option | default |\n|---|---|\n| upload limit | 100 MiB |\n"
    assert said(ask("What is the default of the option upload limit?", text)) == ["option: upload limit; default: 100 MiB"]


def test_without_abstaining_the_likeliest_is_quoted() -> None:
    found = extract(
        Question(text="Who won?", normalised="who won", language="en"),
        [Passage(CASTLE, dense=0.1)],
        embedder=MINILM,
        abstain=False,
    )
    assert found.spans
    assert found.confidence < 0.3
