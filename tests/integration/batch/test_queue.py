from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis

from pilotis.adapters.celery import CeleryQueue

if TYPE_CHECKING:
    from integration.batch.conftest import Town


async def test_a_hundred_nudges_are_one_message_and_envs_do_not_hear_each_other(town: Town) -> None:
    client: Any = redis.Redis.from_url(town.addresses.redis_url)
    queue = CeleryQueue(town.addresses.redis_url, namespace="one")
    other = CeleryQueue(town.addresses.redis_url, namespace="two")
    for _ in range(100):
        await queue.nudge("ingest")
    assert [client.llen(key) for key in ("one:ingest", "one:embed", "two:ingest", "ingest")] == [1, 0, 0, 0]
    await other.nudge("ingest")
    queue.read("ingest")
    await queue.nudge("ingest")
    assert [client.llen(key) for key in ("one:ingest", "two:ingest")] == [2, 1]
    assert all(key.startswith((b"one:", b"two:", b"pilotis:")) for key in client.scan_iter())
    queue.quieten("embed", 30)
    await queue.nudge("embed")
    assert client.llen("one:embed") == 0
    await queue.close()
    await other.close()
    client.close()
