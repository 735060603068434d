# Rendered by Pilotis from contract 'rag', digest 581dccdcd374dcd99ca4f57d5f20f24c8f3ff30a23ba4b2521abb4c440f7ea66.
# Edit the contract, then run: pilotis render

variable "account_id" {
  description = "The account of AWS that holds dev."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "An account of AWS has twelve digits."
  }
}

variable "cluster_admins" {
  description = "ARNs of the roles that administer the cluster."
  type        = list(string)

  validation {
    condition     = length(var.cluster_admins) > 0
    error_message = "Without an administrator nobody can enter the cluster."
  }
}

variable "deployers" {
  description = "ARNs of the roles that release: all rights, in the namespace rag-dev alone."
  type        = list(string)
  default     = []
}

variable "cluster_public_cidrs" {
  description = "Networks outside from which the cluster's API is reached; from within alone when empty."
  type        = list(string)
  default     = []

  validation {
    condition     = !contains(var.cluster_public_cidrs, "0.0.0.0/0")
    error_message = "The whole world is no list of networks: name those that need it."
  }
}

variable "passwords_version" {
  description = "One more makes new passwords for the database and the caches; every 90 days, see README.md."
  type        = number
  default     = 1
}

variable "rotations" {
  description = "The name of a secret, and the ARN of the function that can renew it."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setsubtract(keys(var.rotations), ["PILOTIS_JUDGE_KEY"])) == 0
    error_message = "One of: PILOTIS_JUDGE_KEY."
  }
}
