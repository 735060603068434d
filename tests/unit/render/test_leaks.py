"""What counts as a secret in a rendered file, what does not, and that a finding shows none."""

from __future__ import annotations

import random
import string
import zipfile
from io import BytesIO
from pathlib import Path
from time import perf_counter

import pytest
from typer.testing import CliRunner

from pilotis.cli import app
from pilotis.contract import load
from pilotis.derive.plan import derive
from pilotis.render import render as rendering
from pilotis.render.files import File, Scene
from pilotis.render.leaks import entropy, leaks
from pilotis.render.render import render

# Put together here, so that no scanner takes this file for a leak.
LONG = "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=40))
HEX = "".join(random.Random(7).choices("0123456789abcdef", k=40))
KEYS = {
    "an AWS access key": "AKIA" + "Q3EGTIQ7ZX2R5LMN",
    "a key of OpenAI or Anthropic": "sk-" + "proj-" + LONG,
    "a key of Pilotis": "plt_" + LONG + "abc",
    "a token of Slack": "xoxb-" + "1234567890-" + LONG,
    "a webhook of Slack": "https://hooks." + "slack.com/services/T00000000/B00000000/" + LONG,
    "a token of GitHub": "ghp_" + LONG[:36],
    "a token of GitLab": "glpat-" + LONG[:20],
    "a key of Google": "AIza" + LONG[:35],
    "a token of Vault": "hvs." + LONG,
    "a token of npm": "npm_" + LONG[:36],
    "a JSON Web Token": f"eyJ{LONG}.eyJ{LONG}.{LONG}",
    "a private key": "-----BEGIN " + "RSA PRIVATE KEY-----",
}


def found(text: str | bytes, path: str = "some/file.yml") -> list[str]:
    return [leak.what for leak in leaks([File(path=path, content=text)])]


@pytest.mark.parametrize(("what", "key"), KEYS.items())
@pytest.mark.parametrize("line", ["key: {}", 'key = "{}"', '{{"key": "{}"}}', "see {} there", "- {}", "curl -H 'x: {}'"])
def test_keys_are_known_by_their_form(what: str, key: str, line: str) -> None:
    (leak, *_) = [leak for leak in leaks([File(path="a/b.tf", content=f"one\ntwo\n{line.format(key)}\n")]) if leak.what == what]
    assert (leak.path, leak.line) == ("a/b.tf", 3)
    assert key not in str(leak)
    assert str(leak).startswith(f"a/b.tf:3: {what} ({key.removeprefix('https://')[:4]}…")


@pytest.mark.parametrize(
    "line",
    [
        "url: postgresql://pilotis:hunter2@db.example.com/rag",
        'REDIS = "rediss://:hunter2!x@cache/0"',
        "password: hunter2",
        'auth_token = "correct-horse-battery"',
        "POSTGRES_PASSWORD=pilotis1",
        "adminPassword: hunter22",
        '"client_secret": "s3cr3t-value"',
        "routing_key: R012ABCDEF",
        f"anything: {LONG}",
        f'value = "{HEX}"',
        f"# an old one: password: {LONG}",
    ],
)
def test_passwords_and_random_values_are_found(line: str) -> None:
    (leak,) = leaks([File(path="x.yml", content=f"{line}\n")])
    assert leak.line == 1
    assert not any(value in str(leak) for value in ("hunter2", "battery", "pilotis1", "s3cr3t", "R012ABCDEF", LONG, HEX))


@pytest.mark.parametrize(
    "line",
    [
        "url: postgresql://pilotis:$POSTGRES_PASSWORD@db/rag",
        "url: postgresql://pilotis:${POSTGRES_PASSWORD:?}@db/rag",
        "export PILOTIS_REDIS_URL=rediss://:PASSWORD@broker.example.com:6379/0",
        "http://localhost:9090/graph and mail@example.com",
        'password = "{{ vault_password }}"',
        "password: !vault |",
        "password = random_password.db.result",
        "password = module.db.password",
        "password_file: /run/secrets/db",
        "bearer_token_file: /var/run/secrets/token",
        "secretName: rag-prod-secrets",
        "secretKey: PILOTIS_DATABASE_URL",
        "secret_id = aws_secretsmanager_secret.this.id",
        "manage_master_user_password: true",
        "llm_eur_per_token = 0.00001",
        "token: ${{ secrets.GITHUB_TOKEN }}",
        "POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?set it}",
        f"image: registry.example.com/pilotis@sha256:{HEX}{HEX[:24]}",
        f"uses: actions/checkout@{HEX}",
        f"# Rendered by Pilotis from contract 'rag', digest {HEX}{HEX[:24]}.",
        f"checksum/contract: {HEX}",
        'expr: sum(rate(rag_tokens_total{class="input"}[5m])) by (model)',
        "serviceAccountName: rag-prod-worker-ingest-and-some-more-words",
        "kind: ValidatingAdmissionPolicyBindingList2",
        "arn = arn:aws:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy",
        "The secret: rotate the password, then start again.",
    ],
)
def test_names_variables_and_checksums_are_none(line: str) -> None:
    assert found(f"{line}\n", "x.md" if line.startswith("The") else "x.yml") == []


def test_spreadsheets_and_other_bytes_are_looked_into() -> None:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings.xml", f"<t>{KEYS['a token of GitHub']}</t>")
    (leak,) = leaks([File(path="budget/budget.xlsx", content=packed.getvalue())])
    assert (leak.path, leak.what) == ("budget/budget.xlsx!xl/sharedStrings.xml", "a token of GitHub")
    assert found(b"\xff\xfe\x00" + KEYS["an AWS access key"].encode()) == ["an AWS access key"]


def test_entropy_is_that_of_shannon() -> None:
    assert entropy("") == 0
    assert entropy("aaaa") == 0
    assert entropy("abcd") == 2
    assert entropy(string.hexdigits.lower()[:16]) == 4


@pytest.mark.parametrize(
    "contract", [None, *sorted(Path("examples").glob("*.toml")), *sorted(Path("examples").glob("*.json"))], ids=str
)
def test_nothing_that_is_rendered_holds_a_secret(contract: Path | None) -> None:
    files = render(derive(load.load(contract) if contract else load.default()))
    began = perf_counter()
    assert [str(leak) for leak in leaks(files.values())] == []
    assert perf_counter() - began < 2


def test_render_writes_nothing_where_a_secret_would_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def leaking(scene: Scene) -> list[File]:
        return [File(path="a.yml", content="fine: 1\n"), File(path="b.yml", content=f"x: 1\nkey: {KEYS['a token of Slack']}\n")]

    monkeypatch.setattr(rendering, "DELIVERABLES", dict.fromkeys(rendering.DELIVERABLES, ()) | {"iac": (leaking,)})
    done = CliRunner().invoke(app, ["render", "-o", str(tmp_path / "deploy")])
    assert done.exit_code != 0
    assert "b.yml:2: a token of Slack (xoxb…" in str(done.exception)
    assert LONG not in str(done.exception)
    assert not (tmp_path / "deploy").exists()
