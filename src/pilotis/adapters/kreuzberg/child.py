"""The process that reads files, fenced in by the kernel: `python -m pilotis.adapters.kreuzberg.child MEMORY_BYTES PARENT_PID FOLDER SCRATCH LANGUAGES TESSDATA`.

It speaks on its pipes in frames: eight bytes of length (big endian), then a JSON object. First it says hello, with what the kernel
here does not bound, or what keeps it from reading; then each request `{"path", "media_type", "time_s"}` gets one answer:
`{"parsed": {...}, "spent": bool, "rss": bytes}`, `{"reason", "remedy", "rss"}`, `{"memory": true, "rss"}` or `{"crash": what, "rss"}`.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import resource
import shutil
import struct
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pilotis
from pilotis.adapters.kreuzberg import fence
from pilotis.adapters.kreuzberg.unreadable import Unreadable

_UNREACHABLE = frozenset({errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.EIO, errno.EMFILE, errno.ENFILE})
_SEEING = 0.75
"""The share of a file's time after which OCR begins no other page: what was read until then is kept."""
LENGTH = struct.Struct(">Q")


_SMALLEST_PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Count 1/Kids[3 0 R]>>endobj "
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj trailer<</Root 1 0 R>>"
)


def main() -> None:
    memory, parent, folder, scratch, languages, tessdata = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:7]
    readable = [folder, str(Path(pilotis.__file__).parent), *_place_of("kreuzberg"), *([tessdata] if tessdata else [])]
    unbounded = fence.enclose(memory_bytes=memory, parent=parent, readable=readable, scratch=scratch)
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not land between two frames
    from pilotis.adapters.kreuzberg import formats, ocr

    # kreuzberg unpacks its PDF library below TMPDIR when it meets the first PDF, and may not write any more then. Left to itself
    # it takes a path that everybody can guess, and loads whatever lies there.
    broken = formats.unready(_SMALLEST_PDF) or (languages and ocr.unready())
    shutil.rmtree(scratch, ignore_errors=True)
    unbounded += fence.seal()
    _send(answers, {"hello": os.getpid(), "unbounded": unbounded, "broken": broken})
    while (request := _receive(requests)) is not None:
        fence.renew_cpu(int(2 * request["time_s"]) + 1)
        seen = ocr.Ocr(languages=languages, ends=time.monotonic() + _SEEING * request["time_s"]) if languages else None
        _send(answers, _answer(partial(formats.read, Path(request["path"]), request["media_type"], seen)) | {"rss": _rss()})


def _place_of(package: str) -> list[str]:
    """The folder it is installed in, beside which its libraries lie."""
    found = importlib.util.find_spec(package)
    return [str(Path(place).parent) for place in (found.submodule_search_locations if found else None) or ()]


def _answer(read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        parsed = read()
        return {"parsed": parsed, "spent": parsed.pop("spent", False)}
    except Unreadable as error:
        return {"reason": error.reason, "remedy": error.remedy}
    except (MemoryError, OSError) as error:
        return _of_system(error)
    except RecursionError:
        return {"reason": "it is nested too deeply", "remedy": "flatten it"}
    except BaseException as error:  # a bug of a reader's, met by one file, and Rust's panics, which are no Exception
        return {"crash": f"{type(error).__name__}: {error}"[:2000]}


def _of_system(error: MemoryError | OSError) -> dict[str, Any]:
    if isinstance(error, MemoryError) or error.errno == errno.ENOMEM:
        return {"memory": True}
    if error.errno in _UNREACHABLE:
        return {"reason": f"the file cannot be read: {error.strerror}", "remedy": "check its permissions"}
    # What the library calls an error of input is in the file.
    return {"reason": "the file is damaged: it cannot be read to its end", "remedy": "send an intact copy"}


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
