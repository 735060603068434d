"""What `ports.secrets.Secrets` promises, asked of every keeper."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from pilotis.adapters.secrets.aws import AwsSecrets
from pilotis.adapters.secrets.environment import EnvironmentSecrets
from pilotis.adapters.secrets.folder import FolderSecrets
from pilotis.adapters.secrets.vault import VaultSecrets
from pilotis.control.secrets import ages
from pilotis.errors import PilotisError, SetupError, Transient
from pilotis.ports.secrets import Secrets
from pilotis.testing.vault import ROOT, STRANGER, Vault

VALUE = "postgresql://pilotis:hunter2 ü'\"%@db.example.com/rag?sslmode=verify-full"
_numbers = itertools.count(1)
NAMES = ("PILOTIS_DATABASE_URL", "OPENAI_API_KEY", "PILOTIS_REDIS_URL")


@dataclass
class Keeper:
    """One that is asked, and how something is put there."""

    secrets: Secrets
    put: Callable[[str, str], Any]
    knows_ages: bool = True


@pytest.fixture
def vault() -> Iterator[Vault]:
    made = Vault()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def manager(s3: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    told = {"ENDPOINT_URL": s3, "ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "DEFAULT_REGION": "eu-west-3"}
    for name, value in told.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    return boto3.client("secretsmanager")


@pytest.fixture
def prefix() -> str:
    return f"rag/env-{next(_numbers)}"


def _put_in_manager(manager: Any, name: str, value: str) -> None:
    try:
        manager.create_secret(Name=name, SecretString=value)
    except manager.exceptions.ResourceExistsException:
        manager.put_secret_value(SecretId=name, SecretString=value)


@pytest.fixture(params=["environment", "file", "vault", "aws"])
def keeper(request: pytest.FixtureRequest, tmp_path: Path, prefix: str) -> Keeper:
    if request.param == "environment":
        environ: dict[str, str] = {}
        return Keeper(EnvironmentSecrets(environ), environ.__setitem__, knows_ages=False)
    if request.param == "file":
        return Keeper(FolderSecrets(tmp_path), lambda name, value: (tmp_path / name).write_text(value + "\n"))
    if request.param == "vault":
        vault: Vault = request.getfixturevalue("vault")
        put = lambda name, value: vault.put(f"secret/{prefix}/{name}", {"value": value})  # noqa: E731 - a line reads better
        return Keeper(VaultSecrets(f"secret/{prefix}", addr=vault.url, token=ROOT), put)
    manager = request.getfixturevalue("manager")
    return Keeper(
        AwsSecrets(prefix, region="eu-west-3"), lambda name, value: _put_in_manager(manager, f"{prefix}/{name}", value)
    )


def test_what_was_put_is_read_and_what_is_not_there_is_not(keeper: Keeper) -> None:
    keeper.put("PILOTIS_DATABASE_URL", VALUE)
    keeper.put("OPENAI_API_KEY", "sk-one")
    found = keeper.secrets.read(NAMES)
    assert {name: secret.value for name, secret in found.items()} == {"PILOTIS_DATABASE_URL": VALUE, "OPENAI_API_KEY": "sk-one"}
    assert keeper.secrets.read(()) == {}
    assert "PILOTIS_DATABASE_URL" in keeper.secrets.place("PILOTIS_DATABASE_URL")


def test_a_value_that_was_replaced_is_the_one_that_is_read(keeper: Keeper) -> None:
    keeper.put("OPENAI_API_KEY", "sk-one")
    keeper.put("OPENAI_API_KEY", "sk-two")
    assert keeper.secrets.read(NAMES)["OPENAI_API_KEY"].value == "sk-two"


def test_ages_are_those_of_the_value(keeper: Keeper) -> None:
    keeper.put("OPENAI_API_KEY", "sk-one")
    now = datetime.now(UTC)
    at = keeper.secrets.read(NAMES)["OPENAI_API_KEY"].at
    assert (at is not None) is keeper.knows_ages
    assert at is None or abs(at - now) < timedelta(seconds=5)
    (told,) = ages(keeper.secrets, NAMES, now=now + timedelta(days=91))
    assert (told.name, told.age and told.age.days) == ("OPENAI_API_KEY", 91 if keeper.knows_ages else None)
    (early,) = ages(keeper.secrets, NAMES, now=now - timedelta(days=1))
    assert early.age in {None, timedelta(0)}, "clocks differ"


def test_no_value_is_in_a_repr(keeper: Keeper) -> None:
    keeper.put("PILOTIS_DATABASE_URL", VALUE)
    found = keeper.secrets.read(NAMES)
    assert "hunter2" not in f"{found!r} {keeper.secrets!r} {ages(keeper.secrets, NAMES, now=datetime.now(UTC))!r}"


@pytest.mark.parametrize("blank", ["", " ", "\n"])
def test_a_secret_that_is_empty_is_none(keeper: Keeper, blank: str) -> None:
    keeper.put("OPENAI_API_KEY", blank or (" " if isinstance(keeper.secrets, AwsSecrets) else ""))  # AWS stores no empty text
    if isinstance(keeper.secrets, EnvironmentSecrets):
        assert keeper.secrets.read(NAMES) == {}
        return
    with pytest.raises(SetupError, match="OPENAI_API_KEY") as refused:
        keeper.secrets.read(NAMES)
    assert refused.value.remedy


class TestFolder:
    """What only files can be."""

    def test_no_folder_is_no_secret(self, tmp_path: Path) -> None:
        assert FolderSecrets(tmp_path / "nowhere").read(NAMES) == {}
        (tmp_path / "file").touch()
        assert FolderSecrets(tmp_path / "file").read(NAMES) == {}

    def test_a_folder_binary_and_large_files_are_refused_by_name(self, tmp_path: Path) -> None:
        path = tmp_path / "OPENAI_API_KEY"
        path.write_bytes(b"\xff\xfehunter2")
        with pytest.raises(SetupError, match="OPENAI_API_KEY is no text") as refused:
            FolderSecrets(tmp_path).read(NAMES)
        assert "hunter2" not in str(refused.value)
        path.write_bytes(b"x" * 100_000)
        with pytest.raises(SetupError, match="more than 65,536 bytes"):
            FolderSecrets(tmp_path).read(NAMES)
        path.unlink()
        path.mkdir()
        with pytest.raises(SetupError, match="cannot be read: Is a directory"):
            FolderSecrets(tmp_path).read(NAMES)

    def test_kubernetes_swaps_links_and_the_age_is_that_of_the_file_behind(self, tmp_path: Path) -> None:
        (tmp_path / "..2026").mkdir()
        (tmp_path / "..2026" / "OPENAI_API_KEY").write_text("sk-one")
        os.utime(tmp_path / "..2026" / "OPENAI_API_KEY", (1_000_000_000, 1_000_000_000))
        (tmp_path / "OPENAI_API_KEY").symlink_to("..2026/OPENAI_API_KEY")
        assert FolderSecrets(tmp_path).read(NAMES)["OPENAI_API_KEY"].at == datetime.fromtimestamp(1_000_000_000, UTC)


class TestVault:
    """What only Vault can say."""

    def refusal(self, keeper: VaultSecrets) -> PilotisError:
        with pytest.raises(PilotisError) as refused:
            keeper.read(NAMES)
        text = f"{refused.value} {refused.value.remedy}"
        assert "hvs." not in text, "no token in an error"
        return refused.value

    def test_a_version_that_was_deleted_is_not_there(self, vault: Vault) -> None:
        vault.put("secret/rag/OPENAI_API_KEY", {"value": "sk-one"})
        vault.kept["secret/rag/OPENAI_API_KEY"][-1].deleted = datetime.now(UTC)
        assert VaultSecrets("secret/rag", addr=vault.url, token=ROOT).read(NAMES) == {}

    def test_tokens_that_may_not_and_tokens_that_are_none(self, vault: Vault) -> None:
        for token in (STRANGER, "hvs.nonsense"):
            refused = self.refusal(VaultSecrets("secret/rag", addr=vault.url, token=token))
            assert isinstance(refused, SetupError)
            assert "refuses to show secret/rag/PILOTIS_DATABASE_URL" in refused.message

    def test_a_vault_that_is_sealed_or_away_is_asked_again_later(self, vault: Vault) -> None:
        vault.is_sealed = True
        assert isinstance(self.refusal(VaultSecrets("secret/rag", addr=vault.url, token=ROOT)), Transient)
        assert isinstance(self.refusal(VaultSecrets("secret/rag", addr="http://127.0.0.1:1", token=ROOT)), Transient)

    def test_another_engine_and_another_field_are_said_to_be_so(self, vault: Vault) -> None:
        assert "version 2" in self.refusal(VaultSecrets("old/rag", addr=vault.url, token=ROOT)).message
        vault.put("secret/rag/PILOTIS_DATABASE_URL", {"password": "hunter2"})
        refused = self.refusal(VaultSecrets("secret/rag", addr=vault.url, token=ROOT))
        assert "no text in its field `value`" in refused.message
        assert "hunter2" not in refused.message

    def test_what_lacks_is_asked_for(self, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(SetupError, match="VAULT_ADDR is not set"):
            VaultSecrets("secret/rag", addr=None, token=ROOT)
        with pytest.raises(SetupError, match="names a mount of Vault and no path"):
            VaultSecrets("secret", addr=vault.url, token=ROOT)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("VAULT_TOKEN", raising=False)
        with pytest.raises(SetupError, match="there is no token"):
            VaultSecrets("secret/rag", addr=vault.url)


class TestAws:
    """What only AWS can say."""

    def test_a_secret_that_is_about_to_be_deleted(self, manager: Any, prefix: str) -> None:
        manager.create_secret(Name=f"{prefix}/OPENAI_API_KEY", SecretString="sk-one")
        manager.delete_secret(SecretId=f"{prefix}/OPENAI_API_KEY", RecoveryWindowInDays=7)
        with pytest.raises(SetupError, match="InvalidRequestException") as refused:
            AwsSecrets(prefix, region="eu-west-3").read(NAMES)
        assert "restore it" in refused.value.remedy

    @pytest.mark.usefixtures("manager")
    def test_away_without_a_key_and_without_a_region(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv("AWS_DEFAULT_REGION")
        assert AwsSecrets("rag", region="eu-west-3").read(NAMES) == {}, "the contract's region stands in"
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        with pytest.raises(Transient, match="cannot be reached"):
            AwsSecrets("rag", region="eu-west-3").read(NAMES)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        with pytest.raises(SetupError, match="there is no key"):
            AwsSecrets("rag", region="eu-west-3").read(NAMES)
