# Rendered by Pilotis from contract 'rag', digest 581dccdcd374dcd99ca4f57d5f20f24c8f3ff30a23ba4b2521abb4c440f7ea66.
# Edit the contract, then run: pilotis render

# Made here, and told to nobody but the servers.
resource "aws_secretsmanager_secret" "password" {
  #checkov:skip=CKV2_AWS_57:Renewed by passwords_version: no function of Secrets Manager could tell the servers.

  for_each                = toset(["database", "broker", "cache"])
  name                    = "rag/prod/passwords/${each.value}"
  description             = "rag-prod: password of the ${each.value}"
  kms_key_id              = module.key.key_arn
  recovery_window_in_days = 30

  tags = {
    MaxAgeDays = "90"
  }
}

ephemeral "aws_secretsmanager_random_password" "new" {
  for_each        = aws_secretsmanager_secret.password
  password_length = 48

  # It stands in an address, where signs would have to be escaped.
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret_version" "password" {
  for_each                 = aws_secretsmanager_secret.password
  secret_id                = each.value.id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.new[each.key].random_password
  secret_string_wo_version = var.passwords_version
}

# Read back: a run that broke off in between sets what was written, not another one.
ephemeral "aws_secretsmanager_secret_version" "password" {
  for_each  = aws_secretsmanager_secret_version.password
  secret_id = each.value.secret_id
}

# Where the servers are, for the processes of the service.
resource "aws_secretsmanager_secret" "server" {
  #checkov:skip=CKV2_AWS_57:Renewed by passwords_version: no function of Secrets Manager could tell the servers.

  for_each                = toset(["PILOTIS_DATABASE_URL", "PILOTIS_REDIS_URL", "PILOTIS_BROKER_URL"])
  name                    = "rag/prod/${each.value}"
  description             = "rag-prod: the address, with its password, for ${each.value}"
  kms_key_id              = module.key.key_arn
  recovery_window_in_days = 30

  tags = {
    MaxAgeDays = "90"
  }
}

resource "aws_secretsmanager_secret_version" "pilotis_database_url" {
  secret_id                = aws_secretsmanager_secret.server["PILOTIS_DATABASE_URL"].id
  secret_string_wo         = "postgresql://pilotis:${ephemeral.aws_secretsmanager_secret_version.password["database"].secret_string}@${module.database.db_instance_address}:5432/pilotis?sslmode=require"
  secret_string_wo_version = var.passwords_version
}

resource "aws_secretsmanager_secret_version" "pilotis_redis_url" {
  secret_id                = aws_secretsmanager_secret.server["PILOTIS_REDIS_URL"].id
  secret_string_wo         = "rediss://default:${ephemeral.aws_secretsmanager_secret_version.password["cache"].secret_string}@${module.cache.endpoint}:6379/0?ssl_cert_reqs=required"
  secret_string_wo_version = var.passwords_version
}

resource "aws_secretsmanager_secret_version" "pilotis_broker_url" {
  secret_id                = aws_secretsmanager_secret.server["PILOTIS_BROKER_URL"].id
  secret_string_wo         = "rediss://default:${ephemeral.aws_secretsmanager_secret_version.password["broker"].secret_string}@${module.broker.endpoint}:6379/0?ssl_cert_reqs=required"
  secret_string_wo_version = var.passwords_version
}

# Without a value here: README.md says how each is put there. Terraform neither writes nor reads it.
resource "aws_secretsmanager_secret" "given" {
  #checkov:skip=CKV2_AWS_57:Renewed where it was issued: by a function that is named in rotations, else by people; the service tells its age.

  for_each                = toset(["OPENAI_API_KEY", "PILOTIS_JUDGE_KEY"])
  name                    = "rag/prod/${each.value}"
  description             = "rag-prod: given by people: ${each.value}"
  kms_key_id              = module.key.key_arn
  recovery_window_in_days = 30

  tags = {
    MaxAgeDays = "90"
  }
}

# Secrets Manager rotates what a function of yours can renew. The service itself tells the age of all others,
# and alerts.
resource "aws_secretsmanager_secret_rotation" "given" {
  for_each            = var.rotations
  secret_id           = aws_secretsmanager_secret.given[each.key].id
  rotation_lambda_arn = each.value

  rotation_rules {
    automatically_after_days = 90
  }
}
