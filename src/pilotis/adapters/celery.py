"""Celery over Redis: the queues, the nudges that go in, the worker that takes them out.

A message says nothing but "look": what is to be done stands in the database. So losing one costs time and never a document, and
one that is unread makes the next needless.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import parse_qs, urlsplit

from pilotis.errors import Transient

if TYPE_CHECKING:
    from celery import Celery
    from redis import Redis

QueueName = Literal["ingest", "embed", "upkeep", "schedule", "eval"]

VISIBILITY_S = 3600
"""Above the longest task by far: a task that is only slow must not be delivered twice."""
UNREAD_S = 60
"""How long an unread nudge makes further ones needless; then one is sent again, in case it was lost."""
ROUND_S = 5.0
"""How often a worker looks by itself for work: nudges that were lost, leases that ran out."""
AWAY_S = 5.0
"""How long a Redis that did not answer is left alone."""
LONGEST_PAUSE_S = 30
LONGEST_ASKED_S = 300.0
"""How long a provider may ask to be left alone: then it is tried all the same."""

_log = logging.getLogger(__name__)


class CeleryQueue:
    """Wakes the workers of a queue; a thousand uploads in a row send one message. Opening one connects to nothing.

    A Redis that is away costs time, never a document: the nudge is dropped, and the workers look by themselves once it is back.
    """

    def __init__(self, redis_url: str, *, namespace: str) -> None:
        self._url = redis_url
        self._namespace = namespace
        self._away_until = -math.inf

    async def nudge(self, queue: QueueName) -> None:
        await asyncio.to_thread(self.nudge_now, queue)

    def nudge_now(self, queue: QueueName) -> None:
        """The same for a caller without an event loop."""

        def unless_unread(redis: Redis) -> None:
            if redis.set(self._unread(queue), 1, nx=True, ex=UNREAD_S):
                self._send(queue)

        self._try(unless_unread)

    def insist(self, queue: QueueName) -> None:
        """Send a message though another may be unread."""
        self._try(lambda _: self._send(queue))

    def read(self, queue: QueueName) -> None:
        """From now on a nudge sends a message again: called before the work is looked for, so that none falls between."""
        self._try(lambda redis: redis.delete(self._unread(queue)))

    def quieten(self, queue: QueueName, seconds: float) -> None:
        """Nudges are needless for that long: a message is on its way that comes later."""
        self._try(lambda redis: redis.set(self._unread(queue), 1, ex=math.ceil(seconds)))

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    @cached_property
    def _app(self) -> Celery:
        return build(self._url, namespace=self._namespace)

    @cached_property
    def _redis(self) -> Redis:
        return _client(self._url)

    def _send(self, queue: QueueName) -> None:
        self._app.send_task(task_name(queue), queue=queue, ignore_result=True, retry=False)

    def _try(self, act: Callable[[Redis], object]) -> None:
        from kombu.exceptions import KombuError, OperationalError
        from redis.exceptions import RedisError

        if time.monotonic() < self._away_until:
            return
        try:
            act(self._redis)
        except (RedisError, OSError, KombuError, OperationalError) as error:
            self._away_until = time.monotonic() + AWAY_S
            _log.warning("Redis is away, the workers' own round will find the work: %s", error)

    def _close(self) -> None:
        for opened in ("_app", "_redis"):
            if opened in self.__dict__:
                self.__dict__[opened].close()

    def _unread(self, queue: QueueName) -> str:
        return f"{self._namespace}:unread:{queue}"


async def ping(redis_url: str) -> None:
    """Raises Transient where Redis does not answer within a second."""
    await asyncio.to_thread(_ping, redis_url)


def build(redis_url: str, *, namespace: str) -> Celery:
    """The Celery application; `namespace` keeps envs that share one Redis apart."""
    from celery import Celery
    from kombu import Queue

    app = Celery("pilotis", broker=broker_url(redis_url), set_as_current=False)
    if redis_url.startswith("rediss://"):  # else Celery would take any certificate
        app.conf.broker_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    app.conf.update(
        task_queues=[Queue(name) for name in get_args(QueueName)],
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "global_keyprefix": f"{namespace}:",
            "visibility_timeout": VISIBILITY_S,
            "socket_timeout": 5,
            "socket_connect_timeout": 5,
        },
    )
    return app


def broker_url(redis_url: str) -> str:
    """redis-py's address as Celery's: they differ for unix sockets."""
    if not redis_url.startswith("unix://"):
        return redis_url
    parts = urlsplit(redis_url)
    database = parse_qs(parts.query).get("db", ["0"])[0]
    return f"redis+socket://{parts.netloc}{parts.path}?virtual_host={database}"


def task_name(queue: QueueName) -> str:
    return f"pilotis.{queue}"


def serve(redis_url: str, queue: QueueName, job: Callable[[], bool], *, namespace: str, every_s: float = ROUND_S) -> None:
    """Run a worker of one queue in this thread until SIGTERM, which lets the job in hand end.

    Each message runs `job` once; where it returns True, another message follows. Where it raises Transient it runs again, after
    pauses that grow exponentially, with jitter. Whenever the worker has been idle for `every_s` it looks by itself.
    """
    from celery.signals import setup_logging, worker_ready
    from celery.utils.time import get_exponential_backoff_interval

    nudges = CeleryQueue(redis_url, namespace=namespace)
    app = build(redis_url, namespace=namespace)

    rounds = _Rounds(lambda: nudges.insist(queue), every_s)

    @app.task(name=task_name(queue), bind=True, max_retries=None)
    def turn(task: Any) -> None:
        nudges.read(queue)
        with rounds.working():
            try:
                more = job()
            except Transient as error:
                backoff_s = get_exponential_backoff_interval(
                    1, min(task.request.retries, 10), LONGEST_PAUSE_S, full_jitter=True
                )
                pause_s = max(1 + backoff_s, min(error.retry_after_s, LONGEST_ASKED_S))
                _log.warning("%s; again in %d s", error.message, pause_s)
                nudges.quieten(queue, pause_s + ROUND_S)
                rounds.pause(pause_s)
                raise task.retry(exc=error, countdown=pause_s) from error
        if more:
            nudges.insist(queue)

    def begin(**_: Any) -> None:
        _log.info("ready")
        threading.Thread(target=rounds.run, name="rounds", daemon=True).start()

    worker_ready.connect(begin, weak=False)
    setup_logging.connect(_keep_logging, weak=False)
    warnings.filterwarnings("ignore", message="[^.]*superuser privileges")  # JSON messages cannot hurt root
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    try:
        with contextlib.suppress(SystemExit):
            app.worker_main(["--quiet", "worker", "-Q", queue, "-P", "solo", "-c", "1", "-n", f"{queue}@%h", *quiet])
    finally:
        rounds.end()


class _Rounds:
    """A worker's own look for work, at once and then whenever it has been idle for a while.

    Not by a nudge: a process that is killed between marking its nudge as unread and sending it leaves a mark without a message.
    """

    def __init__(self, look: Callable[[], None], every_s: float) -> None:
        self._look, self._every_s = look, every_s
        self._ended = threading.Event()
        self._working = False
        self._next = -math.inf

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        self._working, self._next = True, time.monotonic() + self._every_s
        try:
            yield
        finally:
            self._working, self._next = False, max(self._next, time.monotonic() + self._every_s)

    def pause(self, seconds: float) -> None:
        """A turn comes by itself after that long."""
        self._next = time.monotonic() + seconds + self._every_s

    def run(self) -> None:
        while not self._ended.is_set():
            if not self._working and time.monotonic() >= self._next:
                self._next = time.monotonic() + self._every_s
                self._look()
            self._ended.wait(ROUND_S / 10)

    def end(self) -> None:
        self._ended.set()


def _keep_logging(**_: Any) -> None:
    """Celery would set up logging its own way, and write three lines per message, every few seconds for ever."""
    for name in ("celery.app.trace", "celery.worker.strategy"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _ping(redis_url: str) -> None:
    from redis.exceptions import RedisError

    client = _client(redis_url)
    try:
        client.ping()
    except (RedisError, OSError) as error:
        raise Transient(f"Redis is away: {error}", remedy="see: pilotis doctor") from error
    finally:
        client.close()


def _client(redis_url: str) -> Redis:
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return Redis.from_url(redis_url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))
