"""What a process lacks is fetched from where the contract keeps it, and nothing of it is shown."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotis import wiring
from pilotis.contract.load import load
from pilotis.derive.site import kept
from pilotis.embedded import Addresses
from pilotis.errors import SetupError, Transient
from pilotis.testing.vault import ROOT, Vault

TOLD = {
    "PILOTIS_DATABASE_URL": "postgresql://me:hunter2@db/x",
    "PILOTIS_REDIS_URL": "rediss://:hunter2@cache/0",
    "PILOTIS_BROKER_URL": "rediss://:hunter2@broker/0",
    "OPENAI_API_KEY": "sk-hunter2",
}


def contract(folder: Path, secrets: str, name: str = "shop") -> Path:
    path = folder / "pilotis.toml"
    path.write_text(f'name = "{name}"\n[envs.dev]\nllm = "gpt-5-mini"\n[envs.dev.secrets]\n{secrets}\n')
    return path


@pytest.fixture
def vault() -> Iterator[Vault]:
    made = Vault()
    made.start()
    yield made
    made.stop()


def in_files(folder: Path) -> None:
    folder.mkdir()
    for name, value in TOLD.items():
        (folder / name).write_text(value + "\n")


def test_files_beside_the_contract_tell_what_the_environment_does_not(tmp_path: Path) -> None:
    in_files(tmp_path / "kept")
    path = contract(tmp_path, 'provider = "file"\npath = "kept"')
    told = wiring.settings(contract=path, environ={"PILOTIS_REDIS_URL": "redis://mine"}, folder=Path("/"))
    assert (told.database_url, told.redis_url) == (TOLD["PILOTIS_DATABASE_URL"], "redis://mine")
    assert told.broker_url == TOLD["PILOTIS_BROKER_URL"]
    assert told.environ["OPENAI_API_KEY"] == "sk-hunter2"
    assert told.fetched == {"PILOTIS_DATABASE_URL", "PILOTIS_BROKER_URL", "OPENAI_API_KEY"}
    assert "hunter2" not in repr(told)


def test_children_fetch_for_themselves(tmp_path: Path) -> None:
    in_files(tmp_path / "kept")
    path = contract(tmp_path, 'provider = "file"\npath = "kept"')
    told = wiring.settings(contract=path, data=tmp_path, environ={"PATH": "/bin"}, folder=Path("/"))
    plan, env = wiring.load_plan(told)
    assert told.database_url
    assert told.redis_url
    servers = Addresses(database_url=told.database_url, redis_url=told.redis_url, broker_url=told.broker_url)
    environ = wiring.child_environ(told, plan, env, servers)
    assert "hunter2" not in repr(environ)
    assert wiring.settings(environ=environ, folder=Path("/")) == wiring.settings(
        contract=path, data=tmp_path, environ=environ, folder=Path("/")
    )
    assert wiring.settings(environ=environ, folder=Path("/")).database_url == TOLD["PILOTIS_DATABASE_URL"]


def test_vault_below_the_usual_mount(tmp_path: Path, vault: Vault) -> None:
    path = contract(tmp_path, 'provider = "vault"')
    for name, value in TOLD.items():
        vault.put(f"secret/shop/dev/{name}", {"value": value})
    environ = {"VAULT_ADDR": vault.url, "VAULT_TOKEN": ROOT}
    told = wiring.settings(contract=path, environ=environ, folder=Path("/"))
    assert (told.database_url, told.broker_url) == (TOLD["PILOTIS_DATABASE_URL"], TOLD["PILOTIS_BROKER_URL"])
    asked = len(vault.asked)
    wiring.settings(contract=path, environ=environ | TOLD, folder=Path("/"))
    assert len(vault.asked) == asked, "what is in the environment is not asked for"
    vault.is_sealed = True
    with pytest.raises(Transient, match="does not answer"):
        wiring.settings(contract=path, environ=environ, folder=Path("/"))


@pytest.mark.parametrize("lacks", ["PILOTIS_DATABASE_URL", "PILOTIS_REDIS_URL"])
def test_no_servers_of_its_own_where_secrets_are_kept_elsewhere(tmp_path: Path, lacks: str) -> None:
    in_files(tmp_path / "kept")
    (tmp_path / "kept" / lacks).unlink()
    path = contract(tmp_path, 'provider = "file"\npath = "kept"')
    with pytest.raises(SetupError, match=f"{lacks} is not in the environment, and there is no file .*kept/{lacks}") as refused:
        wiring.settings(contract=path, environ={}, folder=Path("/"))
    assert 'provider = "environment" in [envs.dev.secrets]' in refused.value.remedy


async def test_a_key_that_is_nowhere_is_said_to_be_in_neither_place(tmp_path: Path) -> None:
    in_files(tmp_path / "kept")
    (tmp_path / "kept" / "OPENAI_API_KEY").unlink()
    told = wiring.settings(contract=contract(tmp_path, 'provider = "file"\npath = "kept"'), environ={}, folder=Path("/"))
    plan, env = wiring.load_plan(told)
    with pytest.raises(
        SetupError, match=r"OPENAI_API_KEY is not set in the environment, nor kept as kept/OPENAI_API_KEY \(file\)"
    ):
        async with wiring.open_deps(told, plan, env, addresses=Addresses(database_url="", redis_url="")):
            pass


def test_a_contract_that_is_wrong_is_left_to_whoever_loads_it(tmp_path: Path) -> None:
    path = contract(tmp_path, 'provider = "paper"')
    assert wiring.settings(contract=path, environ={}, folder=Path("/")).is_embedded
    good = contract(tmp_path, 'provider = "file"')
    assert wiring.settings(contract=good, env="nowhere", environ={}, folder=Path("/")).is_embedded


def test_where_they_are_kept_when_nothing_is_said(tmp_path: Path) -> None:
    for provider, place in (("file", "shop/dev"), ("aws", "shop/dev"), ("vault", "secret/shop/dev")):
        assert kept(load(contract(tmp_path, f'provider = "{provider}"')), "dev").path == place


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_this_account_may_not_read(tmp_path: Path) -> None:
    in_files(tmp_path / "kept")
    (tmp_path / "kept" / "OPENAI_API_KEY").chmod(0)
    with pytest.raises(SetupError, match="OPENAI_API_KEY cannot be read: Permission denied"):
        wiring.settings(contract=contract(tmp_path, 'provider = "file"\npath = "kept"'), environ={}, folder=Path("/"))
