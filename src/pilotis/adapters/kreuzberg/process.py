"""The parent's side of the reading process: started, asked, timed, and never believed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

from pilotis.adapters import niceness
from pilotis.adapters.kreuzberg.child import LENGTH
from pilotis.adapters.kreuzberg.tables import MAX_CHARACTERS
from pilotis.adapters.kreuzberg.tesseract import Tesseract
from pilotis.errors import SetupError

MAX_ANSWER_BYTES = 4 * MAX_CHARACTERS + (16 << 20)
"""What a text of the greatest length takes in UTF-8, and some room for the rest."""
_WARNING_CHARACTERS = 20_000
_START_S = 60.0
_MODULE = "pilotis.adapters.kreuzberg.child"
_REMEDY = (
    "run `pilotis doctor`; limits.parse_memory_mib must be 256 at least, and TMPDIR a folder with 16 MiB free that libraries "
    "may be loaded from (not mounted noexec)"
)


@dataclass(slots=True)
class Child:
    process: subprocess.Popen[bytes]
    stderr: IO[bytes]
    unbounded: tuple[str, ...] = ()
    """What the kernel of this machine does not bound."""
    files: int = 0
    timed_out: bool = False
    babbled: bool = False
    """It answered more than can be true."""

    @classmethod
    def start(cls, memory_bytes: int, folder: str, ocr: Tesseract | None, environment: Mapping[str, str]) -> Child:
        """Raises SetupError where it does not come up."""
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        seeing = [ocr.languages, ocr.folder] if ocr else ["", ""]
        with tempfile.TemporaryDirectory(prefix="pilotis-parser-", dir=folder, ignore_cleanup_errors=True) as scratch:
            process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", _MODULE, str(memory_bytes), str(os.getpid()), folder, scratch, *seeing],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd="/",
                start_new_session=True,
                env={
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "LC_ALL": "C.UTF-8",
                    "TMPDIR": scratch,
                    **({"TESSDATA_PREFIX": ocr.folder} if ocr else {}),
                    "OMP_THREAD_LIMIT": "1",  # Tesseract's; it is slower with more
                    "MALLOC_ARENA_MAX": "2",  # each arena reserves 64 MiB of the address space that is limited
                    **environment,
                },
            )
            niceness.pass_on(process.pid)
            child = cls(process, stderr)
            hello = child._timed(_START_S, child._receive)
        if hello is None or hello.get("broken"):
            child.end()
            last_words = child.last_words().strip().rpartition("\n")[2][-300:]
            said = (hello and hello["broken"]) or last_words or "it ended without a word"
            raise SetupError(f"the parser process does not start: {said}", remedy=_REMEDY)
        child.unbounded = tuple(hello["unbounded"])
        return child

    def exchange(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any] | None:
        """The answer, or None where the child died, was killed for its time, or answered what no reader would."""
        self.files += 1
        # What earlier files made it say does not count against this one. The child shares the offset.
        self.stderr.seek(0)
        self.stderr.truncate()
        body = json.dumps(request).encode()

        def talk() -> dict[str, Any] | None:
            self._requests.write(LENGTH.pack(len(body)) + body)
            self._requests.flush()
            return self._receive()

        answer = self._timed(timeout_s, talk)
        if answer is not None and not _makes_sense(answer):
            self.babbled = True
            return None
        return answer

    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """From any thread. With whatever it has started, where no kernel forbade that."""
        if self.process.returncode is None:  # once it was waited for, its number may be another's
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

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
        except (OSError, ValueError):  # a broken pipe, or one that `kill` found closed
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
        self.babbled = length > MAX_ANSWER_BYTES
        body = b"" if self.babbled else self._answers.read(length)
        if len(body) < length:
            return None
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        self.babbled = not isinstance(answer, dict)
        return answer if isinstance(answer, dict) else None


def _makes_sense(answer: dict[str, Any]) -> bool:
    """A child that a file has taken over can write anything into its pipe."""
    if not isinstance(answer.get("rss"), int):
        return False
    if answer.get("memory") is True or isinstance(answer.get("crash"), str):
        return True
    if "parsed" not in answer:
        return isinstance(answer.get("reason"), str) and isinstance(answer.get("remedy", ""), str)
    parsed = answer["parsed"]
    return (
        isinstance(parsed, dict)
        and isinstance(parsed.get("text"), str)
        and isinstance(parsed.get("title"), str | None)
        and _are(parsed.get("page_starts"), int)
        and _are(parsed.get("warnings"), str)
        and len(parsed["text"]) <= MAX_CHARACTERS
        and sum(map(len, parsed["warnings"])) <= _WARNING_CHARACTERS
        and parsed["page_starts"] == sorted(parsed["page_starts"])
        and all(0 <= start <= len(parsed["text"]) for start in parsed["page_starts"])
    )


def _are(values: object, kind: type) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)
