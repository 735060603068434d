"""What the kernel forbids the reading process, whatever a hostile file makes it do.

Two steps: `enclose` before the parser's libraries are loaded, while there is one thread, and `seal` after. Each returns what could
not be had, in words. Sources: setrlimit(2), landlock(7), seccomp(2) and the kernel's `userspace-api/seccomp_filter.rst`; the numbers
of system calls are those of `asm/unistd_64.h` (x86-64) and `asm-generic/unistd.h` (arm64).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

STDERR_BYTES = 1 << 20
LIBRARY_BYTES = 64 << 20
"""The parser unpacks a library of its own as it starts."""
OPEN_FILES = 64

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_NO_NEW_PRIVS = 1, 15, 38
_CLONE_NEWUSER, _CLONE_NEWNET, _CLONE_THREAD = 0x10000000, 0x40000000, 0x00010000
_AF_UNIX, _DATAGRAM = 1, 2
_CAPABILITY_VERSION_3, _CAP_DAC_READ_SEARCH = 0x20080522, 1 << 2
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF, _PATH_BENEATH = 444, 445, 446, 1
_EVERYTHING, _READ_FILE, _READ = 0x1FFF, 0x0004, 0x000D
"""Landlock's rights of its first version: all thirteen; to read a file; to read, list and run what is in a folder."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_SYSTEM = (
    *("/usr", "/lib", "/lib64", "/nix/store", "/gnu/store", "/etc/ld.so.cache", "/proc/self", "/proc/cpuinfo"),
    *("/sys/devices/system/cpu", "/dev/urandom", "/dev/null"),
)


def enclose(*, memory_bytes: int, parent: int, readable: Iterable[str], scratch: str) -> list[str]:
    """Limits of memory and files, an empty network, no privilege, death with `parent`; only `scratch` can be written.

    What may be read lies under `readable`, or belongs to Python and the system's libraries. To be called before any second thread.
    """
    missing = _limit("memory", resource.RLIMIT_AS, memory_bytes)
    missing += _limit("open files", resource.RLIMIT_NOFILE, OPEN_FILES)
    missing += _limit("written files", resource.RLIMIT_FSIZE, LIBRARY_BYTES)
    missing += _limit("core dumps", resource.RLIMIT_CORE, 0)
    if sys.platform != "linux":
        # macOS takes the limit of the address space and does not keep it.
        return list(dict.fromkeys([*missing, "memory", "life without its parent", "other files"]))
    libc = ctypes.CDLL(None, use_errno=True)
    # Where the kernel grants none, `seal` still forbids every socket.
    libc.unshare(_CLONE_NEWNET if os.geteuid() == 0 else _CLONE_NEWUSER | _CLONE_NEWNET)
    # Root goes on reading what it could, such as a Python in somebody's home; Landlock says where.
    kept = struct.pack("=6I", _CAP_DAC_READ_SEARCH, _CAP_DAC_READ_SEARCH, 0, 0, 0, 0)
    if os.geteuid() != 0 or libc.capset(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), kept):
        libc.capset(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), bytes(24))
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # A change of credentials takes this back: it comes after.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)
    return (
        missing if _landlocked(libc, {*readable, sys.prefix, sys.base_prefix, *_SYSTEM}, scratch) else [*missing, "other files"]
    )


def seal() -> list[str]:
    """No socket, no process, no program, no signal to others, no file opened for writing: for all threads, for good."""
    missing = _limit("written files", resource.RLIMIT_FSIZE, STDERR_BYTES)
    numbers = _NUMBERS.get(platform.machine()) if sys.platform == "linux" and sys.maxsize > 2**32 else None
    if numbers is None:
        return [*missing, "network", "processes"]
    program = b"".join(_filter(_AUDIT[platform.machine()], numbers, os.getpid()))
    code = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    refused = libc.syscall(ctypes.c_long(numbers["seccomp"]), _SET_MODE_FILTER, _ALL_THREADS, header)
    return [*missing, "network", "processes"] if refused else missing


def renew_cpu(seconds: int) -> None:
    """That much more processor time, and then SIGXCPU."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + seconds + 1, hard))


def _limit(what: str, kind: int, value: int) -> list[str]:
    try:
        _, hard = resource.getrlimit(kind)
        lower = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (lower, lower))
    except (ValueError, OSError):
        return [what]
    return []


def _landlocked(libc: ctypes.CDLL, readable: Iterable[str], scratch: str) -> bool:
    """False where the kernel has no Landlock."""
    rules = libc.syscall(ctypes.c_long(_CREATE_RULESET), struct.pack("=Q", _EVERYTHING), ctypes.c_size_t(8), 0)
    if rules < 0:
        return False
    try:
        for place in readable:
            _allow(libc, rules, place, _READ if Path(place).is_dir() else _READ_FILE)
        _allow(libc, rules, scratch, _EVERYTHING)
        return not libc.syscall(ctypes.c_long(_RESTRICT_SELF), rules, 0)
    finally:
        os.close(rules)


def _allow(libc: ctypes.CDLL, rules: int, place: str, rights: int) -> None:
    with contextlib.suppress(OSError):
        opened = os.open(place, os.O_PATH | os.O_CLOEXEC)
        libc.syscall(ctypes.c_long(_ADD_RULE), rules, _PATH_BENEATH, struct.pack("=Qi", rights, opened), 0)
        os.close(opened)


_LOAD, _EQUAL, _SET, _ABOVE, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NR, _ARCH, _ARGUMENTS = 0, 4, 16
_X32 = 0x40000000


def _filter(arch: int, numbers: dict[str, int], pid: int) -> Iterator[bytes]:
    """A classic BPF program over `struct seccomp_data`; what it does not name is allowed."""
    yield _step(_LOAD, _ARCH)
    yield _step(_EQUAL, arch, 1, 0)
    yield _step(_RETURN, _KILL)
    yield _step(_LOAD, _NR)
    yield _step(_ABOVE, _X32, 0, 1)
    yield _step(_RETURN, _KILL)
    for name in _NOT_THERE:  # libc then does without them, by calls whose arguments can be looked at
        yield from _when(numbers[name], [_refuse(errno.ENOSYS)])
    for name in _REFUSED:
        if name in numbers:
            yield from _when(numbers[name], [_refuse(errno.EPERM)])
    for name, position in (("open", 1), ("openat", 2)):
        if name in numbers:
            yield from _when(
                numbers[name], [_argument(position), _step(_SET, _WRITES, 0, 1), _refuse(errno.EACCES), _step(_RETURN, _ALLOW)]
            )
    # The runtime of the parser's library wakes its threads through a pair of stream sockets; datagrams could be sent elsewhere.
    yield from _when(
        numbers["socketpair"], [_argument(1), _step(_SET, _DATAGRAM, 0, 1), _refuse(errno.EPERM), *_only(0, _AF_UNIX)]
    )
    # Threads yes, processes no. A process may signal itself, as abort() does. It may change its own processor time only.
    yield from _when(
        numbers["clone"], [_argument(0), _step(_SET, _CLONE_THREAD, 1, 0), _refuse(errno.EPERM), _step(_RETURN, _ALLOW)]
    )
    yield from _when(numbers["tgkill"], _only(0, pid))
    yield from _when(numbers["setrlimit"], _only(0, resource.RLIMIT_CPU))
    yield from _when(numbers["prctl"], _only(0, _PR_SET_NAME))
    yield from _when(
        numbers["prlimit64"],
        [
            *(_argument(0), _step(_EQUAL, 0, 1, 0), _refuse(errno.EPERM)),
            *(_argument(2), _step(_EQUAL, 0, 0, 1), _step(_RETURN, _ALLOW)),  # it only asks: no new limit
            *_only(1, resource.RLIMIT_CPU),
        ],
    )
    yield _step(_RETURN, _ALLOW)


def _when(number: int, steps: Sequence[bytes]) -> Iterator[bytes]:
    yield _step(_EQUAL, number, 0, len(steps))
    yield from steps


def _only(position: int, value: int) -> list[bytes]:
    return [_argument(position), _step(_EQUAL, value, 1, 0), _refuse(errno.EPERM), _step(_RETURN, _ALLOW)]


def _argument(position: int) -> bytes:
    """Its lower half; both architectures are little-endian."""
    return _step(_LOAD, _ARGUMENTS + 8 * position)


def _refuse(code: int) -> bytes:
    return _step(_RETURN, _ERRNO | code)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


_NOT_THERE = ("clone3", "openat2", "fchmodat2")
_REFUSED = tuple(
    "socket connect bind io_uring_setup io_uring_enter io_uring_register "
    "fork vfork execve execveat ptrace process_vm_readv process_vm_writev process_madvise pidfd_open pidfd_getfd "
    "kill tkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal setsid setpgid "
    "creat truncate rename renameat renameat2 mkdir mkdirat rmdir mknod mknodat link linkat symlink symlinkat unlink unlinkat "
    "chmod fchmod fchmodat chown lchown fchown fchownat utime utimes futimesat utimensat "
    "setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr "
    "mount umount2 move_mount open_tree fsopen chroot pivot_root unshare setns open_by_handle_at "
    "memfd_create memfd_secret shmget msgget semget mq_open add_key request_key keyctl "
    "bpf perf_event_open userfaultfd personality".split()
)
_SHARED = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "pidfd_open": 434, "clone3": 435, "openat2": 437, "pidfd_getfd": 438,
    "process_madvise": 440, "memfd_secret": 447, "fchmodat2": 452,
}  # fmt: skip
_NUMBERS = {
    "x86_64": _SHARED | {
        "open": 2, "shmget": 29, "socket": 41, "connect": 42, "bind": 49, "socketpair": 53, "clone": 56, "fork": 57, "vfork": 58, "execve": 59, "kill": 62,
        "semget": 64, "msgget": 68, "truncate": 76, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87,
        "symlink": 88, "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94, "ptrace": 101, "setpgid": 109,
        "setsid": 112, "rt_sigqueueinfo": 129, "utime": 132, "mknod": 133, "personality": 135, "pivot_root": 155, "prctl": 157,
        "setrlimit": 160, "chroot": 161, "mount": 165, "umount2": 166, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190,
        "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199, "tkill": 200, "tgkill": 234, "utimes": 235, "mq_open": 240,
        "add_key": 248, "request_key": 249, "keyctl": 250, "openat": 257, "mkdirat": 258, "mknodat": 259, "fchownat": 260,
        "futimesat": 261, "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266, "fchmodat": 268, "unshare": 272,
        "utimensat": 280, "rt_tgsigqueueinfo": 297, "perf_event_open": 298, "prlimit64": 302, "open_by_handle_at": 304,
        "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "renameat2": 316, "seccomp": 317, "memfd_create": 319,
        "bpf": 321, "execveat": 322, "userfaultfd": 323,
    },
    "aarch64": _SHARED | {
        "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16, "mknodat": 33,
        "mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37, "renameat": 38, "umount2": 39, "mount": 40, "pivot_root": 41,
        "truncate": 45, "chroot": 51, "fchmod": 52, "fchmodat": 53, "fchownat": 54, "fchown": 55, "openat": 56, "utimensat": 88,
        "personality": 92, "unshare": 97, "ptrace": 117, "kill": 129, "tkill": 130, "tgkill": 131, "rt_sigqueueinfo": 138,
        "setpgid": 154, "setsid": 157, "setrlimit": 164, "prctl": 167, "mq_open": 180, "msgget": 186, "semget": 190, "shmget": 194,
        "socket": 198, "socketpair": 199, "bind": 200, "connect": 203, "add_key": 217, "request_key": 218, "keyctl": 219, "clone": 220, "execve": 221,
        "rt_tgsigqueueinfo": 240, "perf_event_open": 241, "prlimit64": 261, "open_by_handle_at": 265, "setns": 268,
        "process_vm_readv": 270, "process_vm_writev": 271, "renameat2": 276, "seccomp": 277, "memfd_create": 279, "bpf": 280,
        "execveat": 281, "userfaultfd": 282,
    },
}  # fmt: skip
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
