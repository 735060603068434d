"""The cluster: who may reach it, its nodes, and what each of its service accounts may do in the cloud."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pilotis.derive.workload import named, roles
from pilotis.render.terraform import sizes
from pilotis.render.terraform.hcl import Block, Call, For, Ref, Text, Why
from pilotis.render.terraform.modules import call, resource
from pilotis.render.terraform.network import LOGS_DAYS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilotis.derive.origin import Origin
    from pilotis.derive.site import Site

KUBERNETES = "1.33"
NODE_DISK_GIB = 80
_ADMIN = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"
_BLOBS = Ref("module.blobs.s3_bucket_arn")
_WRITING = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")
_LISTING = ("s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:GetBucketLocation")


def cluster(site: Site) -> Iterator[Block]:
    yield Block("locals", (), _access(site))
    yield call("eks", "cluster", _cluster(site))


def identity(site: Site, sources: Sequence[Origin]) -> Iterator[Block]:
    """Pod Identity: a pod gets the rights of its service account, for minutes, and no key lies anywhere."""
    trusted = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "pods.eks.amazonaws.com"},
                "Action": ["sts:AssumeRole", "sts:TagSession"],
                "Condition": {"StringEquals": {"aws:RequestTag/eks-cluster-name": site.name}},
            }
        ],
    }
    yield Block("locals", (), {"trusts_pods": Call("jsonencode", trusted)})
    yield from _role(site, "service", _service(site, sources), "What every process of the service may do.")
    accounts = [named(site, role.name) for role in roles(site)]
    yield resource(
        "aws_eks_pod_identity_association",
        "service",
        {"for_each": Call("toset", accounts), **_association(site.name, Ref("each.value"), "service")},
    )
    if site.secrets.provider == "aws":
        yield from _role(
            site, "secrets", [_reading(), _deciphering()], "External Secrets reads this env's secrets and no others."
        )
        yield _single("secrets", "external-secrets", "external-secrets")
    yield from _role(site, "autoscaler", _autoscaling(site), "The cluster autoscaler adds nodes when pods find no room.")
    yield _single("autoscaler", "kube-system", "cluster-autoscaler")
    yield resource(
        "aws_iam_role",
        "disks",
        {"name": named(site, "disks"), "assume_role_policy": Ref("local.trusts_pods")},
        comment="Makes volumes.",
    )
    managed = "arn:aws:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy"
    yield resource("aws_iam_role_policy_attachment", "disks", {"role": Ref("aws_iam_role.disks.name"), "policy_arn": managed})


def _access(site: Site) -> dict[str, Any]:
    def entry(name: str, scope: dict[str, Any]) -> For:
        granted = {"policy_arn": _ADMIN, "access_scope": scope}
        return For(f"arn in var.{name}", Ref("arn"), {"principal_arn": Ref("arn"), "policy_associations": {"this": granted}})

    return {
        "admins": entry("cluster_admins", {"type": "cluster"}),
        "deployers": Why(
            entry("deployers", {"type": "namespace", "namespaces": [site.name]}),
            "All within the service's namespace. A narrower policy of AWS knows no Rollout and no ScaledObject.",
        ),
    }


def _cluster(site: Site) -> dict[str, Any]:
    return {
        "name": site.name,
        "kubernetes_version": KUBERNETES,
        "vpc_id": Ref("module.vpc.vpc_id"),
        "subnet_ids": Ref("module.vpc.private_subnets"),
        "endpoint_private_access": True,
        "endpoint_public_access": Why(
            Ref("length(var.cluster_public_cidrs) > 0"),
            "Reached from within the network alone, unless addresses outside are named.",
        ),
        "endpoint_public_access_cidrs": Ref("length(var.cluster_public_cidrs) > 0 ? var.cluster_public_cidrs : null"),
        "authentication_mode": "API",
        "enable_cluster_creator_admin_permissions": False,
        "access_entries": Ref("merge(local.deployers, local.admins)"),
        "create_kms_key": False,
        "encryption_config": {"provider_key_arn": Ref("module.key.key_arn"), "resources": ["secrets"]},
        "enable_irsa": Why(False, "Pods get their rights by Pod Identity."),
        "enabled_log_types": ["api", "audit", "authenticator", "controllerManager", "scheduler"],
        "cloudwatch_log_group_kms_key_id": Ref("module.key.key_arn"),
        "cloudwatch_log_group_retention_in_days": LOGS_DAYS,
        "deletion_protection": site.is_prod,
        "addons": {
            "coredns": {},
            "kube-proxy": {},
            "metrics-server": {},
            "eks-pod-identity-agent": {"before_compute": True},
            "vpc-cni": {
                "before_compute": True,
                "configuration_values": Why(
                    Call("jsonencode", {"enableNetworkPolicy": "true"}),
                    "Without it a NetworkPolicy is accepted and does nothing.",
                ),
            },
            "aws-ebs-csi-driver": {
                "pod_identity_association": [
                    {"role_arn": Ref("aws_iam_role.disks.arn"), "service_account": "ebs-csi-controller-sa"}
                ]
            },
        },
        "eks_managed_node_groups": {"service": _node_group(site)},
    }


def _node_group(site: Site) -> dict[str, Any]:
    found = sizes.nodes(site)
    disk = {"volume_size": NODE_DISK_GIB, "volume_type": "gp3", "encrypted": True, "delete_on_termination": True}
    return {
        "ami_type": "AL2023_x86_64_STANDARD",
        "instance_types": [found.kind],
        "min_size": Why(
            found.least, f"{site.size.rps} requests a second; the most is for all that may grow, during a release."
        ),
        "desired_size": found.least,
        "max_size": found.most,
        "metadata_options": Why(
            {"http_endpoint": "enabled", "http_tokens": "required", "http_put_response_hop_limit": 1},
            "No pod reaches the node's own rights.",
        ),
        "block_device_mappings": {"root": {"device_name": "/dev/xvda", "ebs": disk}},
        "update_config": {"max_unavailable_percentage": 33},
    }


def _role(site: Site, name: str, statements: list[dict[str, Any]], comment: str) -> Iterator[Block]:
    role = {"name": named(site, name), "assume_role_policy": Ref("local.trusts_pods")}
    yield resource("aws_iam_role", name, role, comment=comment)
    policy = Call("jsonencode", {"Version": "2012-10-17", "Statement": statements})
    yield resource("aws_iam_role_policy", name, {"name": name, "role": Ref(f"aws_iam_role.{name}.id"), "policy": policy})


def _association(namespace: str, account: str | Ref, role: str) -> dict[str, Any]:
    return {
        "cluster_name": Ref("module.cluster.cluster_name"),
        "namespace": namespace,
        "service_account": account,
        "role_arn": Ref(f"aws_iam_role.{role}.arn"),
    }


def _single(role: str, namespace: str, account: str) -> Block:
    return resource("aws_eks_pod_identity_association", role, _association(namespace, account, role))


def _service(site: Site, sources: Sequence[Origin]) -> list[dict[str, Any]]:
    found = [
        {"Sid": "Originals", "Effect": "Allow", "Action": _WRITING, "Resource": [Text(_BLOBS, "/*")]},
        {"Sid": "OriginalsListed", "Effect": "Allow", "Action": _LISTING, "Resource": [_BLOBS]},
        _deciphering(),
    ]
    place = site.env.snapshot.place if site.env.snapshot else ""
    if place.startswith("s3://"):
        bucket, _, path = place.removeprefix("s3://").partition("/")
        found += _bucket("Snapshots", bucket, path, _WRITING)
    for number, origin in enumerate(sources):
        if origin.bucket and origin.endpoint_url is None:
            found += _bucket(f"Source{number}", origin.bucket, origin.prefix, ("s3:GetObject", "s3:GetObjectVersion"))
    return [*found, _reading()] if site.secrets.provider == "aws" else found


def _bucket(sid: str, bucket: str, path: str, actions: Sequence[str]) -> list[dict[str, Any]]:
    arn, below = f"arn:aws:s3:::{bucket}", path.rstrip("*")
    return [
        {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": [f"{arn}/{below}*"]},
        {"Sid": f"{sid}Listed", "Effect": "Allow", "Action": _LISTING, "Resource": [arn]},
    ]


def _reading() -> dict[str, Any]:
    """Each by itself: not the passwords that lie beside them."""
    every = [f"[for kept in aws_secretsmanager_secret.{kind} : kept.arn]" for kind in ("server", "given")]
    actions = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
    return {"Sid": "Secrets", "Effect": "Allow", "Action": actions, "Resource": Ref(f"concat({', '.join(every)})")}


def _deciphering() -> dict[str, Any]:
    return {
        "Sid": "Key",
        "Effect": "Allow",
        "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
        "Resource": [Ref("module.key.key_arn")],
    }


def _autoscaling(site: Site) -> list[dict[str, Any]]:
    """Most of what it looks at has no resource to be bounded by; what it changes has the tag that EKS gives to the cluster's own."""
    seeing = [
        *("autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeAutoScalingInstances"),
        *("autoscaling:DescribeLaunchConfigurations", "autoscaling:DescribeScalingActivities", "autoscaling:DescribeTags"),
        *("ec2:DescribeImages", "ec2:DescribeInstanceTypes", "ec2:DescribeLaunchTemplateVersions"),
        "ec2:GetInstanceTypesFromInstanceRequirements",
    ]
    changing = ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"]
    owned = {"StringEquals": {f"aws:ResourceTag/k8s.io/cluster-autoscaler/{site.name}": "owned"}}
    at = (f"{site.infra.region}:", Ref("var.account_id"))
    groups = Text("arn:aws:eks:", *at, f":nodegroup/{site.name}/*")
    scaled = Text("arn:aws:autoscaling:", *at, ":autoScalingGroup:*:autoScalingGroupName/*")
    return [
        {"Sid": "See", "Effect": "Allow", "Action": seeing, "Resource": "*"},
        {"Sid": "SeeNodes", "Effect": "Allow", "Action": ["eks:DescribeNodegroup"], "Resource": [groups]},
        {"Sid": "Change", "Effect": "Allow", "Action": changing, "Resource": [scaled], "Condition": owned},
    ]
