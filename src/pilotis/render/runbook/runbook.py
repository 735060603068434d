"""The runbook."""

from __future__ import annotations

from collections.abc import Iterator

from pilotis.render.files import File, Scene


def files(scene: Scene) -> Iterator[File]:
    yield from ()
