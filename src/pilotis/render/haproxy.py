"""HAProxy's configuration before API processes, the same text wherever it stands: on a developer's machine, in compose, on a host."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

HEAD_S = 15
"""How long a request's head may take to arrive."""
SPARE_S = 30
"""How much longer than the longest answer a connection may be silent: the process ends it, not the proxy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """What differs from place to place. Lines are HAProxy's own, without their indentation."""

    bind: str
    """Of the front: an address, and TLS where it ends here."""
    servers: Sequence[str]
    """The processes, one `server` line each, and what they need beside."""
    total_s: float
    """The longest answer."""
    drain_s: float
    """How long running requests may go on at the end."""
    balance: str = "leastconn"
    """`roundrobin` where weights are moved while it runs: with it they hold to within a request."""
    settings: Sequence[str] = ()
    """More of `global`."""
    sections: Sequence[str] = ()
    """After all others, with their indentation."""


def configuration(proxy: Proxy) -> str:
    """HAProxy's configuration, for 2.4 and later.

    What could not be handed to one process goes to another; what one has begun is never sent again, since it may have been paid
    for. Whoever leaves before an answer begins is gone for the process too. `/metrics` is not passed on, however it is written:
    counters of several processes under one address are no counters.
    """
    silent_s = round(proxy.total_s) + SPARE_S
    lines = [
        "global",
        f"  hard-stop-after {round(proxy.drain_s) + 1}s",
        *(f"  {line}" for line in proxy.settings),
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
        f"  bind {proxy.bind}",
        "  option forwardfor",
        f"  http-request return {_own(404, 'not_found', _NO_METRICS)} if {{ path,url_dec -m str /metrics }}",
        "  default_backend processes",
        "backend processes",
        f"  balance {proxy.balance}",
        "  option httpchk",
        "  http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host localhost",
        "  http-check expect status 200",
        "  default-server check inter 500ms fastinter 100ms downinter 200ms fall 2 rise 1",
        *(f"  {line}" for line in proxy.servers),
        *proxy.sections,
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
