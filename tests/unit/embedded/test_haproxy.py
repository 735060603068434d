"""HAProxy's configuration, as HAProxy itself reads it where it is installed."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from pilotis.embedded import haproxy
from pilotis.embedded.haproxy import Front
from pilotis.errors import SetupError

FRONT = Front(port=8080, ports=(8081, 8082), total_s=120, drain_s=30)


def test_each_process_is_a_server_and_nothing_outlasts_the_longest_answer() -> None:
    text = haproxy.configuration(FRONT, listening=7)
    assert "server p8081 127.0.0.1:8081" in text
    assert "server p8082 127.0.0.1:8082" in text
    assert "bind fd@7\n" in text
    assert "timeout server 150s" in text
    assert "balance leastconn" in text
    assert "option forwardfor" in text


def test_what_may_have_been_paid_for_is_not_sent_again() -> None:
    retried = [line.strip() for line in haproxy.configuration(FRONT, listening=7).splitlines() if "retry-on" in line]
    assert retried == ["retry-on conn-failure"]


@pytest.mark.skipif(
    shutil.which("haproxy", path="/usr/sbin:/sbin:/usr/bin") is None,
    reason="haproxy is not installed: apt-get install haproxy",
)
def test_haproxy_takes_the_configuration_and_nothing_of_it_stays(tmp_path: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        with haproxy.prepared(FRONT, tmp_path, listening=listening.fileno()) as program:
            config = Path(program.command[-1])
            assert config.stat().st_mode & 0o777 == 0o600
    assert not config.exists()


def test_without_haproxy_it_says_what_to_install(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(SetupError) as refused, haproxy.prepared(FRONT, tmp_path, listening=7):
        pass
    assert "apt-get install haproxy" in refused.value.remedy


def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    front = Front(port=1, ports=(2,), total_s=1, drain_s=1, tls_cert=tmp_path / "missing.pem", tls_key=tmp_path / "missing.key")
    with pytest.raises(SetupError, match=r"missing\.pem"):
        haproxy._write_certificate(front, tmp_path / "both.pem", None)
