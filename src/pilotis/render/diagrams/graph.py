"""A diagram as data: boxes on a grid, lines between them, groups around them. What is drawn, not how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["person", "step", "process", "store", "cache", "model", "watch", "stop"]
"""What a box stands for, which gives it its colour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """`column` and `row` count from 0; a box is one column wide and `rows` rows high."""

    id: str
    title: str
    notes: tuple[str, ...] = ()
    kind: Kind = "step"
    column: int = 0
    row: int = 0
    rows: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """From a box or a group to another: in the same column to the next row, else to a column beside it."""

    source: str
    target: str
    label: str = ""
    dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A frame around boxes and other groups; a box or group is in one group at most."""

    id: str
    title: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """One diagram. Ids are unique among boxes and groups together."""

    title: str
    subtitle: str
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    groups: tuple[Group, ...] = ()
    down: bool = True
    """Whether it is read from top to bottom, else from left to right."""
