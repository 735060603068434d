"""The parser of the batch plane: one reading process at a time, killed when it takes too long or too much."""

from __future__ import annotations

import asyncio
import logging
import signal
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pilotis.adapters.kreuzberg.media import BINARY, HEAD_BYTES, media_type
from pilotis.adapters.kreuzberg.process import Child
from pilotis.adapters.kreuzberg.tesseract import tesseract
from pilotis.derive.plan import Env
from pilotis.errors import Permanent, Transient
from pilotis.rag.passage import Parsed

log = logging.getLogger(__name__)

_RECYCLE_FILES = 500
_RECYCLE_RSS_BYTES = 384 * 1024 * 1024
_MEMORY_SIGNS = ("memory allocation", "out of memory", "MemoryError", "Cannot allocate memory", "bad_alloc")
_ANEW = "save it again with its own application"
_GENERIC = frozenset({"", BINARY, "text/plain", "application/x-www-form-urlencoded", "binary/octet-stream"})


class KreuzbergParser:
    """Reads files in a child process; implements `ports.Parser`.

    `timeout_s` bounds one file's wall-clock time (and, doubled, its processor time), `memory_bytes` the child's address space.
    Files must lie under `folder` (that of temporary files): the child may read nothing else. `environment` is all the environment
    the child gets: hostile files are read where no secret is. With `ocr_languages` (ISO 639-1) images are read too, where
    Tesseract's data for them is installed or lies in `tessdata`. Calls wait for one another.
    """

    def __init__(
        self,
        *,
        timeout_s: float = 60.0,
        memory_bytes: int = 1 << 30,
        folder: Path | None = None,
        ocr_languages: Sequence[str] = (),
        tessdata: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = str((folder or Path(tempfile.gettempdir())).resolve())
        self._ocr_languages, self._tessdata = ocr_languages, tessdata
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._environment = dict(environment or {})
        self._child: Child | None = None
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

    async def unbounded(self) -> tuple[str, ...]:
        """Start the reading process; what the kernel of this machine does not bound, in words. Raises SetupError."""
        return (await asyncio.wrap_future(self._thread.submit(self._living))).unbounded

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
        if "crash" in answer:
            raise _crashed(answer["crash"])
        raise Permanent(answer["reason"], remedy=answer.get("remedy", ""))

    def _ask(self, path: Path, media: str) -> dict[str, Any]:
        child = self._living()
        request = {"path": str(path.absolute()), "media_type": media, "time_s": self._timeout_s}
        answer = child.exchange(request, self._timeout_s)
        if answer is None:
            self._child = None
            raise self._death(child)
        if (
            answer.get("memory")
            or "crash" in answer
            or answer.get("spent")
            or child.files >= _RECYCLE_FILES
            or answer["rss"] > _RECYCLE_RSS_BYTES
        ):
            self._child = None
            child.dismiss()
        return answer

    def _living(self) -> Child:
        child = self._child
        if child is not None and not child.alive():
            child.dismiss()
            child = None
        if child is None:
            ocr = tesseract(self._ocr_languages, self._tessdata) if self._ocr_languages else None
            child = self._child = Child.start(self._memory_bytes, self._folder, ocr, self._environment)
        return child

    def _death(self, child: Child) -> Exception:
        code = child.end()
        last_words = child.last_words()
        if child.timed_out or code == -signal.SIGXCPU:
            return Permanent(
                f"it took longer than {self._timeout_s:g} s to read", remedy="split it, or raise the parser's time limit"
            )
        if any(sign in last_words for sign in _MEMORY_SIGNS):
            return self._too_much_memory()
        if child.babbled:
            return Permanent("reading it gave more than any document holds: it is damaged or hostile", remedy=_ANEW)
        if code == -signal.SIGKILL:
            return Transient("the reading process was killed from outside")
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return _crashed(name)

    def _too_much_memory(self) -> Permanent:
        size = f"{self._memory_bytes / 2**30:.2g} GiB" if self._memory_bytes >= 2**30 else f"{self._memory_bytes >> 20} MiB"
        return Permanent(f"it needs more than {size} of memory to read", remedy="split it, or raise the parser's memory limit")


def open_parser(env: Env, environ: Mapping[str, str]) -> KreuzbergParser:
    """As the contract says. The reading process starts with the first file."""
    return KreuzbergParser(
        timeout_s=env.parse_timeout_s,
        memory_bytes=env.parse_memory_bytes,
        ocr_languages=env.ocr_languages,
        tessdata=environ.get("TESSDATA_PREFIX") or None,
    )


def _crashed(how: str) -> Permanent:
    log.warning("a file crashed its reader: %s", how)
    return Permanent("it is damaged or hostile, and crashed its reader", remedy=_ANEW)


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
