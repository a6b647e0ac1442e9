# A machine for an operator who wants to look, or to train by hand: terraform apply -var active=true. It has no way in but
# a recorded Systems Manager session, and ends itself like a job's machine; the next apply then starts another one, so
# set `active` back to false when you are done.

resource "aws_instance" "operator" {
  count = var.active ? 1 : 0

  ami                                  = local.images[0]
  instance_type                        = local.instance_type
  subnet_id                            = local.subnets[0]
  vpc_security_group_ids               = [aws_security_group.trainer.id]
  iam_instance_profile                 = aws_iam_instance_profile.trainer.name
  instance_initiated_shutdown_behavior = "terminate"
  ebs_optimized                        = true
  user_data                            = "#!/bin/sh\nshutdown -h +${local.max_minutes}\n"

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_size           = local.volume_gib
    volume_type           = "gp3"
    encrypted             = true
    kms_key_id            = aws_kms_key.training.arn
    delete_on_termination = true
  }

  tags        = { Name = "quantahr-operator", Installation = aws_s3_bucket.training.id }
  volume_tags = { Environment = "Training", Project = "QuantaHR", Installation = aws_s3_bucket.training.id }

  lifecycle {
    # A newer image must not replace a machine on which somebody works.
    ignore_changes = [ami]
  }
}
