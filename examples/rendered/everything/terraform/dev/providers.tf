# Rendered by Pilotis from contract 'rag', digest 581dccdcd374dcd99ca4f57d5f20f24c8f3ff30a23ba4b2521abb4c440f7ea66.
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
