"""The parser of the batch plane: one reading process at a time, killed when it takes too long or too much."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pilotis.adapters import niceness
from pilotis.adapters.kreuzberg.child import LENGTH
from pilotis.adapters.kreuzberg.media import BINARY, HEAD_BYTES, media_type
from pilotis.errors import Permanent, SetupError, Transient
from pilotis.rag.passage import Parsed

_START_S = 60.0
_MAX_ANSWER_BYTES = 1 << 29
_RECYCLE_FILES = 500
_RECYCLE_RSS_BYTES = 384 * 1024 * 1024
_MEMORY_SIGNS = ("memory allocation", "out of memory", "MemoryError", "Cannot allocate memory", "bad_alloc")
_GENERIC = frozenset({"", BINARY, "text/plain", "application/x-www-form-urlencoded", "binary/octet-stream"})


class KreuzbergParser:
    """Reads files in a child process; implements `ports.Parser`.

    `timeout_s` bounds one file's wall-clock time (and, doubled, its processor time), `memory_bytes` the child's address space.
    `environment` is all the environment the child gets: hostile files are read where no secret is. Calls wait for one another.
    """

    def __init__(
        self, *, timeout_s: float = 60.0, memory_bytes: int = 1 << 30, environment: Mapping[str, str] | None = None
    ) -> None:
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._environment = dict(environment or {})
        self._child: _Child | None = None
        # The kernel ties the child's life to the thread that started it, so one thread of our own does all the talking.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="parser")

    async def parse(self, path: Path, *, name: str, media_type: str) -> Parsed:
        """Read `path`, known to people as `name`; a vague `media_type` is settled by the file's content.

        Raises:
            Permanent: it cannot be read, with the reason.
            Transient: something outside killed the reading process.
            SetupError: the reading process does not start.
        """
        running = self._thread.submit(self._read, path, name, media_type)
        try:
            return await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            if not running.cancel() and self._child is not None:
                self._child.kill()
            raise

    async def close(self) -> None:
        """End the child; a file being read fails. Safe to call twice."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)
        if child is not None:
            child.dismiss()

    def _read(self, path: Path, name: str, given: str) -> Parsed:
        answer = self._ask(path, _settled(path, name, given))
        if "parsed" in answer:
            parsed = answer["parsed"]
            return Parsed(
                text=parsed["text"],
                title=parsed["title"],
                page_starts=tuple(parsed["page_starts"]),
                warnings=tuple(parsed["warnings"]),
            )
        if answer.get("memory"):
            raise self._too_much_memory()
        raise Permanent(answer["reason"], remedy=answer.get("remedy", ""))

    def _ask(self, path: Path, media: str) -> dict[str, Any]:
        child = self._child
        if child is not None and not child.alive():
            child.dismiss()
            child = None
        if child is None:
            child = self._child = _Child.start(self._memory_bytes, self._environment)
        request = {"path": str(path.absolute()), "media_type": media, "cpu_s": int(2 * self._timeout_s) + 1}
        answer = child.exchange(request, self._timeout_s)
        if answer is None:
            self._child = None
            raise self._death(child)
        if answer.get("memory") or child.files >= _RECYCLE_FILES or answer["rss"] > _RECYCLE_RSS_BYTES:
            self._child = None
            child.dismiss()
        return answer

    def _death(self, child: _Child) -> Exception:
        code = child.end()
        last_words = child.last_words()
        if child.timed_out or code == -signal.SIGXCPU:
            return Permanent(
                f"it took longer than {self._timeout_s:g} s to read", remedy="split it, or raise the parser's time limit"
            )
        if any(sign in last_words for sign in _MEMORY_SIGNS):
            return self._too_much_memory()
        if code == -signal.SIGKILL:
            return Transient("the reading process was killed from outside")
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Permanent(
            f"reading it crashed the parser ({name}): it is damaged or hostile", remedy="save it again with its own application"
        )

    def _too_much_memory(self) -> Permanent:
        size = f"{self._memory_bytes / 2**30:.2g} GiB" if self._memory_bytes >= 2**30 else f"{self._memory_bytes >> 20} MiB"
        return Permanent(f"it needs more than {size} of memory to read", remedy="split it, or raise the parser's memory limit")


def _settled(path: Path, name: str, given: str) -> str:
    """The content decides, then the given media type, for formats that look like plain text or like a bare container."""
    try:
        with path.open("rb") as file:
            found = media_type(name, file.read(HEAD_BYTES))
    except OSError as error:
        raise Permanent(
            f"the file cannot be read: {error.strerror}", remedy="check that it is there and may be read"
        ) from error
    plain = given.split(";", 1)[0].strip().lower()
    return plain if found == "text/plain" and plain not in _GENERIC and plain.startswith(("text/", "message/")) else found


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    stderr: IO[bytes]
    files: int = 0
    timed_out: bool = False

    @classmethod
    def start(cls, memory_bytes: int, environment: Mapping[str, str]) -> _Child:
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "pilotis.adapters.kreuzberg.child", str(memory_bytes), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd="/",
            start_new_session=True,
            env={
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "PYTHONDONTWRITEBYTECODE": "1",
                "LC_ALL": "C.UTF-8",
                "MALLOC_ARENA_MAX": "2",  # each arena reserves 64 MiB of the address space that is limited
                **environment,
            },
        )
        niceness.pass_on(process.pid)
        child = cls(process, stderr)
        if child._timed(_START_S, child._receive) is None:
            child.end()
            raise SetupError(
                f"the parser process does not start: {child.last_words()[-300:] or 'it ended without a word'}",
                remedy="run `pilotis doctor`; under 256 MiB the parser's memory limit is too small",
            )
        return child

    def exchange(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any] | None:
        """The answer, or None where the child died or was killed for its time."""
        self.files += 1
        body = json.dumps(request).encode()

        def talk() -> dict[str, Any] | None:
            self._requests.write(LENGTH.pack(len(body)) + body)
            self._requests.flush()
            return self._receive()

        return self._timed(timeout_s, talk)

    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """From any thread."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    def end(self) -> int:
        """Kill, wait, close the pipes; the exit code."""
        self.kill()
        code = self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
        self._answers.close()
        return code

    def dismiss(self) -> None:
        self.end()
        self.stderr.close()

    def last_words(self) -> str:
        if self.stderr.closed:
            return ""
        with self.stderr:
            self.stderr.seek(max(0, os.fstat(self.stderr.fileno()).st_size - 4000))
            return self.stderr.read().decode("utf-8", "replace")

    @property
    def _requests(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def _answers(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def _timed(self, timeout_s: float, talk: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
        timer = threading.Timer(timeout_s, self._expire)
        timer.daemon = True
        timer.start()
        try:
            return talk()
        except (OSError, ValueError):  # a broken pipe, or half a JSON document
            return None
        finally:
            timer.cancel()

    def _expire(self) -> None:
        self.timed_out = True
        self.kill()

    def _receive(self) -> dict[str, Any] | None:
        header = self._answers.read(LENGTH.size)
        if len(header) < LENGTH.size:
            return None
        length = LENGTH.unpack(header)[0]
        if length > _MAX_ANSWER_BYTES:
            return None
        answer: dict[str, Any] = json.loads(self._answers.read(length))
        return answer
