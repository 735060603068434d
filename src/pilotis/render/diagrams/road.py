"""A graph in the making: a column of steps from top to bottom, with boxes beside them."""

from __future__ import annotations

from collections.abc import Sequence

from pilotis.derive.plan import Embedding, Llm
from pilotis.render.diagrams.graph import Box, Graph, Kind, Line
from pilotis.render.wording import Wording

LEFT, SPINE, RIGHT = 0, 1, 2


class Road:
    """Texts are given as `English | French`, or once where both are the same."""

    def __init__(self, words: Wording) -> None:
        self.words = words
        self.steps: list[Box] = []
        self._beside: list[Box] = []
        self._lines: list[Line] = []

    def step(self, name: str, title: str, *notes: str, kind: Kind = "step") -> str:
        """The next step, below the one before. Returns its id."""
        if self.steps:
            self._lines.append(Line(source=self.steps[-1].id, target=name))
        self.steps.append(self._box(name, title, notes, kind, column=SPINE, row=len(self.steps)))
        return name

    def right(self, name: str, title: str, *notes: str, kind: Kind, label: str = "", dashed: bool = False) -> None:
        """Beside the last step."""
        last = self.steps[-1]
        self._beside.append(self._box(name, title, notes, kind, column=RIGHT, row=last.row))
        self._lines.append(Line(source=last.id, target=name, label=self.words.pick(label), dashed=dashed))

    def model(self, name: str, model: Llm | Embedding, *notes: str) -> None:
        """Beside the last step: the model that it asks, and where that is."""
        where = {"local": "in the process | dans le processus", "custom": address(model)}.get(model.provider, model.provider)
        self.right(name, model.model, where, *notes, kind="model")

    def along(
        self, name: str, title: str, *notes: str, kind: Kind, steps: Sequence[str], side: int, dashed: bool = False
    ) -> None:
        """One box beside all of these steps."""
        rows = [step.row for step in self.steps if step.id in steps]
        first, last = min(rows), max(rows)
        self._beside.append(self._box(name, title, notes, kind, column=side, row=first, rows=last - first + 1))
        self._lines += [Line(source=one, target=name, dashed=dashed) for one in steps]

    def graph(self, title: str, subtitle: str) -> Graph:
        return Graph(
            title=self.words.pick(title),
            subtitle=self.words.pick(subtitle),
            boxes=(*self.steps, *self._beside),
            lines=tuple(self._lines),
        )

    def _box(self, name: str, title: str, notes: Sequence[str], kind: Kind, **place: int) -> Box:
        pick = self.words.pick
        return Box(id=name, title=pick(title), notes=tuple(map(pick, notes)), kind=kind, **place)


def address(model: Llm | Embedding) -> str:
    """Host and port of the server of a model that is only known by its address."""
    return (model.base_url or "").split("//")[-1].split("/")[0]
