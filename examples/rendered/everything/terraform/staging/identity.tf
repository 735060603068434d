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
            "aws:RequestTag/eks-cluster-name" = "rag-staging"
          }
        }
      },
    ]
  })
}

# What every process of the service may do.
resource "aws_iam_role" "service" {
  name               = "rag-staging-service"
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
    "rag-staging-api",
    "rag-staging-worker-ingest",
    "rag-staging-worker-embed",
    "rag-staging-worker-eval",
    "rag-staging-upkeep",
    "rag-staging-schedule",
  ])

  cluster_name    = module.cluster.cluster_name
  namespace       = "rag-staging"
  service_account = each.value
  role_arn        = aws_iam_role.service.arn
}

# The cluster autoscaler adds nodes when pods find no room.
resource "aws_iam_role" "autoscaler" {
  name               = "rag-staging-autoscaler"
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
        Resource = ["arn:aws:eks:eu-west-3:${var.account_id}:nodegroup/rag-staging/*"]
      },
      {
        Sid      = "Change"
        Effect   = "Allow"
        Action   = ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"]
        Resource = ["arn:aws:autoscaling:eu-west-3:${var.account_id}:autoScalingGroup:*:autoScalingGroupName/*"]
        Condition = {
          StringEquals = {
            "aws:ResourceTag/k8s.io/cluster-autoscaler/rag-staging" = "owned"
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
  name               = "rag-staging-disks"
  assume_role_policy = local.trusts_pods
}

resource "aws_iam_role_policy_attachment" "disks" {
  role       = aws_iam_role.disks.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy"
}
