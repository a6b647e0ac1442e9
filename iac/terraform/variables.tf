variable "region" {
  description = "Where to train. Empty: what AWS_REGION or the profile says."
  type        = string
  default     = null
}

variable "config_file" {
  description = "The training configuration; `compute` in it names the machine and its image."
  type        = string
  default     = "../../config/qlora_config.json"
}

variable "subnet_ids" {
  description = "Subnets with a way to the internet, at most one a zone. Empty: those of the account's default network."
  type        = list(string)
  default     = []
}

variable "active" {
  description = "Whether a machine for an operator stands beside the jobs'. It ends itself after compute.max_minutes."
  type        = bool
  default     = false
}

variable "launcher_principals" {
  description = "Who may assume the launcher's role: ARNs of users or roles. Empty: whoever in this account is allowed to by their own policy."
  type        = list(string)
  default     = []
}

variable "delete_data" {
  description = "Whether `destroy` may delete a bucket that still holds checkpoints and adapters."
  type        = bool
  default     = false
}
