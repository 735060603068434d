"""The modules of others that the infrastructure is made of, each at one version, and how they are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pilotis.render.terraform.hcl import Block, Value

TERRAFORM = ">= 1.11.1"
"""Values that are written and never stored came with 1.11; the module of the database asks for 1.11.1."""
PROVIDER = "~> 6.49"
"""Of AWS: the first that every module below accepts; it knows passwords of Redis that are written and never stored."""


@dataclass(frozen=True, slots=True)
class Module:
    source: str
    version: str


MODULES: Mapping[str, Module] = MappingProxyType(
    {
        "vpc": Module("terraform-aws-modules/vpc/aws", "6.6.0"),
        "eks": Module("terraform-aws-modules/eks/aws", "21.19.0"),
        "rds": Module("terraform-aws-modules/rds/aws", "7.2.0"),
        "redis": Module("cloudposse/elasticache-redis/aws", "2.1.0"),
        "s3": Module("terraform-aws-modules/s3-bucket/aws", "5.15.4"),
        "kms": Module("terraform-aws-modules/kms/aws", "4.2.0"),
        "opensearch": Module("terraform-aws-modules/opensearch/aws", "2.10.0"),
    }
)
BY_COMMIT = (
    "checkov:skip=CKV_TF_1:A module of the registry is pinned by its exact version; only one from git can be by its commit."
)


def call(module: str, name: str, *arguments: Mapping[str, Value], comment: str = "") -> Block:
    """The module of that name in MODULES, called `name` here. Several mappings of arguments stand apart."""
    found = MODULES[module]
    body = ({"source": found.source, "version": found.version}, *arguments)
    return Block("module", (name,), body, comment=comment, notes=(BY_COMMIT,))


def resource(kind: str, name: str, arguments: Mapping[str, Value], *, comment: str = "", notes: tuple[str, ...] = ()) -> Block:
    return Block("resource", (kind, name), arguments, comment=comment, notes=notes)
