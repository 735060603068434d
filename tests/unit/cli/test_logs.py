from __future__ import annotations

from pathlib import Path

from pilotis.cli.logfile import bound


def test_a_log_is_put_aside_once_it_is_too_long(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    assert not bound(log)
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * 100)
        assert not bound(log, most=100)
        writer.write(b"y")
        assert bound(log, most=100)
        writer.write(b"new\n")
        assert log.read_bytes() == b"new\n"
        assert (tmp_path / "api.log.1").read_bytes() == b"x" * 100 + b"y"
        writer.write(b"z" * 100)
        assert bound(log, most=100)
    assert (tmp_path / "api.log.1").read_bytes() == b"new\n" + b"z" * 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["api.log", "api.log.1"]
