"""HAProxy before several API processes of one machine: found on it, configured here, run by whoever watches the processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from pilotis.embedded.account import account_for
from pilotis.embedded.folder import Folder, socket_dir
from pilotis.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pilotis.embedded.account import Account

ELSEWHERE = "/usr/sbin:/sbin:/usr/local/sbin"
"""Where systems keep it and the PATH of a normal user does not look."""
HEAD_S = 15
"""How long a request's head may take to arrive."""
SPARE_S = 30
"""How much longer than the longest answer a connection may be silent: the process ends it, not the proxy."""


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
    """HAProxy's configuration.

    What could not be handed to one process goes to another; what one has begun is never sent again, since it may have been paid
    for. Whoever leaves before an answer begins is gone for the process too. `/metrics` is not passed on, however it is written:
    counters of several processes under one address are no counters.
    """
    silent_s = round(front.total_s) + SPARE_S
    secure = f" ssl crt {_quoted(certificate)} alpn h2,http/1.1 ssl-min-ver TLSv1.2" if certificate else ""
    lines = [
        "global",
        f"  hard-stop-after {round(front.drain_s) + 1}s",
        "defaults",
        "  mode http",
        "  option http-no-delay",
        "  option abortonclose",
        "  option redispatch 1",
        "  retries 3",
        "  retry-on conn-failure",
        "  http-reuse safe",
        "  timeout connect 2s",
        "  timeout queue 2s",
        f"  timeout http-request {HEAD_S}s",
        f"  timeout http-keep-alive {HEAD_S}s",
        f"  timeout client {silent_s}s",
        f"  timeout server {silent_s}s",
        *(f"  http-error {_own(status, code, detail)}" for status, code, detail in _OWN),
        "frontend pilotis",
        f"  bind fd@{listening}{secure}",
        "  option forwardfor",
        f"  http-request return {_own(404, 'not_found', _NO_METRICS)} if {{ path,url_dec -m str /metrics }}",
        "  default_backend processes",
        "backend processes",
        "  balance leastconn",
        "  option httpchk",
        "  http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host localhost",
        "  http-check expect status 200",
        "  default-server check inter 500ms fastinter 100ms downinter 200ms fall 2 rise 1",
        *(f"  server p{port} 127.0.0.1:{port}" for port in front.ports),
    ]
    return "\n".join(lines) + "\n"


_NO_METRICS = "each process has metrics of its own, on its own port"
_OWN = (
    (400, "bad_request", "this is no HTTP request that can be read"),
    (408, "too_slow", "the head of the request comes too slowly"),
    (502, "upstream", "the process that served this request is gone"),
    (503, "overloaded", "no process can serve this now"),
    (504, "away", "no answer came in time"),
)
"""What HAProxy says itself, in the form of all our errors."""


def _own(status: int, code: str, detail: str) -> str:
    body = json.dumps(
        {
            "type": f"urn:pilotis:problem:{code}",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "code": code,
            "detail": detail,
        }
    )
    wait = " hdr retry-after 1" if status == 503 else ""
    return f"status {status} content-type application/problem+json string '{body}'{wait}"


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
