# Rendered by Pilotis from contract 'rag', digest 56e48431201f2aa9b26160b0bfe226a4c6cac88e6a828739a6b1dcde02637166.
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
