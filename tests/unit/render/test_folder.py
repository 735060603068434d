"""What `pilotis render` writes, refuses to overwrite, and finds changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pilotis.adapters import rendered
from pilotis.errors import SetupError
from pilotis.render.drift import Drift, compare
from pilotis.render.files import File

ONE, TWO = File(path="a/one.yml", content="1\n", env="dev"), File(path="two.md", content="2\n")


def put(folder: Path, *files: File, envs: tuple[str, ...] = ()) -> tuple[Drift, ...]:
    wanted = {file.path: file for file in files}
    drifts = drift(folder, *files, envs=envs)
    rendered.write(folder, wanted, drifts, envs)
    return drifts


def drift(folder: Path, *files: File, envs: tuple[str, ...] = ()) -> tuple[Drift, ...]:
    digests = {file.path: rendered.digest(file.data) for file in files}
    return compare(digests, rendered.look(folder, digests, envs))


def test_what_was_written_has_no_drift(tmp_path: Path) -> None:
    assert [found.what for found in put(tmp_path / "deploy", ONE, TWO)] == ["missing", "missing"]
    assert (tmp_path / "deploy/a/one.yml").read_text() == "1\n"
    assert drift(tmp_path / "deploy", ONE, TWO) == ()
    assert sorted(path.name for path in (tmp_path / "deploy").iterdir()) == [rendered.MANIFEST, "a", "two.md"]


def test_each_kind_of_drift_is_named(tmp_path: Path) -> None:
    put(tmp_path, ONE, TWO, File(path="old.md", content="old\n"))
    (tmp_path / "two.md").write_text("edited\n")
    (tmp_path / "three.md").write_text("somebody's own\n")
    now = File(path="a/one.yml", content="another\n", env="dev")
    found = drift(tmp_path, now, TWO, File(path="three.md", content="3\n"), File(path="four.md", content="4\n"))
    assert {one.path: one.what for one in found} == {
        "a/one.yml": "outdated",
        "two.md": "edited",
        "three.md": "foreign",
        "four.md": "missing",
        "old.md": "left over",
    }


def test_what_is_rendered_no_more_goes_with_its_folder_and_nothing_else(tmp_path: Path) -> None:
    put(tmp_path, ONE, TWO)
    (tmp_path / "mine.txt").write_text("mine\n")
    put(tmp_path, TWO)
    assert sorted(path.name for path in tmp_path.iterdir()) == [rendered.MANIFEST, "mine.txt", "two.md"]


def test_one_env_leaves_the_files_of_all_others(tmp_path: Path) -> None:
    put(tmp_path, ONE, TWO)
    put(tmp_path, File(path="a/one.yml", content="new\n", env="dev"), envs=("dev",))
    assert (tmp_path / "two.md").exists()
    assert set(json.loads((tmp_path / rendered.MANIFEST).read_text())) == {"a/one.yml", "two.md"}
    assert drift(tmp_path, File(path="a/one.yml", content="new\n", env="dev"), TWO) == ()


def test_a_link_or_a_folder_where_a_file_belongs_is_foreign(tmp_path: Path) -> None:
    (tmp_path / "two.md").symlink_to("/dev/null")
    (tmp_path / "a" / "one.yml").mkdir(parents=True)
    assert [found.what for found in drift(tmp_path, ONE, TWO)] == ["foreign", "foreign"]


def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "deploy").write_text("")
    with pytest.raises(SetupError, match="is a file, not a folder"):
        drift(tmp_path / "deploy", ONE)


def test_what_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    put(tmp_path, ONE, TWO)
    (tmp_path / "b").write_text("a file where a folder must be\n")
    wanted = {"two.md": File(path="two.md", content="new\n"), "b/x": File(path="b/x", content="x\n")}
    drifts = (Drift(path="two.md", what="outdated"), Drift(path="b/x", what="missing"))
    with pytest.raises(SetupError, match="cannot be written"):
        rendered.write(tmp_path, wanted, drifts)
    assert (tmp_path / "two.md").read_text() == "2\n"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".pilotis-render-")]


def test_a_broken_manifest_is_told_rather_than_believed(tmp_path: Path) -> None:
    put(tmp_path, ONE)
    (tmp_path / rendered.MANIFEST).write_text('{"a/one.yml": 3}')
    with pytest.raises(SetupError, match="is not as Pilotis wrote it"):
        drift(tmp_path, ONE)
