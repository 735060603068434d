"""What frames an env's infrastructure: versions, where its state is, whose account it goes to, what it is told and what it tells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pilotis.derive.workload import SERVERS
from pilotis.render.terraform.hcl import Block, Nested, Ref, Value, Why
from pilotis.render.terraform.modules import PROVIDER, TERRAFORM
from pilotis.render.terraform.secrets import by_hand, prefix

if TYPE_CHECKING:
    from pilotis.contract.model import Contract
    from pilotis.derive.site import Site


def state_key(contract: Contract, site: Site) -> str:
    return f"{contract.name}/{site.env.name}/terraform.tfstate"


def versions() -> Iterator[Block]:
    aws = {"source": "hashicorp/aws", "version": PROVIDER}
    yield Block("terraform", (), {"required_version": TERRAFORM, "required_providers": Nested({"aws": aws})})


def backend(contract: Contract, site: Site) -> Iterator[Block]:
    body = {
        "key": state_key(contract, site),
        "region": site.infra.region,
        "encrypt": True,
        "use_lockfile": Why(True, "Two people never apply at once."),
    }
    comment = "The state of this env alone. Its bucket is named once, with -backend-config=bucket=NAME: see README.md."
    yield Block("terraform", (), {"backend": Nested(body, label="s3")}, comment=comment)


def providers(contract: Contract, site: Site) -> Iterator[Block]:
    tags = {"Project": contract.name, "Environment": site.env.name, "ManagedBy": "terraform"}
    body = {
        "region": site.infra.region,
        "allowed_account_ids": Why([Ref("var.account_id")], f"Nothing of {site.env.name} ends up in another env's account."),
        "default_tags": Nested({"tags": tags}),
    }
    yield Block("provider", ("aws",), body)


def variables(site: Site) -> Iterator[Block]:
    twelve = 'can(regex("^[0-9]{12}$", var.account_id))'
    yield _variable(
        "account_id",
        "string",
        f"The account of AWS that holds {site.env.name}.",
        check=(twelve, "An account of AWS has twelve digits."),
    )
    yield _variable(
        "cluster_admins",
        "list(string)",
        "ARNs of the roles that administer the cluster.",
        check=("length(var.cluster_admins) > 0", "Without an administrator nobody can enter the cluster."),
    )
    yield _variable(
        "deployers",
        "list(string)",
        f"ARNs of the roles that release: all rights, in the namespace {site.name} alone.",
        default=[],
    )
    yield _variable(
        "cluster_public_cidrs",
        "list(string)",
        "Networks outside from which the cluster's API is reached; from within alone when empty.",
        default=[],
        check=(
            '!contains(var.cluster_public_cidrs, "0.0.0.0/0")',
            "The whole world is no list of networks: name those that need it.",
        ),
    )
    yield _variable(
        "passwords_version",
        "number",
        f"One more makes new passwords for the database and the caches; every {site.secrets.max_age_days} days, see README.md.",
        default=1,
    )
    names = by_hand(site)
    if names:
        known = ", ".join(f'"{name}"' for name in names)
        yield _variable(
            "rotations",
            "map(string)",
            "The name of a secret, and the ARN of the function that can renew it.",
            default={},
            check=(f"length(setsubtract(keys(var.rotations), [{known}])) == 0", f"One of: {', '.join(names)}."),
        )


def outputs(site: Site) -> Iterator[Block]:
    """Names and addresses, and no secret: whoever needs one reads it where it is kept."""
    told: dict[str, tuple[str, Value]] = {
        "region": ("Where all of it is.", site.infra.region),
        "cluster_name": ("For aws eks update-kubeconfig.", Ref("module.cluster.cluster_name")),
        "vpc_id": ("The network.", Ref("module.vpc.vpc_id")),
        "key_arn": ("The key of all that is stored.", Ref("module.key.key_arn")),
        "database_host": ("Postgres.", Ref("module.database.db_instance_address")),
        "broker_host": ("The Redis of the queues.", Ref("module.broker.endpoint")),
        "cache_host": ("The Redis of budgets and caches.", Ref("module.cache.endpoint")),
        "blobs_bucket": ("The original files.", Ref("module.blobs.s3_bucket_id")),
        "service_role_arn": ("What the service may do in the cloud.", Ref("aws_iam_role.service.arn")),
        "secret_names": (
            "Secrets by name: External Secrets brings their values to the cluster, and they pass through no output.",
            [f"{prefix(site)}/{name}" for name in (*SERVERS, *by_hand(site))],
        ),
    }
    if site.is_prod:
        told["database_replica_host"] = (
            "A copy of Postgres that questions may use.",
            Ref("module.replica.db_instance_address"),
        )
    if site.infra.vector == "opensearch":
        told["index_endpoint"] = ("OpenSearch.", Ref("module.index.domain_endpoint"))
    for name, (description, value) in told.items():
        yield Block("output", (name,), {"description": description, "value": value})


def _variable(name: str, kind: str, description: str, *, check: tuple[str, str] | None = None, **default: Any) -> Block:
    body: dict[str, Value] = {"description": description, "type": Ref(kind), **default}
    if check:
        body["validation"] = Nested({"condition": Ref(check[0]), "error_message": check[1]})
    return Block("variable", (name,), body)
