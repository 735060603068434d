# Rendered by Pilotis from contract 'rag', digest 56e48431201f2aa9b26160b0bfe226a4c6cac88e6a828739a6b1dcde02637166.
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
