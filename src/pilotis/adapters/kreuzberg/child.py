"""The process that reads files, bounded by the kernel: `python -m pilotis.adapters.kreuzberg.child MEMORY_BYTES PARENT_PID`.

It speaks on its pipes in frames: eight bytes of length (big endian), then a JSON object. First it says hello; then each request
`{"path", "media_type", "cpu_s"}` gets one answer, `{"parsed": {...}, "rss": bytes}` or `{"reason", "remedy", "rss"}`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

LENGTH = struct.Struct(">Q")
_PR_SET_PDEATHSIG = 1
_STDERR_BYTES = 1 << 20
_FILES = 64


def main() -> None:
    memory, parent = int(sys.argv[1]), int(sys.argv[2])
    _bound(memory, parent)
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not land between two frames
    from pilotis.adapters.kreuzberg import formats
    from pilotis.adapters.kreuzberg.unreadable import Unreadable

    _send(answers, {"hello": os.getpid()})
    while (request := _receive(requests)) is not None:
        _renew_cpu(int(request["cpu_s"]))
        try:
            answer: dict[str, Any] = {"parsed": formats.read(Path(request["path"]), request["media_type"])}
        except Unreadable as error:
            answer = {"reason": error.reason, "remedy": error.remedy}
        except MemoryError:
            answer = {"memory": True}
        except OSError as error:
            answer = {"reason": f"the file cannot be read: {error.strerror or error}", "remedy": "check its permissions"}
        except RecursionError:
            answer = {"reason": "it is nested too deeply", "remedy": "flatten it"}
        _send(answers, answer | {"rss": _rss()})


def _bound(memory: int, parent: int) -> None:
    for limit, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, _STDERR_BYTES),
        (resource.RLIMIT_NOFILE, _FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # a stricter limit is already set, or the system has none of this kind
            resource.setrlimit(limit, (value, value))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit(0)


def _renew_cpu(seconds: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + seconds + 1, hard))


def _rss() -> int:
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _receive(stream: BinaryIO) -> dict[str, Any] | None:
    header = stream.read(LENGTH.size)
    if len(header) < LENGTH.size:
        return None
    found: dict[str, Any] = json.loads(stream.read(LENGTH.unpack(header)[0]))
    return found


def _send(stream: BinaryIO, message: dict[str, Any]) -> None:
    body = json.dumps(message, ensure_ascii=False).encode("utf-8", "replace")
    stream.write(LENGTH.pack(len(body)))
    stream.write(body)
    stream.flush()


if __name__ == "__main__":
    main()
