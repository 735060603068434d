"""What keeps data: the database with its replica, the two Redis, the bucket, and the snapshots of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from pilotis.derive.workload import bucket, named
from pilotis.render.terraform import sizes
from pilotis.render.terraform.hcl import Block, Call, Nested, Ref, Why
from pilotis.render.terraform.modules import call, resource
from pilotis.render.terraform.network import LOGS_DAYS
from pilotis.render.terraform.secrets import DATABASE, POSTGRES_PORT, REDIS_PORT, REDIS_USER, USER, password

if TYPE_CHECKING:
    from pilotis.derive.site import Site

POSTGRES, REDIS = "16", "7.1"
BACKUP_DAYS, BACKUP_DAYS_PROD = 7, 14
USUAL_HOUR = 3
"""Of the night, in the contract's time zone, where it names no other."""
OLD_VERSIONS_DAYS = 30
"""How long a deleted original can be had back."""
LONGEST_MONTH_DAYS = 31
SLOW_MS = 1000


def database(site: Site) -> Iterator[Block]:
    yield from _door(site)
    yield call("rds", "database", *_database(site), comment=f"Postgres, with the index in it (pgvector).\n{_copies(site)}")
    if site.is_prod:
        yield call(
            "rds", "replica", *_replica(site), comment="Questions may be answered from it; it is a fraction of a second behind."
        )


def caches(site: Site) -> Iterator[Block]:
    """The specification says allkeys-lru for the cache; see the comment that is rendered for why it is another."""
    for name in ("broker", "cache"):
        user = {
            "user_id": named(site, name),
            "user_name": REDIS_USER,
            "engine": "redis",
            "access_string": "on ~* &* +@all",
            "passwords_wo": password(name),
            "passwords_wo_version": Ref("var.passwords_version"),
        }
        yield resource("aws_elasticache_user", name, user)
        group = {
            "user_group_id": named(site, name),
            "engine": "redis",
            "user_ids": [Ref(f"aws_elasticache_user.{name}.user_id")],
        }
        yield resource("aws_elasticache_user_group", name, group)
    yield call(
        "redis",
        "broker",
        _redis(site, "broker", sizes.BROKER[site.size.cache], "noeviction"),
        comment="Queues. It evicts nothing: what is lost here is work that nobody does.",
    )
    yield call(
        "redis",
        "cache",
        _redis(site, "cache", sizes.CACHE[site.size.cache], "volatile-lru"),
        comment="Answers kept for a while, and the counters of budgets and rates.\n"
        "It is volatile-lru and not allkeys-lru: the counters of budgets are changed by the same script as the answers, in the same Redis, "
        "and have no time to live. allkeys-lru would evict them, and money that was spent would be forgotten.",
    )


def blobs(site: Site) -> Iterator[Block]:
    used = (
        ""
        if site.infra.blobs == "s3"
        else '\nUnused until the contract says `infra.blobs = "s3"`: now it keeps them in a folder.'
    )
    cipher = {"sse_algorithm": "aws:kms", "kms_master_key_id": Ref("module.key.key_arn")}
    body = {
        "bucket": bucket(site),
        "force_destroy": False,
        "control_object_ownership": True,
        "object_ownership": "BucketOwnerEnforced",
        "block_public_acls": True,
        "block_public_policy": True,
        "ignore_public_acls": True,
        "restrict_public_buckets": True,
        "attach_deny_insecure_transport_policy": True,
        "attach_require_latest_tls_policy": True,
        "versioning": {"enabled": "true"},
        "server_side_encryption_configuration": {
            "rule": {"apply_server_side_encryption_by_default": cipher, "bucket_key_enabled": True}
        },
        "lifecycle_rule": [
            {
                "id": "forget",
                "enabled": True,
                "filter": {"prefix": ""},
                "abort_incomplete_multipart_upload_days": 7,
                "noncurrent_version_expiration": {"days": OLD_VERSIONS_DAYS},
                "expiration": {"expired_object_delete_marker": True},
            }
        ],
    }
    yield call("s3", "blobs", body, comment=f"The original files.{used}")


def snapshots(site: Site) -> Iterator[Block]:
    """Those that RDS takes daily are with the database; these stay for as long as the contract keeps its own."""
    kept = site.env.snapshot
    if kept is None:
        return
    yield resource(
        "aws_backup_vault",
        "snapshots",
        {"name": site.name, "kms_key_arn": Ref("module.key.key_arn")},
        comment=f"A second road back, beside the snapshots that the service itself takes to {kept.place}: whole, and encrypted by this env's key.",
    )

    def rule(name: str, day: str, days: int) -> Nested:
        return Nested(
            {
                "rule_name": name,
                "target_vault_name": Ref("aws_backup_vault.snapshots.name"),
                "schedule": f"cron(0 {kept.hour} {day} * ? *)",
                "schedule_expression_timezone": site.env.timezone,
                "lifecycle": Nested({"delete_after": days}),
            }
        )

    monthly = [rule("monthly", "1", kept.keep_months * LONGEST_MONTH_DAYS)] if kept.keep_months else []
    plan = {"name": site.name, "rule": [rule("daily", "*", max(1, kept.keep_days)), *monthly]}
    yield resource("aws_backup_plan", "snapshots", plan)
    backup = {"Effect": "Allow", "Principal": {"Service": "backup.amazonaws.com"}, "Action": "sts:AssumeRole"}
    trusted = Call("jsonencode", {"Version": "2012-10-17", "Statement": [backup]})
    yield resource("aws_iam_role", "snapshots", {"name": named(site, "snapshots"), "assume_role_policy": trusted})
    for name, policy in (("taken", "Backup"), ("restored", "Restores")):
        arn = f"arn:aws:iam::aws:policy/service-role/AWSBackupServiceRolePolicyFor{policy}"
        attached = {"role": Ref("aws_iam_role.snapshots.name"), "policy_arn": arn}
        yield resource("aws_iam_role_policy_attachment", f"snapshots_{name}", attached)
    selection = {
        "name": site.name,
        "plan_id": Ref("aws_backup_plan.snapshots.id"),
        "iam_role_arn": Ref("aws_iam_role.snapshots.arn"),
        "resources": [Ref("module.database.db_instance_arn")],
    }
    yield resource("aws_backup_selection", "snapshots", selection)


def window(site: Site, after_h: int, *, day: str = "") -> str:
    """An hour, in UTC, so many hours after that of the contract's snapshots: two of AWS's own chores must never overlap.

    Of winter time; in summer an hour less lies between.
    """
    local = datetime(
        2026, 1, 4, site.env.snapshot.hour if site.env.snapshot else USUAL_HOUR, tzinfo=ZoneInfo(site.env.timezone)
    )
    hour = (local.astimezone(UTC).hour + after_h) % 24
    if not day:
        return f"{hour:02}:00-{(hour + 1) % 24:02}:00"
    following = {"Sun": "Mon", "sun": "mon"}[day] if hour + 1 == 24 else day
    return f"{day}:{hour:02}:00-{following}:{(hour + 1) % 24:02}:00"


def _copies(site: Site) -> str:
    if site.is_prod:
        return "Twice over: a second one in another zone takes over by itself, and a replica answers questions."
    return "One of it: this env may wait for a restore."


def _door(site: Site) -> Iterator[Block]:
    yield resource(
        "aws_security_group",
        "database",
        {
            "name": named(site, "database"),
            "description": "Postgres, from the cluster alone",
            "vpc_id": Ref("module.vpc.vpc_id"),
        },
        notes=("checkov:skip=CKV2_AWS_5:It is attached by the module of the database, which checkov does not enter.",),
    )
    yield resource(
        "aws_vpc_security_group_ingress_rule",
        "database",
        {
            "security_group_id": Ref("aws_security_group.database.id"),
            "description": "Pods",
            "referenced_security_group_id": Ref("module.cluster.node_security_group_id"),
            "ip_protocol": "tcp",
            "from_port": POSTGRES_PORT,
            "to_port": POSTGRES_PORT,
        },
    )


def _engine() -> dict[str, Any]:
    """What the database and its replica have in common, as all below."""
    return {
        "engine": "postgres",
        "engine_version": POSTGRES,
        "family": f"postgres{POSTGRES}",
        "major_engine_version": POSTGRES,
        "create_db_option_group": False,
        "parameters": [
            {"name": "rds.force_ssl", "value": "1"},
            {"name": "log_min_duration_statement", "value": str(SLOW_MS)},
        ],
    }


def _size(site: Site) -> dict[str, Any]:
    gib = sizes.DATABASE_GIB[site.size.cache]
    return {
        "instance_class": Why(sizes.database(site), _connections(site)),
        "allocated_storage": gib,
        "max_allocated_storage": gib * sizes.GROWTH,
        "storage_type": "gp3",
        "storage_encrypted": True,
    }


def _connections(site: Site) -> str:
    wanted = sizes.connections(site)
    if wanted > sizes.MOST_CONNECTIONS:
        return f"All processes that may run at once want {wanted} connections; RDS gives {sizes.MOST_CONNECTIONS}: lower perf.pool_max."
    return f"It takes {wanted} connections: those of all processes that may run at once."


def _reached() -> dict[str, Any]:
    return {
        "port": str(POSTGRES_PORT),
        "vpc_security_group_ids": [Ref("aws_security_group.database.id")],
        "publicly_accessible": False,
    }


def _watched(site: Site, role: str) -> dict[str, Any]:
    return {
        "enabled_cloudwatch_logs_exports": ["postgresql", "upgrade"],
        "create_cloudwatch_log_group": True,
        "cloudwatch_log_group_kms_key_id": Ref("module.key.key_arn"),
        "cloudwatch_log_group_retention_in_days": LOGS_DAYS,
        "performance_insights_enabled": True,
        "performance_insights_kms_key_id": Ref("module.key.key_arn"),
        "performance_insights_retention_period": 7,
        "monitoring_interval": 60,
        "create_monitoring_role": True,
        "monitoring_role_name": named(site, f"{role}-monitoring"),
    }


def _database(site: Site) -> tuple[dict[str, Any], ...]:
    user = {
        "identifier": site.name,
        "db_name": DATABASE,
        "username": USER,
        "password_wo": password("database"),
        "password_wo_version": Ref("var.passwords_version"),
        "manage_master_user_password": Why(
            False, "AWS makes no replica of a database whose password it manages; this one is in Secrets Manager all the same."
        ),
    }
    kept = {
        "multi_az": site.is_prod,
        "deletion_protection": site.is_prod,
        "backup_retention_period": Why(
            BACKUP_DAYS_PROD if site.is_prod else BACKUP_DAYS, "Taken daily, and every moment in between can be restored."
        ),
        "backup_window": window(site, 4),
        "maintenance_window": window(site, 7, day="Sun"),
        "auto_minor_version_upgrade": True,
        "copy_tags_to_snapshot": True,
        "skip_final_snapshot": False,
        "final_snapshot_identifier_prefix": "final",
    }
    encrypted = {"kms_key_id": Ref("module.key.key_arn")}
    placed = {"db_subnet_group_name": Ref("module.vpc.database_subnet_group_name")}
    return (user, _engine(), {**_size(site), **encrypted}, {**placed, **_reached()}, kept, _watched(site, "database"))


def _replica(site: Site) -> tuple[dict[str, Any], ...]:
    """In the same region it takes the key and the subnets of what it copies, and may name none."""
    copied = {
        "identifier": named(site, "replica"),
        "replicate_source_db": Ref("module.database.db_instance_identifier"),
        "manage_master_user_password": False,
    }
    kept = {
        "multi_az": False,
        "deletion_protection": True,
        "backup_retention_period": 0,
        "maintenance_window": window(site, 10, day="Sun"),
        "auto_minor_version_upgrade": True,
        "skip_final_snapshot": True,
    }
    return (copied, _engine(), _size(site), _reached(), kept, _watched(site, "replica"))


def _redis(site: Site, name: str, kind: str, policy: str) -> dict[str, Any]:
    copies = 2 if site.is_prod else 1
    return {
        "name": named(site, name),
        "description": f"{site.name}: {name}",
        "vpc_id": Ref("module.vpc.vpc_id"),
        "elasticache_subnet_group_name": Ref("module.vpc.elasticache_subnet_group_name"),
        "allowed_security_group_ids": [Ref("module.cluster.node_security_group_id")],
        "engine": "redis",
        "engine_version": REDIS,
        "family": f"redis{REDIS.split('.', maxsplit=1)[0]}",
        "port": REDIS_PORT,
        "instance_type": kind,
        "cluster_size": copies,
        "automatic_failover_enabled": copies > 1,
        "multi_az_enabled": copies > 1,
        "parameter": [{"name": "maxmemory-policy", "value": policy}],
        "at_rest_encryption_enabled": True,
        "kms_key_id": Ref("module.key.key_arn"),
        "transit_encryption_enabled": True,
        "user_group_ids": [Ref(f"aws_elasticache_user_group.{name}.user_group_id")],
        "snapshot_retention_limit": BACKUP_DAYS if site.is_prod else 1,
        "snapshot_window": window(site, 4),
        "maintenance_window": window(site, 7, day="sun"),
        "auto_minor_version_upgrade": True,
        "apply_immediately": False,
    }
