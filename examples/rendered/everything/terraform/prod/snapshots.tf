# Rendered by Pilotis from contract 'rag', digest 581dccdcd374dcd99ca4f57d5f20f24c8f3ff30a23ba4b2521abb4c440f7ea66.
# Edit the contract, then run: pilotis render

# A second road back, beside the snapshots that the service itself takes to s3://backups.example.com/rag: whole,
# and encrypted by this env's key.
resource "aws_backup_vault" "snapshots" {
  name        = "rag-prod"
  kms_key_arn = module.key.key_arn
}

resource "aws_backup_plan" "snapshots" {
  name = "rag-prod"

  rule {
    rule_name                    = "daily"
    target_vault_name            = aws_backup_vault.snapshots.name
    schedule                     = "cron(0 3 * * ? *)"
    schedule_expression_timezone = "Europe/Paris"

    lifecycle {
      delete_after = 7
    }
  }

  rule {
    rule_name                    = "monthly"
    target_vault_name            = aws_backup_vault.snapshots.name
    schedule                     = "cron(0 3 1 * ? *)"
    schedule_expression_timezone = "Europe/Paris"

    lifecycle {
      delete_after = 372
    }
  }
}

resource "aws_iam_role" "snapshots" {
  name = "rag-prod-snapshots"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect = "Allow"
        Principal = {
          Service = "backup.amazonaws.com"
        }
        Action = "sts:AssumeRole"
      },
    ]
  })
}

resource "aws_iam_role_policy_attachment" "snapshots_taken" {
  role       = aws_iam_role.snapshots.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AWSBackupServiceRolePolicyForBackup"
}

resource "aws_iam_role_policy_attachment" "snapshots_restored" {
  role       = aws_iam_role.snapshots.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AWSBackupServiceRolePolicyForRestores"
}

resource "aws_backup_selection" "snapshots" {
  name         = "rag-prod"
  plan_id      = aws_backup_plan.snapshots.id
  iam_role_arn = aws_iam_role.snapshots.arn
  resources    = [module.database.db_instance_arn]
}
