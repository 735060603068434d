"""What a process is told, by options first and the environment second; secrets stay out of sight."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pilotis import service, wiring
from pilotis.contract.presets import default
from pilotis.derive.plan import Embedding, derive
from pilotis.embedded.stack import Addresses
from pilotis.errors import ContractError, SetupError


def test_options_win_over_the_environment(tmp_path: Path) -> None:
    environ = {"PILOTIS_ENV": "staging", "PILOTIS_DATA": "/elsewhere", "PILOTIS_CONTRACT": str(tmp_path / "a.toml")}
    told = wiring.settings(environ=environ, folder=tmp_path)
    assert (told.env, told.data, told.contract) == ("staging", Path("/elsewhere"), tmp_path / "a.toml")
    given = wiring.settings(env="prod", data=tmp_path, contract=tmp_path / "b.toml", environ=environ, folder=tmp_path)
    assert (given.env, given.data, given.contract) == ("prod", tmp_path, tmp_path / "b.toml")
    nothing = wiring.settings(environ={}, folder=tmp_path)
    assert (nothing.env, nothing.data, nothing.contract, nothing.is_embedded) == ("dev", None, None, True)


def test_secrets_stay_out_of_the_repr(tmp_path: Path) -> None:
    environ = {
        "PILOTIS_DATABASE_URL": "postgresql://me:hunter2@db/x",
        "PILOTIS_REDIS_URL": "redis://:hunter2@r",
        "PILOTIS_BROKER_URL": "redis://:hunter2@b",
        "OPENAI_API_KEY": "hunter2",
    }
    told = wiring.settings(environ=environ, folder=tmp_path)
    assert told.database_url == environ["PILOTIS_DATABASE_URL"]
    assert "hunter2" not in repr(told)
    assert not told.is_embedded


@pytest.mark.parametrize("one", ["PILOTIS_DATABASE_URL", "PILOTIS_REDIS_URL", "PILOTIS_BROKER_URL"])
def test_one_address_alone_is_refused(one: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=f"{one} is set and"):
        wiring.settings(environ={one: "x"}, folder=tmp_path)


def test_two_contracts_in_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    for name in ("pilotis.toml", "pilotis.json"):
        (tmp_path / name).write_text("")
    with pytest.raises(ContractError, match=r"pilotis\.toml.*pilotis\.json"):
        wiring.settings(environ={}, folder=tmp_path)


def test_a_contract_that_is_not_there_is_refused_by_its_path(tmp_path: Path) -> None:
    told = wiring.settings(contract=tmp_path / "none.toml", environ={}, folder=tmp_path)
    with pytest.raises(ContractError, match=r"none\.toml"):
        wiring.load_plan(told)


def test_an_env_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    told = wiring.settings(env="production", environ={}, folder=tmp_path)
    with pytest.raises(ContractError, match="production") as refused:
        wiring.load_plan(told)
    assert "prod" in refused.value.remedy


def test_each_contract_and_env_has_its_folder_and_namespace(tmp_path: Path) -> None:
    plan = derive(default())
    told = wiring.settings(environ={}, folder=tmp_path)
    folders = {wiring.data_folder(told, plan, env) for env in plan.envs.values()}
    assert len(folders) == len({wiring.namespace(plan, env) for env in plan.envs.values()}) == 3
    assert all(folder.is_absolute() for folder in folders)


def test_a_child_sees_what_its_parent_sees(tmp_path: Path) -> None:
    contract = tmp_path / "pilotis.toml"
    contract.write_text('name = "shop"\n[envs.dev]\n')
    told = wiring.settings(data=tmp_path / "data", environ={"PATH": "/bin"}, folder=tmp_path)
    plan, env = wiring.load_plan(told)
    environ = wiring.child_environ(told, plan, env, Addresses(database_url="postgresql://x", redis_url="redis://y"))
    child = wiring.settings(environ=environ, folder=Path("/"))
    assert (child.contract, child.env, child.data) == (contract, "dev", tmp_path / "data")
    assert (child.database_url, child.redis_url, child.broker_url) == ("postgresql://x", "redis://y", None)
    assert child.blobs == str(tmp_path / "data" / "blobs")
    assert environ["PATH"] == "/bin"


def test_a_child_of_embedded_servers_shares_their_folder_whatever_the_contract_asks_of_others(tmp_path: Path) -> None:
    (tmp_path / "pilotis.toml").write_text('name = "shop"\n[infra]\nblobs = "s3"\n[envs.dev]\n')
    told = wiring.settings(data=tmp_path / "data", environ={}, folder=tmp_path)
    plan, env = wiring.load_plan(told)
    environ = wiring.child_environ(told, plan, env, Addresses(database_url="postgresql://x", redis_url="redis://y"))
    child = wiring.settings(environ=environ, folder=Path("/"))
    assert wiring.open_blobs(child, plan, env).where == str(tmp_path / "data" / "blobs")


@pytest.mark.parametrize("place", ["s3://", "s3://x/y", "gs://bucket/x", "s3://Bucket/y"])
def test_a_place_for_files_that_is_none(place: str, tmp_path: Path) -> None:
    told = wiring.settings(data=tmp_path, environ={"PILOTIS_BLOBS": place}, folder=tmp_path)
    with pytest.raises(SetupError, match="PILOTIS_BLOBS is"):
        wiring.open_blobs(told, *wiring.load_plan(told))


async def test_a_missing_key_is_named_before_anything_is_opened(tmp_path: Path) -> None:
    contract = tmp_path / "pilotis.toml"
    contract.write_text('[envs.dev]\nllm = "gpt-5-mini"\n')
    told = wiring.settings(environ={}, folder=tmp_path)
    plan, env = wiring.load_plan(told)
    nowhere = Addresses(database_url="postgresql://nobody@127.0.0.1:1/x", redis_url="redis://127.0.0.1:1")
    with pytest.raises(SetupError, match="OPENAI_API_KEY"):
        async with wiring.open_deps(told, plan, env, addresses=nowhere):
            pass


def test_a_paid_model_is_not_asked_whether_it_is_ready() -> None:
    env = derive(default()).env("dev")
    remote = replace(env, embedder=Embedding(model="text-embedding-3-small", provider="openai", dimension=1536))
    deps = cast("Any", SimpleNamespace(documents=SimpleNamespace(waiting=None), embedder=None))
    nowhere = Addresses(database_url="", redis_url="")
    assert set(service.probes(deps, env, nowhere)) == {"postgres", "redis", "model"}
    assert set(service.probes(deps, remote, nowhere)) == {"postgres", "redis"}
    elsewhere = nowhere._replace(broker_url="redis://broker")
    assert set(service.probes(deps, remote, elsewhere)) == {"postgres", "redis", "broker"}


def test_uploads_of_a_process_that_was_killed_are_removed_and_those_that_arrive_are_not(tmp_path: Path) -> None:
    left, arriving = tmp_path / "upload-left", tmp_path / "upload-arriving"
    for folder in (left, arriving):
        folder.mkdir()
        (folder / "000").write_bytes(b"bytes")
    os.utime(left, (0, time.time() - service.ABANDONED_S - 60))
    service.clear_spool(tmp_path)
    assert list(tmp_path.iterdir()) == [arriving]
