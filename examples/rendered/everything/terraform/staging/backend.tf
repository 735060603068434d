# Rendered by Pilotis from contract 'rag', digest 581dccdcd374dcd99ca4f57d5f20f24c8f3ff30a23ba4b2521abb4c440f7ea66.
# Edit the contract, then run: pilotis render

# The state of this env alone. Its bucket is named once, with -backend-config=bucket=NAME: see README.md.
terraform {
  backend "s3" {
    key     = "rag/staging/terraform.tfstate"
    region  = "eu-west-3"
    encrypt = true

    # Two people never apply at once.
    use_lockfile = true
  }
}
