# Rendered by Pilotis from contract 'rag', digest 8f4221db5e411bc6cf786ae39d0372290badf155f2589952b5864f813b389536.
# Edit the contract, then run: pilotis render

# The state of this env alone. Its bucket is named once, with -backend-config=bucket=NAME: see README.md.
terraform {
  backend "s3" {
    key     = "rag/dev/terraform.tfstate"
    region  = "eu-west-3"
    encrypt = true

    # Two people never apply at once.
    use_lockfile = true
  }
}
