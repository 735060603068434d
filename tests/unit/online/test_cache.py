from __future__ import annotations

from dataclasses import fields, replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotis.contract.presets import default
from pilotis.derive.ladder import rungs
from pilotis.derive.plan import Llm, derive
from pilotis.online.ask import Ask, read
from pilotis.online.cache import answer_keys, kept, pack_answer, pack_hits, passages_keys, replayed, unpack_answer, unpack_hits
from pilotis.online.events import Answer, Citation, Receipt, Step
from pilotis.ports import Deps, Hit

PLAN = derive(default())
DEV = PLAN.envs["dev"]
PROD = PLAN.envs["prod"]
HIT = Hit(
    passage_id="p1",
    document_id="d1",
    document="a.md",
    collection="default",
    title="Tolls",
    headings=("Tolls", "Sundays"),
    page=3,
    start=10,
    end=30,
    language="en",
    text="Sundays are free — toujours.",
    score=0.1 + 0.2,
    dense=0.7,
    lexical=0.0,
)


def deps(generation: str = "1") -> Deps:
    return cast("Deps", SimpleNamespace(passages=SimpleNamespace(generation=generation)))


def key(ask: Ask, *, env: Any = DEV, generation: str = "1") -> str:
    return answer_keys(ask, read(ask, env), rungs(env), deps(generation))[0]


ASKED = Ask(bu="legal", text="Are Sundays free?", collection="default", metadata={"year": 2026}, top_k=7)


def test_the_same_question_has_the_same_key_in_every_process() -> None:
    # A literal: a key that depended on this process's salt, or on the order of a dict, would differ.
    assert key(ASKED) == key(replace(ASKED))
    assert key(ASKED) == key(replace(ASKED, text="  are SUNDAYS free ?! "))
    assert len(key(ASKED)) == 64


@pytest.mark.parametrize(
    "other",
    [
        {"bu": "sales"},
        {"text": "Are Mondays free?"},
        {"collection": None},
        {"collection": "other"},
        {"metadata": {"year": "2026"}},
        {"metadata": {}},
        {"prompt": "v2"},
        {"history": (("user", "Hello"),)},
        {"max_tokens": 5},
    ],
)
def test_whatever_an_answer_depends_on_is_in_its_key(other: dict[str, Any]) -> None:
    assert key(replace(ASKED, **other)) != key(ASKED)


@pytest.mark.parametrize(
    "other",
    [
        {"hybrid": False},
        {"rerank": True},
        {"prompt": "v9"},
        {"llm": Llm(model="gpt-5-mini", provider="openai")},
        {"llm": Llm(model="extractive", provider="local", base_url="http://elsewhere/v1")},
        {"top_k": 3},
        {"tok_in_max": 700},
        {"tok_out_max": 7},
        {"embedder": replace(DEV.embedder, model="other")},
        {"languages": ("en",)},
        {"reranker": Llm(model="rerank-2", provider="voyage")},
    ],
)
def test_whatever_the_env_decides_is_in_its_key(other: dict[str, Any]) -> None:
    assert key(ASKED, env=replace(DEV, **other)) != key(ASKED)


def test_another_index_generation_is_another_key() -> None:
    assert key(ASKED, generation="2") != key(ASKED)


def test_who_asked_and_how_it_is_shown_are_not_in_the_key() -> None:
    assert key(replace(ASKED, key="k-1", ip="10.0.0.1", streamed=True)) == key(ASKED)


def test_each_step_of_the_ladder_has_its_own_answers() -> None:
    env = replace(PROD, reranker=Llm(model="rerank-2", provider="voyage"), compact=Llm(model="gpt-5-nano", provider="openai"))
    keys = answer_keys(ASKED, read(ASKED, env), rungs(env), deps())
    # full, no_rerank, smaller_top_k and compact_model differ; the last two steps write nothing, and find what the step before wrote.
    assert len(set(keys[:4])) == 4
    assert keys[3] == keys[4] == keys[5]


def test_an_env_without_a_cache_has_no_keys() -> None:
    env = replace(DEV, cache_ttl_s=0)
    assert answer_keys(ASKED, read(ASKED, env), rungs(env), deps()) == ()
    assert passages_keys(ASKED, read(ASKED, env), rungs(env), deps()) == ()


def test_the_writer_does_not_change_what_is_found() -> None:
    def found(env: Any) -> str:
        return passages_keys(ASKED, read(ASKED, env), rungs(env), deps())[0]

    assert found(replace(DEV, llm=Llm(model="gpt-5-mini", provider="openai"), rerank=True)) == found(DEV)
    assert found(replace(DEV, top_k=3)) != found(DEV)


@given(st.text(max_size=12), st.text(max_size=12), st.text(max_size=12), st.text(max_size=12))
def test_two_business_units_never_share_a_key(one: str, collection: str, other: str, second: str) -> None:
    # Whatever the names hold: nothing in one field can pass for the end of it and the beginning of the next.
    a = replace(ASKED, bu=one, collection=collection or None)
    b = replace(ASKED, bu=other, collection=second or None)
    question = read(ASKED, DEV)
    same = answer_keys(a, question, rungs(DEV), deps()) == answer_keys(b, question, rungs(DEV), deps())
    assert same == ((a.bu, a.collection) == (b.bu, b.collection))


def _answer(text: str = "Sundays are free [1].", *, found: bool = True) -> Answer:
    return Answer(
        id="one",
        text=text,
        found=found,
        language="en",
        citations=(
            Citation(
                n=1, passage_id="p1", document_id="d1", document="a.md", title=None, page=3, start=10, end=20, quote="free"
            ),
        ),
        receipt=Receipt(
            usages=(), cost_eur=Decimal("0.000123456789"), priced=True, price_book="book", fx=None, elsewhere_eur={}
        ),
        timings_ms={"total": 12.0},
        env="dev",
        model="m",
        prompt="v1",
        step="full",
        cache="miss",
        steps=(Step(name="cite", outcome="removed", reason="[9]"),),
    )


def test_an_answer_comes_back_as_it_was_for_nothing_and_says_what_it_saved() -> None:
    again = unpack_answer(pack_answer(_answer()), id="two", env="dev", timings_ms={"total": 1.0})
    before = _answer()
    changed = {field.name for field in fields(Answer) if getattr(again, field.name) != getattr(before, field.name)}
    assert changed == {"cache", "receipt", "timings_ms"}
    assert again.receipt.cost_eur == 0
    assert again.receipt.saved_eur == Decimal("0.000123456789")


def test_passages_come_back_to_the_last_digit() -> None:
    assert unpack_hits(pack_hits([HIT, replace(HIT, page=None, title=None, headings=())])) == (
        HIT,
        replace(HIT, page=None, title=None, headings=()),
    )


@given(st.text())
def test_a_replayed_stream_is_the_text(text: str) -> None:
    assert "".join(replayed(text)) == text


def test_what_was_not_found_depends_on_every_document() -> None:
    keys = ("a", "p")
    assert kept(_answer(), [HIT], [HIT, replace(HIT, document_id="d2")], keys=keys, ttl_s=60).documents == ("d1", "d2")
    assert kept(_answer(found=False), [], None, keys=keys, ttl_s=60).documents == ("*",)


def test_passages_from_the_cache_are_not_kept_anew() -> None:
    made = kept(_answer(), [HIT], None, keys=("a", "p"), ttl_s=60)
    assert made.passages_key is None
    assert made.answer_key == "a"
