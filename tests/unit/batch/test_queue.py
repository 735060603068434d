from __future__ import annotations

import time

import pytest

from pilotis.adapters.celery import CeleryQueue, broker_url, build


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("redis://:secret@cache:6379/2", "redis://:secret@cache:6379/2"),
        ("rediss://cache:6379/0", "rediss://cache:6379/0"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock?virtual_host=0"),
        ("unix:///run/redis.sock?db=3", "redis+socket:///run/redis.sock?virtual_host=3"),
        ("unix://:secret@/run/redis.sock", "redis+socket://:secret@/run/redis.sock?virtual_host=0"),
    ],
)
def test_addresses_of_celery(given: str, expected: str) -> None:
    assert broker_url(given) == expected


def test_what_celery_must_keep() -> None:
    settings = build("redis://cache:6379/0", namespace="rag:dev").conf
    assert settings.task_acks_late
    assert settings.task_reject_on_worker_lost
    assert settings.worker_prefetch_multiplier == 1
    assert settings.accept_content == ["json"]
    assert settings.result_backend is None
    assert {queue.name for queue in settings.task_queues} == {"ingest", "embed", "upkeep", "schedule", "eval"}
    assert settings.broker_transport_options["global_keyprefix"] == "rag:dev:"
    assert settings.broker_transport_options["visibility_timeout"] >= 3600


async def test_a_dead_redis_costs_little_and_raises_nothing() -> None:
    queue = CeleryQueue("redis://127.0.0.1:1/0", namespace="test")
    began = time.monotonic()
    for _ in range(100):
        await queue.nudge("ingest")
    assert time.monotonic() - began < 5
    await queue.close()
