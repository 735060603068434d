"""Secrets in Secrets Manager. No value of one is in a file, in a plan or in the state.

The passwords of the database and of the caches are made in memory while Terraform applies, written to Secrets Manager, and read from
there where they are set: what is written is never stored (`_wo`), what is read neither (`ephemeral`). All else is put there by people.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilotis.derive.workload import SERVERS, secrets
from pilotis.render.terraform.hcl import Block, Call, Nested, Ref, Text, Why
from pilotis.render.terraform.modules import resource

if TYPE_CHECKING:
    from pilotis.derive.site import Site

PASSWORDS = ("database", "broker", "cache")
PASSWORD_LENGTH = 48
JUDGE = "PILOTIS_JUDGE_KEY"
"""The API key by which a release asks for its verdict."""
MOST_DAYS = 1000
"""Between rotations, as Secrets Manager takes it."""
RECOVERY_DAYS = 30
POSTGRES_PORT, REDIS_PORT = 5432, 6379
USER = DATABASE = "pilotis"
REDIS_USER = "default"
_BY_VERSION = "Renewed by passwords_version: no function of Secrets Manager could tell the servers."
_RENEWED = {
    "password": _BY_VERSION,
    "server": _BY_VERSION,
    "given": "Renewed where it was issued: by a function that is named in rotations, else by people; the service tells its age.",
}


def prefix(site: Site) -> str:
    """What the names begin with: the contract's path where it says that secrets are kept here, NAME-ENV else."""
    kept = (site.secrets.path or "").rstrip("/") if site.secrets.provider == "aws" else ""
    return kept or site.name


def by_hand(site: Site) -> tuple[str, ...]:
    """The secrets that people put there; none where the contract keeps them in Vault."""
    return () if site.secrets.provider == "vault" else (*(name for name in secrets(site.env) if name not in SERVERS), JUDGE)


def store(site: Site) -> Iterator[Block]:
    yield from _passwords(site)
    yield from _addresses(site)
    yield from _put_by_people(site)


def password(of: str) -> Ref:
    return Ref(f'ephemeral.aws_secretsmanager_secret_version.password["{of}"].secret_string')


def _secret(site: Site, kind: str, names: tuple[str, ...], *, folder: str = "", what: str, comment: str) -> Block:
    body = {
        "for_each": Call("toset", list(names)),
        "name": Text(f"{prefix(site)}/{folder}", Ref("each.value")),
        "description": Text(f"{site.name}: {what} ", Ref("each.value")),
        "kms_key_id": Ref("module.key.key_arn"),
        "recovery_window_in_days": RECOVERY_DAYS,
        "tags": {"MaxAgeDays": str(site.secrets.max_age_days)},
    }
    return resource(
        "aws_secretsmanager_secret", kind, body, comment=comment, notes=(f"checkov:skip=CKV2_AWS_57:{_RENEWED[kind]}",)
    )


def _passwords(site: Site) -> Iterator[Block]:
    yield _secret(
        site,
        "password",
        PASSWORDS,
        folder="passwords/",
        what="password of the",
        comment="Made here, and told to nobody but the servers.",
    )
    every = Ref("aws_secretsmanager_secret.password")
    yield Block(
        "ephemeral",
        ("aws_secretsmanager_random_password", "new"),
        {
            "for_each": every,
            "password_length": PASSWORD_LENGTH,
            "exclude_punctuation": Why(True, "It stands in an address, where signs would have to be escaped."),
        },
    )
    yield resource(
        "aws_secretsmanager_secret_version",
        "password",
        {
            "for_each": every,
            "secret_id": Ref("each.value.id"),
            "secret_string_wo": Ref("ephemeral.aws_secretsmanager_random_password.new[each.key].random_password"),
            "secret_string_wo_version": Ref("var.passwords_version"),
        },
    )
    yield Block(
        "ephemeral",
        ("aws_secretsmanager_secret_version", "password"),
        {"for_each": Ref("aws_secretsmanager_secret_version.password"), "secret_id": Ref("each.value.secret_id")},
        comment="Read back: a run that broke off in between sets what was written, not another one.",
    )


def _addresses(site: Site) -> Iterator[Block]:
    yield _secret(
        site,
        "server",
        SERVERS,
        what="the address, with its password, for",
        comment="Where the servers are, for the processes of the service.",
    )
    database = Text(
        f"postgresql://{USER}:",
        password("database"),
        "@",
        Ref("module.database.db_instance_address"),
        f":{POSTGRES_PORT}/{DATABASE}?sslmode=require",
    )
    hosts = {"PILOTIS_REDIS_URL": "cache", "PILOTIS_BROKER_URL": "broker"}
    redis = {
        name: Text(
            f"rediss://{REDIS_USER}:",
            password(host),
            "@",
            Ref(f"module.{host}.endpoint"),
            f":{REDIS_PORT}/0?ssl_cert_reqs=required",
        )
        for name, host in hosts.items()
    }
    addresses = {"PILOTIS_DATABASE_URL": database, **redis}
    for name in SERVERS:
        yield resource(
            "aws_secretsmanager_secret_version",
            name.lower(),
            {
                "secret_id": Ref(f'aws_secretsmanager_secret.server["{name}"].id'),
                "secret_string_wo": addresses[name],
                "secret_string_wo_version": Ref("var.passwords_version"),
            },
        )


def _put_by_people(site: Site) -> Iterator[Block]:
    names = by_hand(site)
    if not names:
        return
    yield _secret(
        site,
        "given",
        names,
        what="given by people:",
        comment="Without a value here: README.md says how each is put there. Terraform neither writes nor reads it.",
    )
    yield resource(
        "aws_secretsmanager_secret_rotation",
        "given",
        {
            "for_each": Ref("var.rotations"),
            "secret_id": Ref("aws_secretsmanager_secret.given[each.key].id"),
            "rotation_lambda_arn": Ref("each.value"),
            "rotation_rules": Nested({"automatically_after_days": min(MOST_DAYS, site.secrets.max_age_days)}),
        },
        comment="Secrets Manager rotates what a function of yours can renew. The service itself tells the age of all others, and alerts.",
    )
