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
            "aws:RequestTag/eks-cluster-name" = "rag-dev"
          }
        }
      },
    ]
  })
}

# What every process of the service may do.
resource "aws_iam_role" "service" {
  name               = "rag-dev-service"
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
    ]
  })
}

resource "aws_eks_pod_identity_association" "service" {
  for_each = toset([
    "rag-dev-api",
    "rag-dev-worker-ingest",
    "rag-dev-worker-embed",
    "rag-dev-worker-eval",
    "rag-dev-upkeep",
    "rag-dev-schedule",
  ])

  cluster_name    = module.cluster.cluster_name
  namespace       = "rag-dev"
  service_account = each.value
  role_arn        = aws_iam_role.service.arn
}

# The cluster autoscaler adds nodes when pods find no room.
resource "aws_iam_role" "autoscaler" {
  name               = "rag-dev-autoscaler"
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
        Resource = ["arn:aws:eks:eu-west-3:${var.account_id}:nodegroup/rag-dev/*"]
      },
      {
        Sid      = "Change"
        Effect   = "Allow"
        Action   = ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"]
        Resource = ["arn:aws:autoscaling:eu-west-3:${var.account_id}:autoScalingGroup:*:autoScalingGroupName/*"]
        Condition = {
          StringEquals = {
            "aws:ResourceTag/k8s.io/cluster-autoscaler/rag-dev" = "owned"
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
  name               = "rag-dev-disks"
  assume_role_policy = local.trusts_pods
}

resource "aws_iam_role_policy_attachment" "disks" {
  role       = aws_iam_role.disks.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy"
}
