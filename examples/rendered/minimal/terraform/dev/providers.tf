# Rendered by Pilotis from contract 'rag', digest 8f4221db5e411bc6cf786ae39d0372290badf155f2589952b5864f813b389536.
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
