# Rendered by Pilotis from contract 'rag', digest 3613b9e3b157f0533f165cc10d8cfcc09ee62d4ef796100eb33fa016057e7c2a.
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
