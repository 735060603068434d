"""Sources as text."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

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
