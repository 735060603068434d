# Rendered by Pilotis from contract 'rag', digest 581dccdcd374dcd99ca4f57d5f20f24c8f3ff30a23ba4b2521abb4c440f7ea66.
# Edit the contract, then run: pilotis render

resource "aws_elasticache_user" "broker" {
  user_id              = "rag-dev-broker"
  user_name            = "default"
  engine               = "redis"
  access_string        = "on ~* &* +@all"
  passwords_wo         = ephemeral.aws_secretsmanager_secret_version.password["broker"].secret_string
  passwords_wo_version = var.passwords_version
}

resource "aws_elasticache_user_group" "broker" {
  user_group_id = "rag-dev-broker"
  engine        = "redis"
  user_ids      = [aws_elasticache_user.broker.user_id]
}

resource "aws_elasticache_user" "cache" {
  user_id              = "rag-dev-cache"
  user_name            = "default"
  engine               = "redis"
  access_string        = "on ~* &* +@all"
  passwords_wo         = ephemeral.aws_secretsmanager_secret_version.password["cache"].secret_string
  passwords_wo_version = var.passwords_version
}

resource "aws_elasticache_user_group" "cache" {
  user_group_id = "rag-dev-cache"
  engine        = "redis"
  user_ids      = [aws_elasticache_user.cache.user_id]
}

# Queues. It evicts nothing: what is lost here is work that nobody does.
module "broker" {
  #checkov:skip=CKV_TF_1:A module of the registry is pinned by its exact version; only one from git can be by its commit.

  source  = "cloudposse/elasticache-redis/aws"
  version = "2.1.0"

  name                          = "rag-dev-broker"
  description                   = "rag-dev: broker"
  vpc_id                        = module.vpc.vpc_id
  elasticache_subnet_group_name = module.vpc.elasticache_subnet_group_name
  allowed_security_group_ids    = [module.cluster.node_security_group_id]
  engine                        = "redis"
  engine_version                = "7.1"
  family                        = "redis7"
  port                          = 6379
  instance_type                 = "cache.t4g.micro"
  cluster_size                  = 1
  automatic_failover_enabled    = false
  multi_az_enabled              = false

  parameter = [
    {
      name  = "maxmemory-policy"
      value = "noeviction"
    },
  ]

  at_rest_encryption_enabled = true
  kms_key_id                 = module.key.key_arn
  transit_encryption_enabled = true
  user_group_ids             = [aws_elasticache_user_group.broker.user_group_id]
  snapshot_retention_limit   = 1
  snapshot_window            = "06:00-07:00"
  maintenance_window         = "sun:09:00-sun:10:00"
  auto_minor_version_upgrade = true
  apply_immediately          = false
}

# Answers kept for a while, and the counters of budgets and rates.
# It is volatile-lru and not allkeys-lru: the counters of budgets are changed by the same script as the answers,
# in the same Redis, and have no time to live. allkeys-lru would evict them, and money that was spent would be
# forgotten.
module "cache" {
  #checkov:skip=CKV_TF_1:A module of the registry is pinned by its exact version; only one from git can be by its commit.

  source  = "cloudposse/elasticache-redis/aws"
  version = "2.1.0"

  name                          = "rag-dev-cache"
  description                   = "rag-dev: cache"
  vpc_id                        = module.vpc.vpc_id
  elasticache_subnet_group_name = module.vpc.elasticache_subnet_group_name
  allowed_security_group_ids    = [module.cluster.node_security_group_id]
  engine                        = "redis"
  engine_version                = "7.1"
  family                        = "redis7"
  port                          = 6379
  instance_type                 = "cache.t4g.small"
  cluster_size                  = 1
  automatic_failover_enabled    = false
  multi_az_enabled              = false

  parameter = [
    {
      name  = "maxmemory-policy"
      value = "volatile-lru"
    },
  ]

  at_rest_encryption_enabled = true
  kms_key_id                 = module.key.key_arn
  transit_encryption_enabled = true
  user_group_ids             = [aws_elasticache_user_group.cache.user_group_id]
  snapshot_retention_limit   = 1
  snapshot_window            = "06:00-07:00"
  maintenance_window         = "sun:09:00-sun:10:00"
  auto_minor_version_upgrade = true
  apply_immediately          = false
}
