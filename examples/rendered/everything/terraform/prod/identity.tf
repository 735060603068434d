# Rendered by Pilotis from contract 'rag', digest 581dccdcd374dcd99ca4f57d5f20f24c8f3ff30a23ba4b2521abb4c440f7ea66.
# Edit the contract, then run: pilotis render

locals {
  trusts_pods = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect = "Allow"
        Principal = {
          Service = "pods.eks.amazonaws.com"
        }
        Action = ["sts:AssumeRole", "sts:TagSession"]
        Condition = {
          StringEquals = {
            "aws:RequestTag/eks-cluster-name" = "rag-prod"
          }
        }
      },
    ]
  })
}

# What every process of the service may do.
resource "aws_iam_role" "service" {
  name               = "rag-prod-service"
  assume_role_policy = local.trusts_pods
}

resource "aws_iam_role_policy" "service" {
  name = "service"
  role = aws_iam_role.service.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "Originals"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
        Resource = ["${module.blobs.s3_bucket_arn}/*"]
      },
      {
        Sid      = "OriginalsListed"
        Effect   = "Allow"
        Action   = ["s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:GetBucketLocation"]
        Resource = [module.blobs.s3_bucket_arn]
      },
      {
        Sid      = "Key"
        Effect   = "Allow"
        Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource = [module.key.key_arn]
      },
      {
        Sid      = "Snapshots"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
        Resource = ["arn:aws:s3:::backups.example.com/rag*"]
      },
      {
        Sid      = "SnapshotsListed"
        Effect   = "Allow"
        Action   = ["s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:GetBucketLocation"]
        Resource = ["arn:aws:s3:::backups.example.com"]
      },
      {
        Sid      = "Secrets"
        Effect   = "Allow"
        Action   = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
        Resource = concat([for kept in aws_secretsmanager_secret.server : kept.arn], [for kept in aws_secretsmanager_secret.given : kept.arn])
      },
    ]
  })
}

resource "aws_eks_pod_identity_association" "service" {
  for_each = toset([
    "rag-prod-api",
    "rag-prod-worker-ingest",
    "rag-prod-worker-embed",
    "rag-prod-worker-eval",
    "rag-prod-upkeep",
    "rag-prod-schedule",
  ])

  cluster_name    = module.cluster.cluster_name
  namespace       = "rag-prod"
  service_account = each.value
  role_arn        = aws_iam_role.service.arn
}

# External Secrets reads this env's secrets and no others.
resource "aws_iam_role" "secrets" {
  name               = "rag-prod-secrets"
  assume_role_policy = local.trusts_pods
}

resource "aws_iam_role_policy" "secrets" {
  name = "secrets"
  role = aws_iam_role.secrets.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "Secrets"
        Effect   = "Allow"
        Action   = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
        Resource = concat([for kept in aws_secretsmanager_secret.server : kept.arn], [for kept in aws_secretsmanager_secret.given : kept.arn])
      },
      {
        Sid      = "Key"
        Effect   = "Allow"
        Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource = [module.key.key_arn]
      },
    ]
  })
}

resource "aws_eks_pod_identity_association" "secrets" {
  cluster_name    = module.cluster.cluster_name
  namespace       = "external-secrets"
  service_account = "external-secrets"
  role_arn        = aws_iam_role.secrets.arn
}

# The cluster autoscaler adds nodes when pods find no room.
resource "aws_iam_role" "autoscaler" {
  name               = "rag-prod-autoscaler"
  assume_role_policy = local.trusts_pods
}

resource "aws_iam_role_policy" "autoscaler" {
  name = "autoscaler"
  role = aws_iam_role.autoscaler.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "See"
        Effect = "Allow"
        Action = [
          "autoscaling:DescribeAutoScalingGroups",
          "autoscaling:DescribeAutoScalingInstances",
          "autoscaling:DescribeLaunchConfigurations",
          "autoscaling:DescribeScalingActivities",
          "autoscaling:DescribeTags",
          "ec2:DescribeImages",
          "ec2:DescribeInstanceTypes",
          "ec2:DescribeLaunchTemplateVersions",
          "ec2:GetInstanceTypesFromInstanceRequirements",
        ]
        Resource = "*"
      },
      {
        Sid      = "SeeNodes"
        Effect   = "Allow"
        Action   = ["eks:DescribeNodegroup"]
        Resource = ["arn:aws:eks:eu-west-3:${var.account_id}:nodegroup/rag-prod/*"]
      },
      {
        Sid      = "Change"
        Effect   = "Allow"
        Action   = ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"]
        Resource = ["arn:aws:autoscaling:eu-west-3:${var.account_id}:autoScalingGroup:*:autoScalingGroupName/*"]
        Condition = {
          StringEquals = {
            "aws:ResourceTag/k8s.io/cluster-autoscaler/rag-prod" = "owned"
          }
        }
      },
    ]
  })
}

resource "aws_eks_pod_identity_association" "autoscaler" {
  cluster_name    = module.cluster.cluster_name
  namespace       = "kube-system"
  service_account = "cluster-autoscaler"
  role_arn        = aws_iam_role.autoscaler.arn
}

# Makes volumes.
resource "aws_iam_role" "disks" {
  name               = "rag-prod-disks"
  assume_role_policy = local.trusts_pods
}

resource "aws_iam_role_policy_attachment" "disks" {
  role       = aws_iam_role.disks.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy"
}
