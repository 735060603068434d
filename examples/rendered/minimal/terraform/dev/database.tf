# Rendered by Pilotis from contract 'rag', digest 8f4221db5e411bc6cf786ae39d0372290badf155f2589952b5864f813b389536.
# Edit the contract, then run: pilotis render

resource "aws_security_group" "database" {
  #checkov:skip=CKV2_AWS_5:It is attached by the module of the database, which checkov does not enter.

  name        = "rag-dev-database"
  description = "Postgres, from the cluster alone"
  vpc_id      = module.vpc.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "database" {
  security_group_id            = aws_security_group.database.id
  description                  = "Pods"
  referenced_security_group_id = module.cluster.node_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

# Postgres, with the index in it (pgvector).
# One of it: this env may wait for a restore.
module "database" {
  #checkov:skip=CKV_TF_1:A module of the registry is pinned by its exact version; only one from git can be by its commit.

  source  = "terraform-aws-modules/rds/aws"
  version = "7.2.0"

  identifier          = "rag-dev"
  db_name             = "pilotis"
  username            = "pilotis"
  password_wo         = ephemeral.aws_secretsmanager_secret_version.password["database"].secret_string
  password_wo_version = var.passwords_version

  # AWS makes no replica of a database whose password it manages; this one is in Secrets Manager all the same.
  manage_master_user_password = false

  engine                 = "postgres"
  engine_version         = "16"
  family                 = "postgres16"
  major_engine_version   = "16"
  create_db_option_group = false

  parameters = [
    {
      name  = "rds.force_ssl"
      value = "1"
    },
    {
      name  = "log_min_duration_statement"
      value = "1000"
    },
  ]

  # It takes 450 connections: those of all processes that may run at once.
  instance_class = "db.t4g.medium"

  allocated_storage     = 50
  max_allocated_storage = 250
  storage_type          = "gp3"
  storage_encrypted     = true
  kms_key_id            = module.key.key_arn

  db_subnet_group_name   = module.vpc.database_subnet_group_name
  port                   = "5432"
  vpc_security_group_ids = [aws_security_group.database.id]
  publicly_accessible    = false

  multi_az            = false
  deletion_protection = false

  # Taken daily, and every moment in between can be restored.
  backup_retention_period = 7

  backup_window                    = "06:00-07:00"
  maintenance_window               = "Sun:09:00-Sun:10:00"
  auto_minor_version_upgrade       = true
  copy_tags_to_snapshot            = true
  skip_final_snapshot              = false
  final_snapshot_identifier_prefix = "final"

  enabled_cloudwatch_logs_exports        = ["postgresql", "upgrade"]
  create_cloudwatch_log_group            = true
  cloudwatch_log_group_kms_key_id        = module.key.key_arn
  cloudwatch_log_group_retention_in_days = 90
  performance_insights_enabled           = true
  performance_insights_kms_key_id        = module.key.key_arn
  performance_insights_retention_period  = 7
  monitoring_interval                    = 60
  create_monitoring_role                 = true
  monitoring_role_name                   = "rag-dev-database-monitoring"
}
