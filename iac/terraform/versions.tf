terraform {
  required_version = ">= 1.9, < 2.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }

  # `quantahr infra` names the file, in the state folder: terraform init -backend-config=path=…
  backend "local" {}
}

provider "aws" {
  region = var.region

  # By this tag everything is found again: `aws resourcegroupstaggingapi get-resources`.
  default_tags {
    tags = {
      Environment = "Training"
      Project     = "QuantaHR"
    }
  }
}
