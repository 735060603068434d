"""The env's own network, which no other env's reaches, and its own key."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilotis.render.terraform import sizes
from pilotis.render.terraform.hcl import Block, Nested, Ref, Text, Why
from pilotis.render.terraform.modules import call, resource
from pilotis.render.terraform.secrets import RECOVERY_DAYS

if TYPE_CHECKING:
    from pilotis.derive.site import Site

LOGS_DAYS = 90
"""How long what the cloud itself logs is kept."""
_POD_NET, _SMALL_NET = 20, 24
"""Bits of a network of pods, which each take an address of it, and of any other."""


def network(site: Site) -> Iterator[Block]:
    count = sizes.zones(site)
    yield Block(
        "data",
        ("aws_availability_zones", "here"),
        {"state": "available", "filter": Nested({"name": "opt-in-status", "values": ["opt-in-not-required"]})},
        comment="Zones of the region itself: local zones have no databases.",
        notes=("checkov:skip=CKV_AWS_394:Only the first of them are taken, and AWS names a new zone after those there are.",),
    )
    yield call("vpc", "vpc", _vpc(site, count), comment=f"Of {site.env.name} alone: no peering, no route to another env.")
    yield resource(
        "aws_vpc_endpoint",
        "s3",
        {
            "vpc_id": Ref("module.vpc.vpc_id"),
            "service_name": f"com.amazonaws.{site.infra.region}.s3",
            "vpc_endpoint_type": "Gateway",
            "route_table_ids": Ref("module.vpc.private_route_table_ids"),
        },
        comment="Original files and snapshots do not pass the NAT gateway, which is paid by the byte.",
    )


def key(site: Site) -> Iterator[Block]:
    logs = {
        "sid": "Logs",
        "principals": [{"type": "Service", "identifiers": [f"logs.{site.infra.region}.amazonaws.com"]}],
        "actions": ["kms:Encrypt*", "kms:Decrypt*", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"],
        "resources": ["*"],
        "condition": [
            {
                "test": "ArnLike",
                "variable": "kms:EncryptionContext:aws:logs:arn",
                "values": [Text(f"arn:aws:logs:{site.infra.region}:", Ref("var.account_id"), ":log-group:*")],
            }
        ],
    }
    body = {
        "description": f"All that {site.name} stores.",
        "aliases": [site.name],
        "enable_key_rotation": True,
        "deletion_window_in_days": RECOVERY_DAYS,
        "key_statements": [logs],
    }
    yield call("kms", "key", body, comment="One key for the env: who may not use it reads nothing of what the env stores.")


def subnets(cidr: str, count: int) -> dict[str, list[str]]:
    """Of each kind one for every zone: pods from the start of the env's network on, all others from its second half on."""
    whole = ipaddress.IPv4Network(cidr)
    pods = [str(net) for net in whole.subnets(new_prefix=_POD_NET)]
    small = [str(net) for net in list(whole.subnets(prefixlen_diff=1))[1].subnets(new_prefix=_SMALL_NET)]
    kinds = ("public", "database", "elasticache")
    # Places for four zones each: another zone moves no network that stands.
    return {"private": pods[:count], **{kind: small[4 * n : 4 * n + count] for n, kind in enumerate(kinds)}}


def _vpc(site: Site, count: int) -> dict[str, object]:
    nets = subnets(site.cidr, count)
    nat = (
        "A NAT gateway in each zone: one zone that fails takes no other with it."
        if site.is_prod
        else "One for all zones is enough here."
    )
    return {
        "name": site.name,
        "cidr": site.cidr,
        "azs": Ref(f"slice(data.aws_availability_zones.here.names, 0, {count})"),
        "private_subnets": Why(nets["private"], "Every pod has an address of its own."),
        "public_subnets": nets["public"],
        "database_subnets": nets["database"],
        "elasticache_subnets": nets["elasticache"],
        "create_database_subnet_group": True,
        "create_elasticache_subnet_group": True,
        "enable_nat_gateway": Why(True, nat),
        "single_nat_gateway": not site.is_prod,
        "one_nat_gateway_per_az": site.is_prod,
        "enable_dns_hostnames": True,
        "enable_dns_support": True,
        "enable_flow_log": True,
        "create_flow_log_cloudwatch_log_group": True,
        "create_flow_log_cloudwatch_iam_role": True,
        "flow_log_cloudwatch_log_group_kms_key_id": Ref("module.key.key_arn"),
        "flow_log_cloudwatch_log_group_retention_in_days": LOGS_DAYS,
        "flow_log_traffic_type": "ALL",
        "public_subnet_tags": Why({"kubernetes.io/role/elb": "1"}, "By these tags the cluster finds where load balancers go."),
        "private_subnet_tags": {"kubernetes.io/role/internal-elb": "1"},
    }
