"""pgvector's text forms."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pilotis.rag.lexical import DIMENSIONS


def vector_text(vector: NDArray[np.float32]) -> str:
    """`[0.1,0.2]`; half precision keeps four significant digits, so no more are sent."""
    return "[" + ",".join([f"{x:.5g}" for x in vector.tolist()]) + "]"


def sparse_text(weights: Mapping[int, float]) -> str:
    """`{term:weight,...}/dimensions`, indices from 1."""
    return "{" + ",".join([f"{term}:{weights[term]:.6g}" for term in sorted(weights)]) + f"}}/{DIMENSIONS}"
