from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilotis.cli.files import find
from pilotis.errors import SetupError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("docs/b.md", "docs/a.txt", "docs/deep/a.txt", "docs/.git/config", "docs/.hidden.md", "docs/logo.PNG",
                 "docs/node_modules/x/README.md", "other/a.txt"):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "docs" / "loop").symlink_to(tmp_path / "docs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*given: str, include: tuple[str, ...] = ()) -> list[str]:
    return [name for _, name in find(given, include).files]


def test_a_folder_gives_its_documents_by_their_path_inside_it(tree: Path) -> None:
    found = find([str(tree / "docs")], ())
    assert [name for _, name in found.files] == ["a.txt", "b.md", "deep/a.txt"]
    assert (found.skipped, found.faults) == (1, [])


def test_a_file_given_by_itself_is_taken_whatever_it_is(tree: Path) -> None:
    assert names("docs/logo.PNG") == ["logo.PNG"]
    assert names("docs/.hidden.md") == [".hidden.md"]
    assert tree


@pytest.mark.parametrize("pattern", ["docs/**/*.txt", "./docs/**/*.txt", "{}/docs/**/*.txt"])
def test_a_glob_names_its_files_as_the_folder_does(tree: Path, pattern: str) -> None:
    assert names(pattern.format(tree)) == ["a.txt", "deep/a.txt"]


def test_stars_stand_for_one_folder_or_any_number(tree: Path) -> None:
    assert names("docs/*.txt") == ["a.txt"]
    assert names("docs/d*/*.txt") == ["deep/a.txt"]
    assert names("docs/**/deep/**/*.txt") == ["deep/a.txt"]
    assert names("docs/**") == ["a.txt", "b.md", "deep/a.txt"]
    assert names("docs/d*") == ["deep/a.txt"]
    assert tree


def test_include_narrows_by_name_or_path(tree: Path) -> None:
    assert names("docs", include=("*.md",)) == ["b.md"]
    assert names("docs", include=("deep/*",)) == ["deep/a.txt"]
    assert names("docs", include=("*.PNG",)) == ["logo.PNG"]
    assert tree


def test_a_file_given_twice_counts_once(tree: Path) -> None:
    assert names("docs/a.txt", "docs", str(tree / "docs" / "a.txt")) == ["a.txt", "b.md", "deep/a.txt"]


def test_two_files_of_one_name_are_told_apart_by_the_user(tree: Path) -> None:
    found = find(["docs", "other"], ())
    assert [name for _, name in found.files] == ["a.txt", "b.md", "deep/a.txt"]
    ((path, reason),) = found.faults
    assert path == "other/a.txt"
    assert "same name" in reason
    assert tree


def test_nothing_there(tree: Path) -> None:
    with pytest.raises(SetupError, match=r"there is nothing at 'docs/\*\.pdf'"):
        find(["docs/*.pdf"], ())
    assert tree


def test_a_pipe_is_no_document(tree: Path) -> None:
    os.mkfifo(tree / "docs" / "pipe.txt")
    found = find(["docs"], ())
    assert found.faults == [("docs/pipe.txt", "is not a regular file")]
