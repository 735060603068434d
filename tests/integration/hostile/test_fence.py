"""Each bound of the reading process, tried from inside it: the files here are programs, and the reader runs them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped,unused-ignore]
import pypdf
import pytest

from pilotis.adapters.kreuzberg import KreuzbergParser
from pilotis.errors import Permanent, SetupError

TAKEN_OVER = """
from pilotis.adapters.kreuzberg import formats

def read(path, media_type, ocr):
    found = {}
    exec(path.read_text(), found)
    return {"text": str(found["text"]), "title": None, "page_starts": [], "warnings": [], **found.get("more", {})}

formats.read = read
"""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's bounds are Linux'")


@pytest.fixture(scope="module")
def taken_over(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the child runs what it should read."""
    folder = tmp_path_factory.mktemp("taken_over")
    (folder / "sitecustomize.py").write_text(TAKEN_OVER)
    return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])}


@pytest.fixture(scope="module")
def child(taken_over: dict[str, str]) -> Iterator[KreuzbergParser]:
    parser = KreuzbergParser(environment=taken_over, timeout_s=20)
    yield parser
    asyncio.run(parser.close())


async def run(parser: KreuzbergParser, folder: Path, program: str) -> str:
    path = folder / "program.txt"
    path.write_text(textwrap.dedent(program))
    return (await parser.parse(path, name=path.name, media_type="text/plain")).text


async def refusal(parser: KreuzbergParser, folder: Path, program: str) -> str:
    with pytest.raises(Permanent) as caught:
        await run(parser, folder, program)
    assert caught.value.remedy
    return caught.value.message


TRY = """
def attempt(act):
    try:
        return f"done: {act()!r}"
    except BaseException as error:
        return type(error).__name__
"""


class TestInOneChild:
    async def test_this_kernel_bounds_everything(self, child: KreuzbergParser) -> None:
        found = await child.unbounded()
        if found:
            pytest.skip(f"this kernel does not bound: {', '.join(found)}")
        assert found == ()

    @pytest.mark.parametrize(
        "act",
        [
            "__import__('socket').socket()",
            "__import__('socket').socketpair(type=__import__('socket').SOCK_DGRAM)",
            "__import__('socket').socketpair()[0].connect('/dev/log')",
            "__import__('socket').create_connection(('127.0.0.1', 9))",
            "os.fork()",
            "os.posix_spawn('/bin/true', ['true'], {})",
            "os.execv('/bin/true', ['true'])",
            "os.kill(os.getppid(), 9)",
            "os.kill(-1, 9)",
            "os.setsid()",
            "open(FOLDER + '/new', 'w')",
            "open(FOLDER + '/program.txt', 'a')",
            "os.mkdir(FOLDER + '/new')",
            "os.unlink(FOLDER + '/program.txt')",
            "os.rename(FOLDER + '/program.txt', FOLDER + '/other')",
            "os.symlink('/etc/passwd', FOLDER + '/link')",
            "os.chmod(FOLDER + '/program.txt', 0o777)",
            "os.memfd_create('x')",
            "os.setuid(1)",
            "open('/etc/passwd').read()",
            "os.listdir('/etc')",
            "open(f'/proc/{os.getppid()}/environ').read()",
            "__import__('resource').setrlimit(__import__('resource').RLIMIT_NOFILE, (4096, 4096))",
            "__import__('resource').prlimit(os.getppid(), __import__('resource').RLIMIT_CPU, (1, 1))",
        ],
    )
    async def test_no_way_out(self, child: KreuzbergParser, tmp_path: Path, act: str) -> None:
        if missing := await child.unbounded():
            pytest.skip(f"this kernel does not bound: {', '.join(missing)}")
        program = f"{TRY}\nimport os\nFOLDER = {str(tmp_path)!r}\ntext = attempt(lambda: {act})"
        assert await run(child, tmp_path, program) in {"PermissionError", "OSError", "ValueError"}
        assert [path.name for path in tmp_path.iterdir()] == ["program.txt"]

    async def test_no_system_call_goes_around_the_wrappers(self, child: KreuzbergParser, tmp_path: Path) -> None:
        if (await child.unbounded()) or os.uname().machine != "x86_64":
            pytest.skip("the numbers are those of x86-64, and need its filter")
        program = """
            import ctypes, errno, struct
            libc = ctypes.CDLL(None, use_errno=True)
            def call(*numbers):
                libc.syscall(*(ctypes.c_long(number) for number in numbers))
                return errno.errorcode.get(ctypes.get_errno())
            text = [call(425, 8, 0), call(435, 0, 0), call(437, -100, 0, 0, 24), call(56, 17, 0, 0, 0, 0), call(101, 16, 1), call(321, 0)]
            """
        assert await run(child, tmp_path, program) == str(["EPERM", "ENOSYS", "ENOSYS", "EPERM", "EPERM", "EPERM"])

    async def test_threads_are_allowed(self, child: KreuzbergParser, tmp_path: Path) -> None:
        program = """
            import threading
            found = []
            thread = threading.Thread(target=found.append, args=["from a thread"])
            thread.start()
            thread.join()
            text = found[0]
            """
        assert await run(child, tmp_path, program) == "from a thread"

    async def test_open_files_are_few(self, child: KreuzbergParser, tmp_path: Path) -> None:
        program = """
            kept = []
            try:
                while True:
                    kept.append(open("/dev/null"))
            except OSError as error:
                text = f"{error.strerror} after {len(kept)}"
            """
        message, count = (await run(child, tmp_path, program)).rsplit(" ", 1)
        assert message == "Too many open files after"
        assert int(count) < 64

    async def test_only_its_pipes_are_inherited(self, child: KreuzbergParser, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("x")
        with (tmp_path / "secret").open() as kept:
            os.set_inheritable(kept.fileno(), True)
            found = await run(
                child,
                tmp_path,
                "import os\ntext = [os.readlink(f'/proc/self/fd/{n}') for n in range(9) if os.path.exists(f'/proc/self/fd/{n}')]",
            )
        assert "secret" not in found

    async def test_its_environment_holds_no_secret(
        self, taken_over: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
        monkeypatch.setenv("PILOTIS_DATABASE_URL", "postgresql://someone:secret@host/db")
        parser = KreuzbergParser(environment=taken_over)
        try:
            found = await run(parser, tmp_path, "import os, json\ntext = json.dumps(dict(os.environ))")
        finally:
            await parser.close()
        mine = {
            "PYTHONPATH",
            "LC_CTYPE",
            "PYTHONDONTWRITEBYTECODE",
            "LC_ALL",
            "MALLOC_ARENA_MAX",
            "LD_LIBRARY_PATH",
            "TMPDIR",
            "OMP_THREAD_LIMIT",
        }
        assert set(json.loads(found)) <= mine
        assert "secret" not in found

    async def test_what_it_prints_harms_nobody(self, child: KreuzbergParser, tmp_path: Path) -> None:
        program = """
            import os
            written = 0
            try:
                while True:
                    written += os.write(1, b"x" * 65536)
            except OSError as error:
                text = f"{error.strerror} after {written}"
            """
        for _ in range(2):  # what one file printed does not count against the next
            assert await run(child, tmp_path, program) == f"File too large after {1 << 20}"


THREADS = """
import threading
kept = []
def eat():
    kept.append(bytearray(200 << 20))
threads = [threading.Thread(target=eat) for _ in range(6)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
if len(kept) < 6:
    raise MemoryError
text = "all were kept"
"""


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("text = bytearray(2 << 30)", "needs more than 512 MiB of memory"),
        ("import mmap\nkept = [mmap.mmap(-1, 64 << 20) for _ in range(16)]", "needs more than 512 MiB of memory"),
        (THREADS, "needs more than 512 MiB of memory"),
        ("while True: pass", "it took longer than 1 s to read"),
        ("import time\ntime.sleep(60)", "it took longer than 1 s to read"),
        ("import os\nos.abort()", "crashed its reader"),
        ("import ctypes\nctypes.string_at(0)", "crashed its reader"),
        ("import os\nos._exit(0)", "crashed its reader"),
        ("raise SystemExit", "crashed its reader"),
        ("text = 1 / 0", "crashed its reader"),
        ("def deep(): deep()\ndeep()", "nested too deeply"),
        ("text = 'x' * 60_000_000", "more than any document holds"),
        ("text, more = 'x', {'page_starts': [5]}", "more than any document holds"),
        ("text, more = 'x', {'title': 7}", "more than any document holds"),
        ("import os\nos.write(3, b'\\xff' * 8)", "more than any document holds"),
        ("import os\nos.write(3, (9).to_bytes(8, 'big') + b'[1, 2, 3]')", "more than any document holds"),
        ("import os\nos.write(3, (100_000).to_bytes(8, 'big') + b'[' * 100_000)", "more than any document holds"),
        ("import os\nos.write(3, (9).to_bytes(8, 'big') + b'{')\nos._exit(3)", "crashed its reader"),
    ],
)  # fmt: skip
async def test_each_ends_with_a_reason(taken_over: dict[str, str], tmp_path: Path, program: str, reason: str) -> None:
    parser = KreuzbergParser(environment=taken_over, timeout_s=1 if "1 s" in reason else 30, memory_bytes=512 << 20)
    try:
        message = await refusal(parser, tmp_path, program)
        assert reason in message
        assert "Traceback" not in message
    finally:
        await parser.close()


async def test_processor_time_is_bounded_where_no_clock_is(taken_over: dict[str, str], tmp_path: Path) -> None:
    parser = KreuzbergParser(environment=taken_over, timeout_s=1)
    try:
        program = "import resource\ntext = resource.getrlimit(resource.RLIMIT_CPU)[0]"
        assert 0 < int(await run(parser, tmp_path, program)) <= 6
    finally:
        await parser.close()


async def test_nothing_is_left_in_the_temporary_folder(
    taken_over: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    parser = KreuzbergParser(environment=taken_over, timeout_s=0.5)
    try:
        await refusal(parser, tmp_path, "import time\ntime.sleep(60)")
    finally:
        await parser.close()
    assert [path.name for path in tmp_path.iterdir()] == ["program.txt"]


def test_the_child_dies_with_its_parent(taken_over: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "busy.txt").write_text("while True: pass")
    program = PARENT.format(environment=taken_over, path=str(tmp_path / "busy.txt"))
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        reader = psutil.Process(int(parent.stdout.readline()))
        time.sleep(0.3)
        assert reader.is_running()
        parent.kill()
    gone, _ = psutil.wait_procs([reader], timeout=5)
    assert gone


PARENT = """
import asyncio
from pathlib import Path
from pilotis.adapters.kreuzberg import KreuzbergParser

async def main():
    parser = KreuzbergParser(environment={environment!r})
    await parser.unbounded()
    print(parser._child.process.pid, flush=True)
    await parser.parse(Path({path!r}), name="busy.txt", media_type="")

asyncio.run(main())
"""


async def test_a_file_elsewhere_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out.txt").write_text("Words of another.")
    parser = KreuzbergParser(folder=tmp_path / "in")
    try:
        if "other files" in await parser.unbounded():
            pytest.skip("this kernel has no Landlock")
        with pytest.raises(Permanent, match="cannot be read: Permission denied"):
            await parser.parse(tmp_path / "out.txt", name="out.txt", media_type="")
    finally:
        await parser.close()


async def test_the_pdf_library_is_loaded_from_nowhere_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser unpacks it: on a machine that never did, and into a place that nobody else can fill."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    writer = pypdf.PdfWriter()
    writer.add_blank_page(9, 9)
    writer.write(tmp_path / "blank.pdf")
    parser = KreuzbergParser()
    try:
        with pytest.raises(Permanent, match="no text layer"):
            await parser.parse(tmp_path / "blank.pdf", name="blank.pdf", media_type="")
        assert parser._child is not None
        maps = Path(f"/proc/{parser._child.process.pid}/maps").read_text()
        assert f"{tmp_path}/pilotis-parser-" in next(line for line in maps.splitlines() if "libpdfium" in line)
    finally:
        await parser.close()
    assert [path.name for path in tmp_path.iterdir()] == ["blank.pdf"]


async def test_a_reader_that_is_not_ready_says_so(tmp_path: Path) -> None:
    """Else every PDF would be called damaged."""
    parser = KreuzbergParser(environment={"TMPDIR": str(tmp_path / "nowhere")})
    try:
        with pytest.raises(SetupError, match=r"does not start: .*dfium") as caught:
            await parser.unbounded()
        assert "TMPDIR" in caught.value.remedy
    finally:
        await parser.close()
