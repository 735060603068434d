"""How texts are grouped for one run of the local model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pilotis.adapters.onnx.embedder import micro_batches


def test_texts_of_like_length_share_a_run_within_the_budget() -> None:
    assert micro_batches([10, 250, 12, 256, 11], 512) == [[3, 1], [2, 4, 0]]


def test_a_text_above_the_budget_runs_alone() -> None:
    assert micro_batches([300, 300, 20], 256) == [[0], [1], [2]]


@given(st.lists(st.integers(1, 256), max_size=200), st.integers(1, 1024))
def test_every_text_once_and_padding_stays_within_the_budget(lengths: list[int], budget: int) -> None:
    groups = micro_batches(lengths, budget)
    assert sorted(position for group in groups for position in group) == list(range(len(lengths)))
    assert all(len(group) == 1 or len(group) * max(lengths[i] for i in group) <= budget for group in groups)
