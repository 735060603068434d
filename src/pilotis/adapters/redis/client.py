"""One connection to Redis per process, on which all calls travel together, and the one place where its errors become ours.

What is asked within one turn of the event loop goes out in one piece, and replies are matched in order: Redis answers one command
after the other anyway, so more connections would only cost more. redis-py opens the connection, logs in and parses.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from pilotis.errors import Transient

log = logging.getLogger(__name__)

TIMEOUT_S = 1.0
"""For a connection, and for each reply."""
TURNS = 5
"""Of the event loop, after the time is up: the process may have been busy, and the reply lie in its socket."""
AWAY_S = 1.0
"""How long a Redis that could not be reached is left alone: calls fail at once meanwhile."""

SCRIPTS = (
    "admit",
    "begin",
    "settle",
    "release",
    "count",
    "rejoin",
    "seed",
    "lead",
    "standing",
    "remove",
    "free",
    "peek",
    "forget",
    "pace",
    "sources",
)


@lru_cache
def script(name: str) -> tuple[str, str]:
    """A script, with what all of them share before it, and its SHA-1, by which Redis knows it."""
    folder = files("pilotis.adapters.redis").joinpath("lua")
    text = "\n".join(folder.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in ("common", name))
    return text, sha1(text.encode(), usedforsecurity=False).hexdigest()


class Wire:
    """Calls to one Redis. Opening one connects to nothing; it connects when it is first used, and again after each failure.

    Every failure is a Transient: one that says "Redis is away". Whether the call was carried out is then not known.
    """

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._pool = ConnectionPool.from_url(
            url,
            protocol=2,
            socket_timeout=None,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            client_name="pilotis",
        )
        self._timeout_s = timeout_s
        self._line: _Line | None = None
        self._opening = asyncio.Lock()
        self._away_until = 0.0
        self._why = ""
        self.on_lost: Callable[[], None] = _nothing
        """Called when a connection that was open has failed."""

    async def run(self, name: str, key: str, *args: str | bytes | int) -> Any:
        """Run a script on the state that `key` stands for. Its first argument is the run id of the server it reaches."""
        line = self._line or await self._open()
        text, digest = script(name)
        try:
            return await self._reply(line.send(("EVALSHA", digest, 1, key, line.run, *args)))
        except NoScriptError:  # somebody flushed the scripts: it was not run
            return await self._reply(line.send(("EVAL", text, 1, key, line.run, *args)))

    def tell(self, name: str, key: str, *args: str | bytes | int) -> asyncio.Future[Any] | None:
        """The same without waiting: it goes out with the next turn of the loop. None where no connection is open."""
        line = self._line
        return None if line is None else line.send(("EVALSHA", script(name)[1], 1, key, line.run, *args))

    async def call(self, *command: str | bytes | int) -> Any:
        """Any other command."""
        line = self._line or await self._open()
        return await self._reply(line.send(command))

    async def calls(self, *commands: tuple[str | bytes | int, ...]) -> list[Any]:
        """Several, sent together."""
        if not commands:
            return []
        line = self._line or await self._open()
        return [await self._reply(reply) for reply in [line.send(command) for command in commands]]

    @property
    def is_open(self) -> bool:
        return self._line is not None

    async def close(self) -> None:
        line, self._line = self._line, None
        if line:
            await line.close()

    async def _reply(self, reply: asyncio.Future[Any]) -> Any:
        try:
            return await reply
        except NoScriptError:
            raise
        except ReadOnlyError as error:  # it follows another one now, which a new connection finds
            await self.close()
            raise _away(str(error)) from error
        except ResponseError as error:
            raise _away(f"it refuses: {error}") from error

    async def _open(self) -> _Line:
        async with self._opening:
            if self._line:
                return self._line
            loop = asyncio.get_running_loop()
            if loop.time() < self._away_until:
                raise _away(self._why)
            connection: Any = self._pool.make_connection()  # type: ignore[no-untyped-call]
            try:
                async with asyncio.timeout(self._timeout_s):
                    self._line = await _Line.open(connection, self._lost, timeout_s=self._timeout_s)
            except (RedisError, OSError, TimeoutError) as error:
                await _hang_up(connection)
                self._why = str(error) or f"no answer within {self._timeout_s:g} s"
                self._away_until = loop.time() + AWAY_S
                raise _away(self._why) from error
            except BaseException:  # a cancelled caller must not leave a connection that nobody closes
                await _hang_up(connection)
                raise
            return self._line

    def _lost(self, line: _Line, why: str) -> None:
        if self._line is line:
            self._line = None
            log.warning("the connection to Redis is lost: %s", why)
            self.on_lost()


class _Line:
    """An open connection: what was sent and waits for its reply, in order."""

    def __init__(self, connection: Any, lost: Callable[[_Line, str], None], *, run: str, timeout_s: float) -> None:
        self.run = run
        self._connection, self._lost, self._timeout_s = connection, lost, timeout_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._out: list[bytes] = []
        self._writing: asyncio.Task[None] | None = None
        self._suspect: asyncio.Future[Any] | None = None
        self._turns_left = 0
        self._closed = False
        self._watch: asyncio.TimerHandle | None = None
        self._reading = self._loop.create_task(self._read())

    @classmethod
    async def open(cls, connection: Any, lost: Callable[[_Line, str], None], *, timeout_s: float) -> _Line:
        await connection.connect()
        loads = [("SCRIPT", "LOAD", script(name)[0]) for name in SCRIPTS]
        asked = [("INFO", "server"), ("INFO", "memory"), *loads]
        await connection.send_packed_command(connection.pack_commands(asked), check_health=False)
        told = [await connection.read_response() for _ in asked]
        info = dict(row.partition(":")[::2] for part in told[:2] for row in part.decode().splitlines())
        if info.get("maxmemory", "0") != "0" and info.get("maxmemory_policy", "").startswith("allkeys"):
            log.error("Redis may drop budgets when it is full: set its maxmemory-policy to volatile-lru or noeviction")
        return cls(connection, lost, run=info["run_id"], timeout_s=timeout_s)

    def send(self, command: tuple[str | bytes | int, ...]) -> asyncio.Future[Any]:
        """The reply to come. What fails, fails with Transient, or with the error that Redis answered."""
        reply = self._loop.create_future()
        if self._closed:
            reply.set_exception(_away("the connection is lost"))
            return reply
        # Before it counts as sent: one that cannot be packed must not shift all replies after it to others.
        self._out += self._connection.pack_command(*command)
        self._waiting.append((self._loop.time() + self._timeout_s, reply))
        if self._writing is None:
            self._writing = self._loop.create_task(self._write())
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout_s, self._look)
        return reply

    async def close(self) -> None:
        self._fail("it was closed")
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading
        await _hang_up(self._connection)

    async def _write(self) -> None:
        try:
            while self._out and not self._closed:
                out, self._out = self._out, []
                await self._connection.send_packed_command(out, check_health=False)
        except (RedisError, OSError) as error:
            self._fail(str(error))
        finally:
            self._writing = None

    async def _read(self) -> None:
        try:
            while True:
                try:
                    value = await self._connection.read_response()
                except ResponseError as error:
                    self._answer(None, error)
                else:
                    self._answer(value, None)
        except (RedisError, OSError) as error:
            self._fail(str(error) or "the server hung up")
            await _hang_up(self._connection)

    def _answer(self, value: Any, error: Exception | None) -> None:
        _, reply = self._waiting.popleft()
        if reply.done():  # its caller was cancelled
            return
        if error:
            reply.set_exception(error)
        else:
            reply.set_result(value)

    def _look(self) -> None:
        """Give up a connection whose oldest reply is overdue, but not because this process was busy and did not read."""
        self._watch = None
        if self._closed or not self._waiting:
            return
        deadline, oldest = self._waiting[0]
        if self._loop.time() < deadline:
            self._watch = self._loop.call_at(deadline, self._look)
        elif oldest is not self._suspect:
            self._suspect, self._turns_left = oldest, TURNS
            self._watch = self._loop.call_later(self._timeout_s / 10, self._look)
        elif self._turns_left:
            # Timers come before sockets: only whole turns of the loop prove that there was nothing to read.
            self._turns_left -= 1
            self._loop.call_soon(self._look)
        else:
            self._fail(f"no reply within {self._timeout_s:g} s")
            self._reading.cancel()
            self._hanging_up = self._loop.create_task(_hang_up(self._connection))

    def _fail(self, why: str) -> None:
        if self._closed:
            return
        self._closed = True
        if self._watch:
            self._watch.cancel()
        while self._waiting:
            _, reply = self._waiting.popleft()
            if not reply.done():
                reply.set_exception(_away(why))
        self._lost(self, why)


def _away(why: str) -> Transient:
    return Transient(f"Redis is away: {why}", remedy="see: pilotis doctor")


async def _hang_up(connection: Any) -> None:
    with suppress(RedisError, OSError):
        await connection.disconnect(nowait=True)


def _nothing() -> None:
    """Nobody wants to know."""
