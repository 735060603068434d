"""The ages of secrets, as `/metrics` shows them."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from pilotis import wiring
from pilotis.embedded import Addresses
from pilotis.service import open_service


async def test_ages_are_among_the_metrics_and_values_are_not(stack: Addresses, database: str, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    old = time.time() - 91 * 86_400
    for name, url in (("DATABASE", database), ("REDIS", stack.redis_url)):
        path = tmp_path / "kept" / f"PILOTIS_{name}_URL"
        path.write_text(url)
        os.utime(path, (old, old))
    (tmp_path / "pilotis.toml").write_text(
        '[envs.dev]\nllm = "extractive"\n[envs.dev.secrets]\nprovider = "file"\npath = "kept"\n'
    )
    given = wiring.settings(env="dev", data=tmp_path / "data", environ={}, folder=tmp_path)
    plan, env = wiring.load_plan(given)
    with wiring.stack(given, plan, env) as addresses:
        async with open_service(given, plan, env, addresses=addresses) as service, asyncio.timeout(20):
            while b"rag_secret_age_seconds{" not in service.exposition():  # noqa: ASYNC110 - a loop measures it, and tells nobody
                await asyncio.sleep(0.05)
            lines = [line for line in service.exposition().decode().splitlines() if line.startswith("rag_secret_age_seconds{")]
    ages = {line.split('name="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1]) for line in lines}
    assert {name: round(age / 86_400) for name, age in ages.items()} == {"PILOTIS_DATABASE_URL": 91, "PILOTIS_REDIS_URL": 91}
