# Rendered by Pilotis from contract 'rag', digest 56e48431201f2aa9b26160b0bfe226a4c6cac88e6a828739a6b1dcde02637166.
# Edit the contract, then run: pilotis render

provider "aws" {
  region = "eu-west-3"

  # Nothing of staging ends up in another env's account.
  allowed_account_ids = [var.account_id]

  default_tags {
    tags = {
      Project     = "rag"
      Environment = "staging"
      ManagedBy   = "terraform"
    }
  }
}
