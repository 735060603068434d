"""OpenSearch, where the contract keeps its index there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pilotis.derive.workload import named
from pilotis.render.terraform import sizes
from pilotis.render.terraform.hcl import Block, Ref, Why
from pilotis.render.terraform.modules import call
from pilotis.render.terraform.network import LOGS_DAYS

if TYPE_CHECKING:
    from pilotis.derive.site import Site

ENGINE = "OpenSearch_2.19"
MASTERS, MASTER = 3, "m6g.large.search"
LEAST_NODES = 2
"""The index is there twice, in two zones."""
_MOST_NAME = 28
_TLS = "Policy-Min-TLS-1-2-PFS-2023-10"
_SERVICE = Ref("aws_iam_role.service.arn")


def search(site: Site) -> Iterator[Block]:
    if site.infra.vector == "opensearch":
        yield call(
            "opensearch",
            "index",
            _domain(site),
            comment="Each shard is there twice, in two zones. AWS takes a snapshot of it every hour.",
        )


def domain(site: Site) -> str:
    """The env's name, shortened where OpenSearch would not take it, and then still no other env's."""
    if len(site.name) <= _MOST_NAME:
        return site.name
    return f"{site.name[: _MOST_NAME - 7].rstrip('-')}-{hashlib.sha256(site.name.encode()).hexdigest()[:6]}"


def nodes(site: Site) -> int:
    """One for each shard, and as many as keep every zone the same."""
    across = sizes.zones(site) if site.is_prod else LEAST_NODES
    return -(-max(site.size.shards, across) // across) * across


def _domain(site: Site) -> dict[str, Any]:
    across = sizes.zones(site) if site.is_prod else LEAST_NODES
    masters: dict[str, Any] = {"dedicated_master_enabled": site.is_prod}
    if site.is_prod:
        masters |= {"dedicated_master_count": MASTERS, "dedicated_master_type": MASTER}
    return {
        "domain_name": domain(site),
        "engine_version": ENGINE,
        "cluster_config": {
            "instance_type": sizes.INDEX[site.size.cache],
            "instance_count": Why(nodes(site), f"For {site.size.shards} shards and their copies."),
            "zone_awareness_enabled": True,
            "zone_awareness_config": {"availability_zone_count": across},
            **masters,
        },
        "ebs_options": {"ebs_enabled": True, "volume_type": "gp3", "volume_size": sizes.INDEX_GIB[site.size.cache]},
        "encrypt_at_rest": {"enabled": True, "kms_key_id": Ref("module.key.key_arn")},
        "node_to_node_encryption": {"enabled": True},
        "domain_endpoint_options": {"enforce_https": True, "tls_security_policy": _TLS},
        "advanced_security_options": Why(
            {
                "enabled": True,
                "anonymous_auth_enabled": False,
                "internal_user_database_enabled": False,
                "master_user_options": {"master_user_arn": _SERVICE},
            },
            "Pods sign their requests with the rights of their service account: there is no password.",
        ),
        "access_policy_statements": [
            {"effect": "Allow", "principals": [{"type": "AWS", "identifiers": [_SERVICE]}], "actions": ["es:ESHttp*"]}
        ],
        "vpc_options": {"subnet_ids": Ref(f"slice(module.vpc.database_subnets, 0, {across})")},
        "security_group_name": named(site, "index"),
        "security_group_rules": {
            "pods": {
                "type": "ingress",
                "description": "Pods",
                "ip_protocol": "tcp",
                "from_port": 443,
                "to_port": 443,
                "referenced_security_group_id": Ref("module.cluster.node_security_group_id"),
            }
        },
        "cloudwatch_log_group_kms_key_id": Ref("module.key.key_arn"),
        "cloudwatch_log_group_retention_in_days": LOGS_DAYS,
    }
