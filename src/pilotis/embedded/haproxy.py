"""HAProxy before several API processes of one machine: found on it, configured here, run by whoever watches the processes."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilotis.embedded.account import account_for
from pilotis.embedded.folder import Folder, socket_dir
from pilotis.errors import SetupError
from pilotis.render import haproxy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pilotis.embedded.account import Account

ELSEWHERE = "/usr/sbin:/sbin:/usr/local/sbin"
"""Where systems keep it and the PATH of a normal user does not look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """What stands on `port`, before the processes on `ports` of this machine's own address."""

    port: int
    ports: Sequence[int]
    total_s: float
    """The longest answer."""
    drain_s: float
    """How long running requests may go on at the end."""
    tls_cert: Path | None = None
    tls_key: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run, as whom. SIGUSR1 ends it once its requests are answered, SIGTERM at once."""

    command: tuple[str, ...]
    account: Account | None


@contextmanager
def prepared(front: Front, data: Path, *, listening: int) -> Iterator[Program]:
    """Configured for as long as the block lasts; `listening` is the descriptor of the open port, which it inherits.

    So it needs no right to open ports, and those who come while it is started again wait instead of being turned away.
    Raises SetupError where HAProxy is not installed, or refuses.
    """
    program = shutil.which("haproxy") or shutil.which("haproxy", path=ELSEWHERE)
    if program is None:
        raise SetupError(
            "several processes need HAProxy before them, and it is not installed",
            remedy="apt-get install haproxy; or leave --processes out",
        )
    folder = Folder(data)
    folder.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    account = account_for(data)
    place = socket_dir(folder, account)  # the one place that the account can enter also where all of this belongs to root
    config, pem = (place / f"haproxy-{front.port}.{kind}" for kind in ("cfg", "pem"))
    try:
        is_secure = _write_certificate(front, pem, account)
        _write(config, configuration(front, listening=listening, certificate=pem if is_secure else None), account)
        _try(program, config, listening)
        yield Program(command=(program, "-db", "-f", str(config)), account=account)
    finally:
        config.unlink(missing_ok=True)
        pem.unlink(missing_ok=True)


def configuration(front: Front, *, listening: int, certificate: Path | None = None) -> str:
    """See `render.haproxy`; it listens on the descriptor it inherits."""
    secure = f" ssl crt {_quoted(certificate)} alpn h2,http/1.1 ssl-min-ver TLSv1.2" if certificate else ""
    return haproxy.configuration(
        haproxy.Proxy(
            bind=f"fd@{listening}{secure}",
            servers=[f"server p{port} 127.0.0.1:{port}" for port in front.ports],
            total_s=front.total_s,
            drain_s=front.drain_s,
        )
    )


def _write_certificate(front: Front, pem: Path, account: Account | None) -> bool:
    """HAProxy wants chain and key in one file."""
    if front.tls_cert is None or front.tls_key is None:
        return False
    try:
        both = front.tls_cert.read_text().rstrip("\n") + "\n" + front.tls_key.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(
            f"the TLS certificate or its key cannot be read: {error}", remedy="see their paths and rights"
        ) from None
    _write(pem, both, account)
    return True


def _write(path: Path, text: str, account: Account | None) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
    if account:
        os.chown(path, account.uid, account.gid)


def _try(program: str, config: Path, listening: int) -> None:
    tried = subprocess.run(  # noqa: S603 - ours
        [program, "-c", "-f", str(config)], capture_output=True, text=True, check=False, pass_fds=(listening,)
    )
    if tried.returncode != 0:
        raise SetupError(
            f"HAProxy refuses its configuration: {_why(tried.stderr)}", remedy=f"see {config}; 2.4 or later is needed"
        )


def _quoted(path: Path | None) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'


def _why(told: str) -> str:
    alerts = [line for line in told.splitlines() if "[ALERT]" in line]
    return alerts[0].partition(" : ")[2] if alerts else told.strip()[-200:]
