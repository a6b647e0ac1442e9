# The launcher is `quantahr jobs`, wherever it runs. It assumes this role (a profile with role_arn, or the role of its
# own machine), and may start, look at and end training machines of this installation; it may not change what stands.

resource "aws_iam_role" "launcher" {
  name_prefix        = "quantahr-launcher-"
  description        = "quantahr jobs: starts, follows and ends training machines"
  assume_role_policy = data.aws_iam_policy_document.launcher_trust.json
}

data "aws_iam_policy_document" "launcher_trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type = "AWS"
      identifiers = (
        length(var.launcher_principals) > 0
        ? var.launcher_principals
        : ["arn:${local.partition}:iam::${local.account}:root"]
      )
    }
  }
}

resource "aws_iam_role_policy" "launcher" {
  name_prefix = "jobs-"
  role        = aws_iam_role.launcher.id
  policy      = data.aws_iam_policy_document.launcher.json
}

locals {
  ec2 = "arn:${local.partition}:ec2:${local.region}:${local.account}"
}

data "aws_iam_policy_document" "launcher" {
  statement {
    sid       = "StartsTaggedMachines"
    actions   = ["ec2:RunInstances"]
    resources = ["${local.ec2}:instance/*", "${local.ec2}:volume/*", "${local.ec2}:network-interface/*"]
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/Environment"
      values   = ["Training"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/Installation"
      values   = [aws_s3_bucket.training.id]
    }
  }
  statement {
    sid     = "FromAmazonsImagesInItsOwnNetwork"
    actions = ["ec2:RunInstances"]
    resources = concat(
      ["arn:${local.partition}:ec2:${local.region}::image/*", aws_security_group.trainer.arn],
      [for id in local.subnets : "${local.ec2}:subnet/${id}"],
    )
  }
  statement {
    sid       = "TagsOnlyWhatItStarts"
    actions   = ["ec2:CreateTags"]
    resources = ["${local.ec2}:instance/*", "${local.ec2}:volume/*", "${local.ec2}:network-interface/*"]
    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = ["RunInstances"]
    }
  }
  statement {
    sid       = "EndsItsOwnMachines"
    actions   = ["ec2:TerminateInstances"]
    resources = ["${local.ec2}:instance/*"]
    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/Installation"
      values   = [aws_s3_bucket.training.id]
    }
  }
  # These know no resources: it is all or nothing.
  statement {
    sid       = "Looks"
    actions   = ["ec2:DescribeInstances", "ec2:DescribeImages", "tag:GetResources"]
    resources = ["*"]
  }
  statement {
    sid       = "GivesMachinesTheirRole"
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.trainer.arn]
    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ec2.amazonaws.com"]
    }
  }
  statement {
    sid       = "GivesSchedulesTheirRole"
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.scheduler.arn]
    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["scheduler.amazonaws.com"]
    }
  }
  statement {
    sid       = "SchedulesTheEnd"
    actions   = ["scheduler:CreateSchedule", "scheduler:DeleteSchedule"]
    resources = ["arn:${local.partition}:scheduler:${local.region}:${local.account}:schedule/default/qhr-*"]
  }
  statement {
    sid       = "BringsAndFetches"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
    resources = ["${aws_s3_bucket.training.arn}/*"]
  }
  statement {
    sid       = "TidiesUpAfterAJob"
    actions   = ["s3:DeleteObject"]
    resources = [for name in ["data/*", "config/*", "jobs/ACTIVE"] : "${aws_s3_bucket.training.arn}/${name}"]
  }
  statement {
    sid       = "Lists"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.training.arn]
  }
  statement {
    sid       = "KeyOfTheBucket"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.training.arn]
  }
}
