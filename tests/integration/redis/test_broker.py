"""Queues in a Redis of their own: what may be evicted, what may not, and what is where. And both over TLS."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from pilotis import service, wiring
from pilotis.adapters.celery import CeleryQueue
from pilotis.adapters.redis import RedisMoney
from pilotis.batch.ingest import receive
from pilotis.embedded import Addresses
from pilotis.ports import Kept

if TYPE_CHECKING:
    from integration.redis.conftest import Server, World

    from pilotis.ports import Deps


def names(url: str) -> set[str]:
    with closing(redis.Redis.from_url(url)) as client:
        return {key.decode() for key in client.scan_iter()}


class Site:
    """A service whose queues and whose budgets are in two Redis servers."""

    def __init__(self, database: str, cache: Server, broker: Server, folder: Path) -> None:
        self.cache, self.broker = cache, broker
        told = {"DATABASE": database, "REDIS": cache.url, "BROKER": broker.url}
        environ = dict(os.environ) | {f"PILOTIS_{name}_URL": url for name, url in told.items()}
        self.given = wiring.settings(env="dev", data=folder / "data", environ=environ, folder=folder)
        self.plan, self.env = wiring.load_plan(self.given)
        with wiring.stack(self.given, self.plan, self.env) as self.addresses:
            assert self.addresses.queues_url == broker.url

    @contextmanager
    def workers(self) -> Iterator[None]:
        environ = wiring.child_environ(self.given, self.plan, self.env, self.addresses)
        started = [
            subprocess.Popen([sys.executable, "-m", "pilotis.tasks", queue], env=environ) for queue in ("ingest", "embed")
        ]
        try:
            yield
        finally:
            for worker in started:
                worker.send_signal(signal.SIGTERM)
            for worker in started:
                worker.wait(30)

    async def upload(self, deps: Deps, name: str, folder: Path) -> str:
        (folder / name).write_text(f"# {name}\n\nThe bridge called {name} is made of granite.\n")
        document, _ = await receive(
            folder / name, self.env, deps, bu="north", collection="default", name=name, media_type="text/markdown", metadata={}
        )
        return document.id

    async def indexed(self, deps: Deps, document: str) -> None:
        async with asyncio.timeout(60):
            while not (await deps.documents.counts("north", [document])).get("indexed"):  # noqa: ASYNC110 - another process works
                await asyncio.sleep(0.1)


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Server]:
    made = type(server)(tmp_path_factory.mktemp("broker"))
    made.start()
    assert made.say("CONFIG", "SET", "maxmemory-policy", "noeviction") == b"+OK"
    yield made
    made.kill()


async def test_the_queue_is_in_one_and_money_in_the_other(
    database: str, server: Server, broker: Server, own: World, tmp_path: Path
) -> None:
    site = Site(database, server, broker, tmp_path)
    async with wiring.open_deps(site.given, site.plan, site.env, addresses=site.addresses) as deps:
        await own.open(own.process())
        first = await site.upload(deps, "first.md", tmp_path)
        waiting = names(broker.url)
        assert f"{wiring.namespace(site.plan, site.env)}:ingest" in waiting, "a nudge waits"
        with site.workers():
            await site.indexed(deps, first)
            hold = (await own.opened[0].admission.admit(own.asks("r1"))).hold
            await own.opened[0].admission.settle(hold, own.cost(hold))
            in_broker, in_cache = names(broker.url), names(server.url)
            assert any(key.endswith("meter") for key in in_cache)
            assert not any(key.endswith("meter") for key in in_broker)
            assert not [key for key in in_cache if "_kombu" in key or "unread" in key or key.endswith(":ingest")]

            broker.kill()  # uploads are acknowledged all the same, and found once it is back
            second = await site.upload(deps, "second.md", tmp_path)
            probes = service.probes(deps, site.env, site.addresses)
            assert {"redis", "broker"} <= probes.keys()
            await probes["redis"]()
            with pytest.raises(Exception, match="Redis is away"):
                await probes["broker"]()
            broker.start()
            await site.indexed(deps, second)


async def test_a_full_cache_evicts_answers_and_never_a_counter(own: World, broker: Server) -> None:
    money = own.process()
    await own.open(money)
    queue = CeleryQueue(broker.url, namespace=own.namespace)
    await queue.nudge("ingest")
    assert own.server.say("CONFIG", "SET", "maxmemory", "8mb") == b"+OK"
    for n in range(100):
        hold = (await money.admission.admit(own.asks(f"r{n}", 10))).hold
        keep = Kept(answer_key=f"k{n}", record=b"x" * 200_000, ttl_s=600, documents=("d1",))
        await money.admission.settle(hold, own.cost(hold, 10), keep)
    with closing(redis.Redis.from_url(own.server.url)) as client:
        info: Any = client.info("stats")
    assert info["evicted_keys"] > 50
    assert 0 < (await money.cache.stats()).answers < 50
    assert await own.spent(money) == (1_000, 0)
    await own.agree(money)
    assert f"{own.namespace}:ingest" in names(broker.url)
    await queue.close()


class Door:
    """TLS before a Redis: what comes in is handed on, both ways."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.authority, certificate = _certificates(folder)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._behind = str(server.folder / "redis.sock")
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"rediss://127.0.0.1:{self._listening.getsockname()[1]}/0"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                arrived, _ = self._listening.accept()
                threading.Thread(target=self._hand_on, args=(arrived,), daemon=True).start()

    def _hand_on(self, arrived: socket.socket) -> None:
        with (
            suppress(OSError),
            arrived,
            self._context.wrap_socket(arrived, server_side=True) as outer,
            socket.socket(socket.AF_UNIX) as inner,
        ):
            inner.connect(self._behind)
            threading.Thread(target=_pump, args=(inner, outer), daemon=True).start()
            _pump(outer, inner)


def _pump(of: socket.socket, to: socket.socket) -> None:
    with suppress(OSError):
        while chunk := of.recv(1 << 16):
            to.sendall(chunk)
        to.shutdown(socket.SHUT_RDWR)


def _certificates(folder: Path) -> tuple[Path, Path]:
    """An authority, and a certificate with its key for 127.0.0.1."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "authority.pem").write_bytes(public)
    (folder / "both.pem").write_bytes(public + private)
    return folder / "authority.pem", folder / "both.pem"


@pytest.fixture
def door(broker: Server, tmp_path: Path) -> Iterator[Door]:
    made = Door(broker, tmp_path)
    yield made
    made.close()


async def test_a_broker_with_a_certificate_of_nobody_we_trust_is_not_spoken_to(
    door: Door, broker: Server, caplog: pytest.LogCaptureFixture
) -> None:
    queue = CeleryQueue(door.url, namespace="tls")
    with caplog.at_level(logging.WARNING):
        queue.insist("ingest")
        queue.nudge_now("ingest")
    await queue.close()
    assert "certificate verify failed" in caplog.text.lower()
    assert names(broker.url) == set()


async def test_both_are_spoken_to_over_tls(door: Door, broker: Server, own: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(door.authority))
    queue = CeleryQueue(door.url, namespace="tls")
    await queue.nudge("ingest")
    await queue.close()
    assert "tls:ingest" in names(broker.url)
    money = RedisMoney(door.url, env=own.env, namespace="tls", instance="one")
    own.opened.append(money)
    await own.open(money)
    hold = (await money.admission.admit(own.asks("r1"))).hold
    await money.admission.settle(hold, own.cost(hold))
    assert await own.spent(money) == (16_500, 0)


def test_addresses_know_where_the_queues_are() -> None:
    one = Addresses(database_url="", redis_url="redis://cache")
    assert (one.queues_url, one._replace(broker_url="redis://broker").queues_url) == ("redis://cache", "redis://broker")
