from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta

import pytest

from pilotis.control import secrets
from pilotis.errors import SetupError
from pilotis.ports.secrets import Secret
from pilotis.testing.online import MemoryMeter


class Keeper:
    """Knows two, and the age of one; says no when it shall."""

    refuses = False

    def place(self, name: str) -> str:
        return f"drawer/{name}"

    def read(self, names: Collection[str]) -> Mapping[str, Secret]:
        if self.refuses:
            raise SetupError("the drawer is locked")
        at = datetime.now(UTC) - timedelta(days=91)
        known = {"OLD": Secret(value="hunter2", at=at), "TIMELESS": Secret(value="hunter2", at=None)}
        return {name: known[name] for name in names if name in known}


def measured(meter: MemoryMeter) -> dict[str, float]:
    return {
        dict(labels)["name"]: values[-1] for (name, labels), values in meter.values.items() if name == "rag_secret_age_seconds"
    }


async def test_ages_are_measured_where_they_are_known() -> None:
    meter = MemoryMeter()
    watching = asyncio.create_task(secrets.watch(Keeper, ("OLD", "TIMELESS", "NOWHERE"), meter))
    async with asyncio.timeout(5):
        while not measured(meter):  # noqa: ASYNC110 - it never ends, and tells nobody
            await asyncio.sleep(0.01)
    watching.cancel()
    assert measured(meter) == {"OLD": pytest.approx(91 * 86_400, abs=60)}


async def test_a_keeper_that_refuses_is_complained_of_once_and_asked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(secrets, "AGAIN_S", 0.01)
    keeper, meter = Keeper(), MemoryMeter()
    keeper.refuses = True
    with caplog.at_level(logging.WARNING):
        watching = asyncio.create_task(secrets.watch(lambda: keeper, ("OLD",), meter))
        await asyncio.sleep(0.2)
        keeper.refuses = False
        async with asyncio.timeout(5):
            while not measured(meter):  # noqa: ASYNC110 - it never ends, and tells nobody
                await asyncio.sleep(0.01)
    watching.cancel()
    assert [record.message for record in caplog.records] == ["the ages of secrets are unknown: the drawer is locked"]
