# Rendered by Pilotis from contract 'rag', digest 581dccdcd374dcd99ca4f57d5f20f24c8f3ff30a23ba4b2521abb4c440f7ea66.
# Edit the contract, then run: pilotis render

# The original files.
module "blobs" {
  #checkov:skip=CKV_TF_1:A module of the registry is pinned by its exact version; only one from git can be by its commit.

  source  = "terraform-aws-modules/s3-bucket/aws"
  version = "5.15.4"

  bucket                                = "rag-dev-blobs-a379a6f6"
  force_destroy                         = false
  control_object_ownership              = true
  object_ownership                      = "BucketOwnerEnforced"
  block_public_acls                     = true
  block_public_policy                   = true
  ignore_public_acls                    = true
  restrict_public_buckets               = true
  attach_deny_insecure_transport_policy = true
  attach_require_latest_tls_policy      = true

  versioning = {
    enabled = "true"
  }

  server_side_encryption_configuration = {
    rule = {
      apply_server_side_encryption_by_default = {
        sse_algorithm     = "aws:kms"
        kms_master_key_id = module.key.key_arn
      }
      bucket_key_enabled = true
    }
  }

  lifecycle_rule = [
    {
      id      = "forget"
      enabled = true
      filter = {
        prefix = ""
      }
      abort_incomplete_multipart_upload_days = 7
      noncurrent_version_expiration = {
        days = 30
      }
      expiration = {
        expired_object_delete_marker = true
      }
    },
  ]
}
