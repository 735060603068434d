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

# Of prod alone: no peering, no route to another env.
module "vpc" {
  #checkov:skip=CKV_TF_1:A module of the registry is pinned by its exact version; only one from git can be by its commit.

  source  = "terraform-aws-modules/vpc/aws"
  version = "6.6.0"

  name = "rag-prod"
  cidr = "10.30.0.0/16"
  azs  = slice(data.aws_availability_zones.here.names, 0, 3)

  # Every pod has an address of its own.
  private_subnets = ["10.30.0.0/20", "10.30.16.0/20", "10.30.32.0/20"]

  public_subnets                  = ["10.30.128.0/24", "10.30.129.0/24", "10.30.130.0/24"]
  database_subnets                = ["10.30.132.0/24", "10.30.133.0/24", "10.30.134.0/24"]
  elasticache_subnets             = ["10.30.136.0/24", "10.30.137.0/24", "10.30.138.0/24"]
  create_database_subnet_group    = true
  create_elasticache_subnet_group = true

  # A NAT gateway in each zone: one zone that fails takes no other with it.
  enable_nat_gateway = true

  single_nat_gateway                              = false
  one_nat_gateway_per_az                          = true
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
