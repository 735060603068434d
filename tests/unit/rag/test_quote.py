from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotis.rag.quote import MOST_LINES, MOST_WORDS, Quotation, is_table_head, quote, shown

TABLE = "Limits:\n\n| option | default | unit |\n|---|:-:|--:|\n| `upload_mb` | 100 | MiB |\n| wait \\| pause | | s |\n"


def quoted(text: str, part: str, *asked: str) -> Quotation:
    start = text.index(part)
    found = quote(text, start, start + len(part), {word[:5] for word in asked})
    assert start <= found.start <= found.end <= start + len(part)
    return found


def test_a_row_is_shown_with_the_names_of_its_columns() -> None:
    assert quoted(TABLE, "| `upload_mb` | 100 | MiB |").shown == "option: upload_mb; default: 100; unit: MiB"
    assert quoted(TABLE, "| wait \\| pause | | s |").shown == "option: wait | pause; unit: s"


def test_a_row_whose_head_is_elsewhere_is_shown_as_it_is() -> None:
    assert quoted("| 100 | MiB |\n| 10 | s |\n", "| 10 | s |").shown == "10 | s"


def test_the_head_of_a_table_is_known_from_its_rows() -> None:
    head, row = "| option | default | unit |", "| `upload_mb` | 100 | MiB |"
    assert is_table_head(TABLE, TABLE.index(head), TABLE.index(head) + len(head))
    assert not is_table_head(TABLE, TABLE.index(row), TABLE.index(row) + len(row))


def test_commands_stand_between_backticks_without_their_fence() -> None:
    text = "```console\n$ git add notes.md\n\n$ git commit -m 'x'  # [3]\n```"
    found = quoted(text, text)
    assert found.shown == "`$ git add notes.md` `$ git commit -m 'x' # [3]`"
    assert text[found.start : found.end] == "$ git add notes.md\n\n$ git commit -m 'x'  # [3]"


def test_of_long_code_the_lines_that_are_asked_for_are_shown() -> None:
    lines = [f"option_{n} = {n}" for n in range(50)]
    lines[30] = "retention_days = 30"
    text = "~~~toml\n" + "\n".join(lines) + "\n~~~"
    found = quoted(text, text, "retention")
    assert "`retention_days = 30`" in found.shown
    assert found.shown.count("`") == 2 * MOST_LINES


def test_boxes_drawn_around_output_are_left_out() -> None:
    text = "```\n╭─────────╮\n│ Serving │\n╰─────────╯\n```"
    assert quoted(text, text).shown == "`Serving`"


@pytest.mark.parametrize("text", ["```\n```", "```\n╭──╮\n```", "```sh\n", "~~~\n\n\n"])
def test_code_without_a_word_shows_nothing(text: str) -> None:
    assert quoted(text, text).shown == ""


def test_prose_and_code_of_one_span_are_each_shown_their_way() -> None:
    assert shown("**Run** this:\n\n```\n$ make\n```\nand *wait*.") == "Run this: `$ make` and wait."


PIECES = st.lists(
    st.sampled_from(["word", "`", "```", "~~~", "\n", "|", "|---|---|", "a | b", "[3]", "é", " ", "1."]), max_size=60
)


@given(PIECES.map("".join), st.booleans())
def test_whatever_it_holds_a_quotation_is_a_short_part_of_the_text(text: str, fenced: bool) -> None:
    source = f"```\n{text}" if fenced else text
    found = quote(source, 0, len(source), {"word"})
    assert 0 <= found.start <= found.end <= len(source)
    assert len(source[found.start : found.end].split()) <= MOST_WORDS
    assert "\n" not in found.shown
