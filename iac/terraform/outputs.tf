# `quantahr infra up` writes those that the launcher reads into config/infra.json (quantahr/infra.py).

output "region" {
  value = local.region
}

output "bucket" {
  value = aws_s3_bucket.training.id
}

output "kms_key_arn" {
  value = aws_kms_key.training.arn
}

output "subnet_ids" {
  value = local.subnets
}

output "security_group_id" {
  value = aws_security_group.trainer.id
}

output "instance_profile" {
  value = aws_iam_instance_profile.trainer.name
}

output "scheduler_role_arn" {
  value = aws_iam_role.scheduler.arn
}

output "image_queries" {
  value = local.image_queries
}

output "image_owners" {
  value = local.image_owners
}

output "volume_gib" {
  value = local.volume_gib
}

# For people.

output "launcher_role_arn" {
  description = "The role that `quantahr jobs` assumes."
  value       = aws_iam_role.launcher.arn
}

output "session_document" {
  description = "aws ssm start-session --target i-… --document-name …"
  value       = aws_ssm_document.session.name
}

output "operator_instance" {
  value = one(aws_instance.operator[*].id)
}
