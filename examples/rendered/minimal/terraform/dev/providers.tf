# Rendered by Pilotis from contract 'rag', digest 3613b9e3b157f0533f165cc10d8cfcc09ee62d4ef796100eb33fa016057e7c2a.
# Edit the contract, then run: pilotis render

provider "aws" {
  region = "eu-west-3"

  # Nothing of dev ends up in another env's account.
  allowed_account_ids = [var.account_id]

  default_tags {
    tags = {
      Project     = "rag"
      Environment = "dev"
      ManagedBy   = "terraform"
    }
  }
}
