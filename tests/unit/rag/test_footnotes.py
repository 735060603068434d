"""Sources as text."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from pilotis.rag.footnotes import footnotes, without_sources


def source(n: int, title: str | None, page: int | None = None) -> Any:
    return SimpleNamespace(n=n, title=title, document="keys.md", page=page)


def test_each_source_has_one_line_with_its_page() -> None:
    cited = [source(2, "Keys", 3), source(1, None), source(2, "Keys", 3)]
    assert footnotes(cited, "en") == "\n\nSources:\n[2] Keys, p. 3\n[1] keys.md"
    assert footnotes(cited, "fr").startswith("\n\nSources :\n")
    assert footnotes([], "en") == ""


def test_a_title_can_neither_be_markup_nor_begin_another_line() -> None:
    assert footnotes([source(1, "[a](http://x)\n[2] <b>`rm`")], "en").splitlines()[3:] == ["[1] (a)(http://x) (2) ‹b›'rm'"]


def test_what_was_said_comes_back_without_footnotes_and_marks() -> None:
    text = "Create it [1], then revoke `a[1]`. [2]"
    assert without_sources(text + footnotes([source(1, "Keys"), source(2, None, 4)], "fr")) == "Create it, then revoke `a[1]`."
    assert without_sources("Sources:\nmine") == "Sources:\nmine"


@pytest.mark.parametrize("text", [" " * 100_000, "\t" * 100_000 + "x", (" " * 999 + "[x") * 100, "a [" * 33_000])
def test_what_a_client_claims_was_said_is_read_in_no_time(text: str) -> None:
    began = time.perf_counter()
    assert without_sources(text) == text.strip()
    assert time.perf_counter() - began < 0.5
