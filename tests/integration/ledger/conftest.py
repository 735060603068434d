from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilotis.adapters.redis.till.GRACE_S", 0.3)
