"""A real folder, with what people and attackers put there."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from pilotis.adapters.sources import opener
from pilotis.adapters.sources.folder import FolderSource
from pilotis.derive.origin import Origin
from pilotis.errors import Invalid, NotFound, Permanent, Transient
from pilotis.ports import Item, Unlisted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "handbook"
    (made / "sub" / "deep").mkdir(parents=True)
    (made / "a.md").write_text("a")
    (made / "sub" / "b.md").write_text("bb")
    (made / "sub" / "deep" / "c.md").write_text("ccc")
    return made


async def listed(folder: Path) -> dict[str, Item]:
    found = [item async for item in FolderSource(folder).items()]
    assert not [item for item in found if isinstance(item, Unlisted)]
    return {item.key: item for item in found if isinstance(item, Item)}


async def fetch(folder: Path, key: str, into: Path, most_bytes: int = 1000) -> str | None:
    """Its validator; the bytes are in `into`."""
    fetched = await FolderSource(folder).fetch(Item(key=key), into, known=None, most_bytes=most_bytes)
    assert fetched
    return fetched.validator


async def test_files_are_listed_by_their_path_with_size_and_validator(folder: Path) -> None:
    found = await listed(folder)
    assert {key: item.size for key, item in found.items()} == {"a.md": 1, "sub/b.md": 2, "sub/deep/c.md": 3}
    again = await listed(folder)
    assert found == again
    (folder / "a.md").write_text("A")
    changed = await listed(folder)
    assert changed["a.md"].validator != found["a.md"].validator
    assert changed["sub/b.md"].validator == found["sub/b.md"].validator


async def test_bytes_come_with_the_validator_of_the_list(folder: Path, tmp_path: Path) -> None:
    os.utime(folder / "a.md", (1_600_000_000, 1_600_000_000))
    assert await fetch(folder, "a.md", tmp_path / "copy") == (await listed(folder))["a.md"].validator
    assert (tmp_path / "copy").read_text() == "a"


async def test_a_file_that_changed_just_now_is_read_again_the_next_time(folder: Path, tmp_path: Path) -> None:
    os.utime(folder / "a.md", (time.time(), time.time()))
    assert await fetch(folder, "a.md", tmp_path / "copy") is None


async def test_links_pipes_and_sockets_are_no_documents(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.md"
    secret.write_text("secret")
    (folder / "outside.md").symlink_to(secret)
    (folder / "inside.md").symlink_to(folder / "a.md")
    (folder / "nowhere.md").symlink_to(tmp_path / "nothing")
    (folder / "loop").symlink_to(folder)
    (folder / "out").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.md")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket.md"))
    found = await listed(folder)
    fit = {key for key, item in found.items() if item.unfit is None}
    assert fit == {"a.md", "sub/b.md", "sub/deep/c.md"}
    assert found["loop"].unfit == "is a symbolic link"
    assert found["pipe.md"].unfit == "is not a regular file"
    for key in ("outside.md", "inside.md"):
        with pytest.raises(Permanent, match="symbolic link"):
            await fetch(folder, key, tmp_path / "copy")
    with pytest.raises(Permanent, match="regular"):
        await fetch(folder, "pipe.md", tmp_path / "copy")
    with pytest.raises((Permanent, NotFound)):
        await fetch(folder, "out/secret.md", tmp_path / "copy")
    with pytest.raises((Permanent, NotFound)):
        await fetch(folder, "loop/a.md", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


async def test_a_folder_that_was_swapped_for_a_link_gives_nothing(folder: Path, tmp_path: Path) -> None:
    found = await listed(folder)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b.md").write_text("secret")
    (folder / "sub").rename(folder / "was")
    (folder / "sub").symlink_to(outside)
    with pytest.raises((Permanent, NotFound)):
        await FolderSource(folder).fetch(found["sub/b.md"], tmp_path / "copy", known=None, most_bytes=1000)


async def test_a_root_that_is_a_link_is_what_it_leads_to(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert "sub/b.md" in await listed(tmp_path / "link")
    await fetch(tmp_path / "link", "a.md", tmp_path / "copy")


async def test_names_of_any_bytes_are_listed_and_can_be_read(folder: Path, tmp_path: Path) -> None:
    for name in (b"line\nbreak.md", b"\xff\xfe.md", "é à.md".encode(), b"-rf *.md", b"a\\b.md"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(b"x")
    found = await listed(folder)
    assert {"line\nbreak.md", "\udcff\udcfe.md", "é à.md", "-rf *.md", "a\\b.md"} <= set(found)
    await fetch(folder, "\udcff\udcfe.md", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"x"


async def test_hidden_folders_and_those_nobody_means_are_not_entered(folder: Path) -> None:
    for name in (".git", "node_modules", "__pycache__"):
        (folder / name).mkdir()
        (folder / name / "x.md").write_text("x")
    assert set(await listed(folder)) == {"a.md", "sub/b.md", "sub/deep/c.md"}


async def test_a_huge_file_is_refused_without_being_copied_whole(folder: Path, tmp_path: Path) -> None:
    with (folder / "huge.md").open("wb") as file:
        file.truncate(1 << 33)
    began = time.monotonic()
    with pytest.raises(Invalid, match="more than 1,000 bytes"):
        await fetch(folder, "huge.md", tmp_path / "copy")
    assert time.monotonic() - began < 1
    assert (tmp_path / "copy").stat().st_size < 1 << 21


async def test_what_is_gone_is_said_to_be_gone(folder: Path, tmp_path: Path) -> None:
    for key in ("nothing.md", "sub/none/x.md", "a.md/x.md"):
        with pytest.raises(NotFound):
            await fetch(folder, key, tmp_path / "copy")


async def test_a_folder_that_is_not_there_is_away(tmp_path: Path) -> None:
    with pytest.raises(Transient, match="cannot be read") as raised:
        await listed(tmp_path / "nowhere")
    assert raised.value.message.partition(": ")[0] == "the folder cannot be read", "its path is for the operator"
    (tmp_path / "file").write_text("x")
    with pytest.raises(Transient):
        await listed(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
async def test_a_closed_folder_is_a_part_that_was_not_listed(folder: Path) -> None:
    (folder / "sub").chmod(0)
    found = [item async for item in FolderSource(folder).items()]
    (folder / "sub").chmod(0o700)
    assert Unlisted(prefix="sub/", reason="Permission denied") in found


async def test_a_folder_that_cannot_be_entered_is_a_part_that_was_not_listed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def closed(path: Path) -> os._ScandirIterator[str]:
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied")
        return scandir(str(path))

    monkeypatch.setattr(os, "scandir", closed)
    found = [item async for item in FolderSource(folder).items()]
    assert Unlisted(prefix="sub/", reason="Permission denied") in found
    assert [item.key for item in found if isinstance(item, Item)] == ["a.md"]


async def test_a_tree_deeper_than_a_stack_ends(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    found = [item async for item in FolderSource(tmp_path).items()]
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # noqa: ASYNC221 - Python's own way recurses
    assert all(isinstance(item, Unlisted) for item in found)


async def test_a_relative_path_begins_beside_the_contract(folder: Path, tmp_path: Path) -> None:
    source = opener(tmp_path / "pilotis.toml")(Origin(name="x", kind="folder", path="handbook"))
    assert "a.md" in {item.key async for item in source.items() if isinstance(item, Item)}
    source = opener(Path("/elsewhere/pilotis.toml"))(Origin(name="x", kind="folder", path=str(folder)))
    assert "a.md" in {item.key async for item in source.items() if isinstance(item, Item)}
