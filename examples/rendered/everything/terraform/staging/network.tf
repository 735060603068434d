# Rendered by Pilotis from contract 'rag', digest 581dccdcd374dcd99ca4f57d5f20f24c8f3ff30a23ba4b2521abb4c440f7ea66.
# Edit the contract, then run: pilotis render

# Zones of the region itself: local zones have no databases.
data "aws_availability_zones" "here" {
  #checkov:skip=CKV_AWS_394:Only the first of them are taken, and AWS names a new zone after those there are.

  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

# Of staging alone: no peering, no route to another env.
module "vpc" {
  #checkov:skip=CKV_TF_1:A module of the registry is pinned by its exact version; only one from git can be by its commit.

  source  = "terraform-aws-modules/vpc/aws"
  version = "6.6.0"

  name = "rag-staging"
  cidr = "10.20.0.0/16"
  azs  = slice(data.aws_availability_zones.here.names, 0, 3)

  # Every pod has an address of its own.
  private_subnets = ["10.20.0.0/20", "10.20.16.0/20", "10.20.32.0/20"]

  public_subnets                  = ["10.20.128.0/24", "10.20.129.0/24", "10.20.130.0/24"]
  database_subnets                = ["10.20.132.0/24", "10.20.133.0/24", "10.20.134.0/24"]
  elasticache_subnets             = ["10.20.136.0/24", "10.20.137.0/24", "10.20.138.0/24"]
  create_database_subnet_group    = true
  create_elasticache_subnet_group = true

  # One for all zones is enough here.
  enable_nat_gateway = true

  single_nat_gateway                              = true
  one_nat_gateway_per_az                          = false
  enable_dns_hostnames                            = true
  enable_dns_support                              = true
  enable_flow_log                                 = true
  create_flow_log_cloudwatch_log_group            = true
  create_flow_log_cloudwatch_iam_role             = true
  flow_log_cloudwatch_log_group_kms_key_id        = module.key.key_arn
  flow_log_cloudwatch_log_group_retention_in_days = 90
  flow_log_traffic_type                           = "ALL"

  # By these tags the cluster finds where load balancers go.
  public_subnet_tags = {
    "kubernetes.io/role/elb" = "1"
  }

  private_subnet_tags = {
    "kubernetes.io/role/internal-elb" = "1"
  }
}

# Original files and snapshots do not pass the NAT gateway, which is paid by the byte.
resource "aws_vpc_endpoint" "s3" {
  vpc_id            = module.vpc.vpc_id
  service_name      = "com.amazonaws.eu-west-3.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = module.vpc.private_route_table_ids
}
