# Rendered by Pilotis from contract 'rag', digest 8f4221db5e411bc6cf786ae39d0372290badf155f2589952b5864f813b389536.
# Edit the contract, then run: pilotis render

terraform {
  required_version = ">= 1.11.1"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.49"
    }
  }
}
