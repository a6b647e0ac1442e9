# What stands in the AWS account between trainings: a bucket, its key, three roles, a closed security group and a log.
#
# Each training is one run_instances call by the launcher, not a Terraform run: an apply that is killed half-way leaves a
# GPU in no state file, and its repetition starts a second one. What stands here costs about a dollar a month.

locals {
  compute = jsondecode(file(
    startswith(var.config_file, "/") ? var.config_file : "${path.module}/${var.config_file}"
  )).compute

  instance_type = coalesce(try(local.compute.instance_type, null), "g5.xlarge")
  max_minutes   = coalesce(try(local.compute.max_minutes, null), 240)
  volume_gib    = 100

  # Amazon renames its images from time to time; the configured name goes first, and the newest that exists is used.
  image_owners = ["amazon"]
  image_queries = distinct(compact([
    try(local.compute.boot_os_query, null),
    "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.* (Ubuntu 24.04)*",
    "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.* (Ubuntu 22.04)*",
  ]))
  images = flatten([for query in data.aws_ami_ids.images : query.ids])

  # In the order of their zones; a zone that does not offer the machine at all is left out.
  offered = toset(data.aws_ec2_instance_type_offerings.zones.locations)
  subnets = [
    for id in sort(keys(data.aws_subnet.each)) : id
    if contains(local.offered, data.aws_subnet.each[id].availability_zone)
  ]

  account   = data.aws_caller_identity.here.account_id
  partition = data.aws_partition.here.partition
  region    = data.aws_region.here.name
}

data "aws_caller_identity" "here" {}
data "aws_partition" "here" {}
data "aws_region" "here" {}

data "aws_vpc" "default" {
  count   = length(var.subnet_ids) == 0 ? 1 : 0
  default = true
}

data "aws_subnets" "default" {
  count = length(var.subnet_ids) == 0 ? 1 : 0

  filter {
    name   = "vpc-id"
    values = [data.aws_vpc.default[0].id]
  }
  filter {
    name   = "default-for-az"
    values = ["true"]
  }
}

data "aws_subnet" "each" {
  for_each = toset(length(var.subnet_ids) > 0 ? var.subnet_ids : data.aws_subnets.default[0].ids)
  id       = each.value
}

data "aws_ec2_instance_type_offerings" "zones" {
  location_type = "availability-zone"

  filter {
    name   = "instance-type"
    values = [local.instance_type]
  }
}

# Not `aws_ami`: that fails the whole plan when a name matches nothing.
data "aws_ami_ids" "images" {
  for_each = toset(local.image_queries)
  owners   = local.image_owners

  filter {
    name   = "name"
    values = [each.value]
  }
  filter {
    name   = "state"
    values = ["available"]
  }
}

# What must be true before anything is made, each in a sentence.
resource "terraform_data" "preconditions" {
  lifecycle {
    precondition {
      condition     = length(local.images) > 0
      error_message = "No machine image in ${local.region} matches ${join(" or ", local.image_queries)}. Correct compute.boot_os_query in the training configuration."
    }
    precondition {
      condition     = length(local.subnets) > 0
      error_message = "No subnet lies in a zone of ${local.region} that offers ${local.instance_type}. Choose another compute.instance_type or region, or name subnets with the variable subnet_ids."
    }
    precondition {
      condition     = length(distinct([for id in local.subnets : data.aws_subnet.each[id].vpc_id])) <= 1
      error_message = "The subnets belong to different networks. Name subnets of one VPC."
    }
  }
}

# --- The key and the bucket -------------------------------------------------------------------------------------------

resource "aws_kms_key" "training" {
  description             = "QuantaHR: training data, checkpoints and adapters"
  enable_key_rotation     = true
  deletion_window_in_days = 7
  policy                  = data.aws_iam_policy_document.key.json
}

data "aws_iam_policy_document" "key" {
  #checkov:skip=CKV_AWS_109:The account's administrators must be able to manage the key, or nobody could any more
  #checkov:skip=CKV_AWS_111:In a key's own policy every statement is about this key only
  #checkov:skip=CKV_AWS_356:In a key's own policy "*" is the key itself, its only possible resource
  statement {
    sid       = "AccountDecidesByItsPolicies"
    actions   = ["kms:*"]
    resources = ["*"]
    principals {
      type        = "AWS"
      identifiers = ["arn:${local.partition}:iam::${local.account}:root"]
    }
  }
  statement {
    sid       = "LogsOfThisInstallation"
    actions   = ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"]
    resources = ["*"]
    principals {
      type        = "Service"
      identifiers = ["logs.${local.region}.amazonaws.com"]
    }
    condition {
      test     = "ArnLike"
      variable = "kms:EncryptionContext:aws:logs:arn"
      values   = ["arn:${local.partition}:logs:${local.region}:${local.account}:log-group:/quantahr/*"]
    }
  }
}

resource "aws_s3_bucket" "training" {
  #checkov:skip=CKV_AWS_18:Access logs need a second bucket with its own rules; the account's CloudTrail can record data events of this one
  #checkov:skip=CKV_AWS_144:HR's documents must not leave the region, and what is lost can be trained again
  #checkov:skip=CKV2_AWS_62:Nobody waits for events; the launcher looks at the job's marks
  bucket_prefix = "quantahr-training-"
  force_destroy = var.delete_data
  depends_on    = [terraform_data.preconditions]
}

resource "aws_s3_bucket_versioning" "training" {
  bucket = aws_s3_bucket.training.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "training" {
  bucket = aws_s3_bucket.training.id
  rule {
    bucket_key_enabled = true
    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.training.arn
    }
  }
}

resource "aws_s3_bucket_public_access_block" "training" {
  bucket                  = aws_s3_bucket.training.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "training" {
  bucket = aws_s3_bucket.training.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "training" {
  bucket     = aws_s3_bucket.training.id
  depends_on = [aws_s3_bucket_versioning.training]

  # What HR's documents say leaves the account soon after a job removed it; a week lets a mistake be mended.
  rule {
    id     = "removed-is-gone-after-a-week"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = 7
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
  # A job removes its own data; this is for one that could not.
  rule {
    id     = "data-of-a-job"
    status = "Enabled"
    filter {
      prefix = "data/"
    }
    expiration {
      days = 7
    }
  }
  rule {
    id     = "checkpoints"
    status = "Enabled"
    filter {
      prefix = "checkpoints/"
    }
    expiration {
      days = 30
    }
  }
}

resource "aws_s3_bucket_policy" "training" {
  bucket     = aws_s3_bucket.training.id
  policy     = data.aws_iam_policy_document.bucket.json
  depends_on = [aws_s3_bucket_public_access_block.training]
}

data "aws_iam_policy_document" "bucket" {
  statement {
    sid       = "EncryptedConnectionsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.training.arn, "${aws_s3_bucket.training.arn}/*"]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

# --- The training machine: what it may, and how it is reached (not at all) --------------------------------------------

resource "aws_security_group" "trainer" {
  name_prefix            = "quantahr-trainer-"
  description            = "QuantaHR training machines: no way in, out by HTTPS only"
  vpc_id                 = one(distinct([for id in local.subnets : data.aws_subnet.each[id].vpc_id]))
  revoke_rules_on_delete = true
  depends_on             = [terraform_data.preconditions]

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.trainer.id
  description       = "S3, Systems Manager, and pinned packages from PyPI"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_iam_role" "trainer" {
  name_prefix        = "quantahr-trainer-"
  description        = "A training machine: reads its job, writes checkpoints, adapter and how it goes"
  assume_role_policy = data.aws_iam_policy_document.trainer_trust.json
}

data "aws_iam_policy_document" "trainer_trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_instance_profile" "trainer" {
  name_prefix = "quantahr-trainer-"
  role        = aws_iam_role.trainer.name
}

resource "aws_iam_role_policy" "trainer" {
  name_prefix = "job-"
  role        = aws_iam_role.trainer.id
  policy      = data.aws_iam_policy_document.trainer.json
}

data "aws_iam_policy_document" "trainer" {
  #checkov:skip=CKV_AWS_111:What may be written to anything are channels of Session Manager, which have no resource to name
  #checkov:skip=CKV_AWS_356:ssmmessages and DescribeLogGroups know no resource but "*"; everything else names the bucket or the key
  statement {
    sid       = "ReadsWhatItTrainsOn"
    actions   = ["s3:GetObject"]
    resources = [for name in ["data", "config", "bootstrap", "base", "checkpoints"] : "${aws_s3_bucket.training.arn}/${name}/*"]
  }
  statement {
    sid       = "WritesWhatComesOfIt"
    actions   = ["s3:PutObject", "s3:AbortMultipartUpload"]
    resources = [for name in ["checkpoints", "adapters", "jobs"] : "${aws_s3_bucket.training.arn}/${name}/*"]
  }
  # jobs/ACTIVE decides which job may run: it is the launcher's alone.
  statement {
    sid       = "NotWhoseTurnItIs"
    effect    = "Deny"
    actions   = ["s3:PutObject", "s3:DeleteObject"]
    resources = ["${aws_s3_bucket.training.arn}/jobs/ACTIVE"]
  }
  # Only the last few checkpoints are kept (training.save_total_limit). An older version stays for a week.
  statement {
    sid       = "ThinsItsCheckpoints"
    actions   = ["s3:DeleteObject"]
    resources = ["${aws_s3_bucket.training.arn}/checkpoints/*"]
  }
  statement {
    sid       = "FindsItsCheckpoints"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.training.arn]
    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["checkpoints/*"]
    }
  }
  statement {
    sid       = "KeyOfTheBucket"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.training.arn]
  }
  # A person's session (Systems Manager), and its record.
  statement {
    sid = "SessionOfAnOperator"
    actions = [
      "ssm:UpdateInstanceInformation",
      "ssmmessages:CreateControlChannel",
      "ssmmessages:CreateDataChannel",
      "ssmmessages:OpenControlChannel",
      "ssmmessages:OpenDataChannel",
    ]
    resources = ["*"]
  }
  statement {
    sid       = "RecordOfTheSession"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
    resources = ["${aws_cloudwatch_log_group.sessions.arn}:*"]
  }
  statement {
    sid       = "FindsTheRecord"
    actions   = ["logs:DescribeLogGroups"]
    resources = ["*"]
  }
}

resource "aws_cloudwatch_log_group" "sessions" {
  name_prefix       = "/quantahr/sessions-"
  retention_in_days = 365
  kms_key_id        = aws_kms_key.training.arn
}

# aws ssm start-session --target i-… --document-name …: nobody looks at a machine with HR's data on it unrecorded.
resource "aws_ssm_document" "session" {
  name            = "quantahr-session-${trimprefix(aws_s3_bucket.training.id, "quantahr-training-")}"
  document_type   = "Session"
  document_format = "JSON"
  content = jsonencode({
    schemaVersion = "1.0"
    description   = "A recorded session on a QuantaHR training machine"
    sessionType   = "Standard_Stream"
    inputs = {
      kmsKeyId                    = aws_kms_key.training.arn
      cloudWatchLogGroupName      = aws_cloudwatch_log_group.sessions.name
      cloudWatchEncryptionEnabled = true
      cloudWatchStreamingEnabled  = true
      idleSessionTimeout          = "20"
      maxSessionDuration          = "60"
    }
  })
}

# --- Behind the machine's own alarm: a schedule that ends it ----------------------------------------------------------

resource "aws_iam_role" "scheduler" {
  name_prefix        = "quantahr-scheduler-"
  description        = "EventBridge Scheduler: ends training machines, and nothing else"
  assume_role_policy = data.aws_iam_policy_document.scheduler_trust.json
}

data "aws_iam_policy_document" "scheduler_trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

resource "aws_iam_role_policy" "scheduler" {
  name_prefix = "end-"
  role        = aws_iam_role.scheduler.id
  policy      = data.aws_iam_policy_document.scheduler.json
}

data "aws_iam_policy_document" "scheduler" {
  statement {
    actions   = ["ec2:TerminateInstances"]
    resources = ["arn:${local.partition}:ec2:${local.region}:${local.account}:instance/*"]
    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/Environment"
      values   = ["Training"]
    }
  }
}
