# Rendered by Pilotis from contract 'rag', digest 3613b9e3b157f0533f165cc10d8cfcc09ee62d4ef796100eb33fa016057e7c2a.
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
