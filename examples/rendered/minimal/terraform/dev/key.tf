# Rendered by Pilotis from contract 'rag', digest 8f4221db5e411bc6cf786ae39d0372290badf155f2589952b5864f813b389536.
# Edit the contract, then run: pilotis render

# One key for the env: who may not use it reads nothing of what the env stores.
module "key" {
  #checkov:skip=CKV_TF_1:A module of the registry is pinned by its exact version; only one from git can be by its commit.

  source  = "terraform-aws-modules/kms/aws"
  version = "4.2.0"

  description             = "All that rag-dev stores."
  aliases                 = ["rag-dev"]
  enable_key_rotation     = true
  deletion_window_in_days = 30

  key_statements = [
    {
      sid = "Logs"
      principals = [
        {
          type        = "Service"
          identifiers = ["logs.eu-west-3.amazonaws.com"]
        },
      ]
      actions   = ["kms:Encrypt*", "kms:Decrypt*", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"]
      resources = ["*"]
      condition = [
        {
          test     = "ArnLike"
          variable = "kms:EncryptionContext:aws:logs:arn"
          values   = ["arn:aws:logs:eu-west-3:${var.account_id}:log-group:*"]
        },
      ]
    },
  ]
}
