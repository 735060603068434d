# Rendered by Pilotis from contract 'rag', digest 8f4221db5e411bc6cf786ae39d0372290badf155f2589952b5864f813b389536.
# Edit the contract, then run: pilotis render

locals {
  admins = {
    for arn in var.cluster_admins : arn => {
      principal_arn = arn
      policy_associations = {
        this = {
          policy_arn = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"
          access_scope = {
            type = "cluster"
          }
        }
      }
    }
  }

  # All within the service's namespace. A narrower policy of AWS knows no Rollout and no ScaledObject.
  deployers = {
    for arn in var.deployers : arn => {
      principal_arn = arn
      policy_associations = {
        this = {
          policy_arn = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"
          access_scope = {
            type       = "namespace"
            namespaces = ["rag-dev"]
          }
        }
      }
    }
  }
}

module "cluster" {
  #checkov:skip=CKV_TF_1:A module of the registry is pinned by its exact version; only one from git can be by its commit.

  source  = "terraform-aws-modules/eks/aws"
  version = "21.19.0"

  name                    = "rag-dev"
  kubernetes_version      = "1.33"
  vpc_id                  = module.vpc.vpc_id
  subnet_ids              = module.vpc.private_subnets
  endpoint_private_access = true

  # Reached from within the network alone, unless addresses outside are named.
  endpoint_public_access = length(var.cluster_public_cidrs) > 0

  endpoint_public_access_cidrs             = length(var.cluster_public_cidrs) > 0 ? var.cluster_public_cidrs : null
  authentication_mode                      = "API"
  enable_cluster_creator_admin_permissions = false
  access_entries                           = merge(local.deployers, local.admins)
  create_kms_key                           = false

  encryption_config = {
    provider_key_arn = module.key.key_arn
    resources        = ["secrets"]
  }

  # Pods get their rights by Pod Identity.
  enable_irsa = false

  enabled_log_types                      = ["api", "audit", "authenticator", "controllerManager", "scheduler"]
  cloudwatch_log_group_kms_key_id        = module.key.key_arn
  cloudwatch_log_group_retention_in_days = 90
  deletion_protection                    = false

  addons = {
    coredns        = {}
    kube-proxy     = {}
    metrics-server = {}
    eks-pod-identity-agent = {
      before_compute = true
    }
    vpc-cni = {
      before_compute = true
      # Without it a NetworkPolicy is accepted and does nothing.
      configuration_values = jsonencode({
        enableNetworkPolicy = "true"
      })
    }
    aws-ebs-csi-driver = {
      pod_identity_association = [
        {
          role_arn        = aws_iam_role.disks.arn
          service_account = "ebs-csi-controller-sa"
        },
      ]
    }
  }

  eks_managed_node_groups = {
    service = {
      ami_type       = "AL2023_x86_64_STANDARD"
      instance_types = ["m6i.large"]
      # 10 requests a second; the most is for all that may grow, during a release.
      min_size     = 3
      desired_size = 3
      max_size     = 5
      # No pod reaches the node's own rights.
      metadata_options = {
        http_endpoint               = "enabled"
        http_tokens                 = "required"
        http_put_response_hop_limit = 1
      }
      block_device_mappings = {
        root = {
          device_name = "/dev/xvda"
          ebs = {
            volume_size           = 80
            volume_type           = "gp3"
            encrypted             = true
            delete_on_termination = true
          }
        }
      }
      update_config = {
        max_unavailable_percentage = 33
      }
    }
  }
}
