"""Passages: exact, complete, bounded, stable."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pilotis.rag.blocks import blocks, heading_text
from pilotis.rag.passage import Cut, Parsed, cut, embedded_text
from pilotis.rag.tokens import approximate_tokens

LINES = st.sampled_from(
    [
        "# One", "## Two", "### Three", "Title\n=====", "", "", "A sentence. Another one! A third?", "- item", "1. first", "| a | b |",
        "|---|---|", "```python", "```", "x = 1", "    indented", "mot été là.", "漢字仮名交じり文", "a" * 400, " ", "[link](http://a.b/c)",
        "word " * 120, "---", "> quoted", "é", "\t", "Fin.\u00a0»",
    ]
)  # fmt: skip
DOCUMENTS = st.lists(LINES, max_size=40).map("\n".join)


def sliced(text: str, title: str | None = None, size: int = 50) -> list[Cut]:
    return cut(Parsed(text=text, title=title), document_id="d", size_tokens=size)


@given(DOCUMENTS)
@settings(max_examples=200, deadline=None)
def test_offsets_are_exact_ordered_and_apart(text: str) -> None:
    end = 0
    for number, passage in enumerate(sliced(text)):
        assert passage.text == text[passage.start : passage.end] == passage.text.strip()
        assert passage.ordinal == number
        assert passage.start >= end
        end = passage.end


@given(DOCUMENTS)
@settings(max_examples=200, deadline=None)
def test_every_letter_is_in_a_passage_or_a_heading(text: str) -> None:
    covered = bytearray(len(text))
    for passage in sliced(text):
        covered[passage.start : passage.end] = b"\1" * (passage.end - passage.start)
    headings = [(block.start, block.end) for block in blocks(text) if block.kind == "heading"]
    for start, end in headings:
        covered[start:end] = b"\1" * (end - start)
    assert [i for i, c in enumerate(text) if c.isalnum() and not covered[i]] == []


@given(DOCUMENTS)
@example("# One\n---\n---")
@example("    indented\n---")
@settings(max_examples=200, deadline=None)
def test_every_heading_is_in_a_path_or_a_passage(text: str) -> None:
    passages = sliced(text)
    told = {heading for passage in passages for heading in passage.headings}
    for block in blocks(text):
        if block.kind == "heading" and any(map(str.isalnum, block.title)):
            assert block.title in told or any(p.start < block.end and block.start < p.end for p in passages), block


@given(DOCUMENTS, st.sampled_from([20, 50, 200]))
@settings(max_examples=200, deadline=None)
def test_sizes_are_bounded(text: str, size: int) -> None:
    for passage in cut(Parsed(text=text, title=None), document_id="d", size_tokens=size, count_tokens=approximate_tokens):
        # Rounding adds up over the units a passage is made of.
        assert approximate_tokens(embedded_text(None, (), passage.text)) <= 1.4 * size + 8
        assert len(passage.text) <= 32 * 1.25 * size + 64


@given(DOCUMENTS, DOCUMENTS)
@settings(max_examples=100, deadline=None)
def test_ids_are_unique_and_survive_an_edit_elsewhere(kept: str, other: str) -> None:
    ids = [passage.id for passage in sliced(kept)]
    assert len(set(ids)) == len(ids)
    if any(block.kind == "fence" for block in blocks(kept)):
        return  # an open fence would swallow what follows
    kept += "\n\nWords that close the first part.\n\n"
    before = sliced(f"{kept}# Zeta appendix\n\nSome words.")
    after = sliced(f"{kept}# Zeta appendix\n\n{other}\n\nOther words entirely.")
    assert [p.id for p in before if p.start < len(kept)] == [p.id for p in after if p.start < len(kept)]


def test_ids_are_those_of_the_document() -> None:
    parsed = Parsed(text="Same words.", title=None)
    one, two = (cut(parsed, document_id=name)[0].id for name in ("a", "b"))
    assert one != two
    assert len(one) == 32
    assert one == cut(parsed, document_id="a")[0].id
    spaced = Parsed(text="Same\n  words.", title=None)
    assert cut(spaced, document_id="a")[0].id == one


def test_equal_passages_of_one_document_have_ids_of_their_own() -> None:
    passages = sliced("# A\n\nSame words.\n\n# B\n\nSame words.\n")
    assert [p.text for p in passages] == ["Same words.", "Same words."]
    assert passages[0].id != passages[1].id


def test_heading_path_and_setext() -> None:
    text = "Intro text.\n\nGuide\n=====\n\n## Install\n\nRun pip.\n\n### Linux\n\nUse apt.\n\n## Use\n\nAsk.\n"
    assert [(p.headings, p.text) for p in sliced(text)] == [
        ((), "Intro text."),
        (("Guide", "Install"), "Run pip."),
        (("Guide", "Install", "Linux"), "Use apt."),
        (("Guide", "Use"), "Ask."),
    ]


def test_headings_without_a_text_are_kept_together() -> None:
    text = "# Menu\n\n## Soup\n\n## Fish\n\n## Cheese\n\nComté.\n"
    assert [(p.headings, p.text) for p in sliced(text)] == [
        (("Menu",), "## Soup\n\n## Fish"),
        (("Menu", "Cheese"), "Comté."),
    ]


def test_a_hash_inside_a_fence_is_no_heading() -> None:
    text = "# Real\n\n```sh\n# comment\nls\n```\n\nAfter.\n"
    (passage,) = sliced(text)
    assert passage.headings == ("Real",)
    assert "# comment" in passage.text


def test_a_fence_that_fits_is_never_split() -> None:
    code = "```python\n" + "\n".join(f"line_{i} = {i}" for i in range(8)) + "\n```"
    text = "\n\n".join(["Some words before it. " * 8, code, "Some words after it. " * 8])
    assert approximate_tokens(code) < 60
    holders = [p for p in sliced(text, size=60) if "line_" in p.text]
    assert len(holders) == 1
    assert code in holders[0].text


def test_a_table_is_cut_between_rows() -> None:
    rows = [f"| name {i} | value {i} |" for i in range(100)]
    passages = sliced("\n".join(rows))
    assert len(passages) > 5
    assert [line for p in passages for line in p.text.split("\n")] == rows


def test_long_paragraphs_are_cut_between_sentences() -> None:
    text = " ".join(f"Sentence number {i} talks about M. Dupont and 3.14 things." for i in range(60))
    for passage in sliced(text):
        assert passage.text.startswith("Sentence number")
        assert passage.text.endswith("things.")


def test_a_short_tail_joins_its_neighbour() -> None:
    text = "\n\n".join(["Ten words are in this one and it says little. " * 4, "A tail."])
    tokens = approximate_tokens(text)
    (passage,) = sliced(text, size=tokens - 1)
    assert passage.text.endswith("A tail.")


def test_overlap_repeats_the_last_units() -> None:
    text = "\n\n".join(f"Paragraph {i} with some more words in it." for i in range(20))
    passages = cut(Parsed(text=text, title=None), document_id="d", size_tokens=40, overlap_tokens=12)
    assert all(later.start < earlier.end for earlier, later in pairwise(passages))
    assert passages[-1].end == len(text)


def test_pages_come_from_the_offset() -> None:
    pages = ["One.", "", "Three."]
    text = "# A\n\nOne.\n\n# B\n\nThree."
    starts = (0, text.index("# B"), text.index("# B"))
    found = cut(Parsed(text=text, title=None, page_starts=starts), document_id="d")
    assert [p.page for p in found] == [1, 3]
    assert len(pages) == len(starts)
    assert sliced("No pages.")[0].page is None


def test_languages_are_those_of_passages_and_of_the_document_for_short_ones() -> None:
    english = "This is the first part of the guide and it was written for those who do not know what a passage is. " * 2
    french = "Ceci est la seconde partie du guide et elle a été écrite pour ceux qui ne savent pas ce que c'est. " * 4
    text = f"# A\n\n{french}\n\n# B\n\n{english}\n\n# C\n\nx = 1"
    assert [p.language for p in sliced(text, size=200)] == ["fr", "en", "fr"]


def test_embedded_text() -> None:
    assert embedded_text("Guide", ("Guide", "Install"), "Run pip.") == "Guide > Install\nRun pip."
    assert embedded_text("Title", ("Guide",), "x") == "Title > Guide\nx"
    assert embedded_text(None, (), "x") == "x"
    assert embedded_text("*guide*", ("Guide",), "x") == "Guide\nx"
    assert embedded_text(None, (), "See [the docs](http://a.b/c_d) now") == "See the docs now"
    assert len(embedded_text("t" * 900, tuple("h" * 300 for _ in range(9)), "")) < 500


def test_heading_text_reads_well() -> None:
    assert heading_text("**Use** `pip` [here](http://a.b) { #use }") == "Use pip here"
    assert heading_text("snake_case_name ##") == "snake_case_name"
    assert heading_text("A \\# and <a id='x'></a>B¶") == "A # and B"


@pytest.mark.parametrize(
    "text",
    [
        "a" * 3_000_000, "a" + " " * 2_000_000 + "b", "## H\n" * 50_000, "\n" * 1_000_000 + "x", "word and more " * 100_000,
        "`" * 1_000_000, "." * 1_000_000, "[" * 500_000, "<" * 500_000, "- \n" * 200_000, "```\n" * 200_000, "漢" * 500_000,
    ],
    ids=lambda text: repr(text[:6]),
)  # fmt: skip
def test_hostile_texts_take_linear_time(text: str) -> None:
    begin = time.perf_counter()
    passages = cut(Parsed(text=text, title=None), document_id="d")
    assert time.perf_counter() - begin < 20
    assert all(len(passage.text) <= 32 * 250 + 64 for passage in passages)


def test_an_empty_text_has_no_passages() -> None:
    assert sliced("") == sliced("\n \n---\n***") == []
