# What is planned, without an account: `terraform test` with a mocked provider.

mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_data "aws_subnets" {
    defaults = { ids = ["subnet-a", "subnet-b", "subnet-c"] }
  }
  mock_data "aws_subnet" {
    defaults = { vpc_id = "vpc-1", availability_zone = "eu-central-1a" }
  }
  mock_data "aws_ec2_instance_type_offerings" {
    defaults = { locations = ["eu-central-1a"] }
  }
  mock_data "aws_ami_ids" {
    defaults = { ids = ["ami-1"] }
  }
  mock_resource "aws_s3_bucket" {
    defaults = {
      id  = "quantahr-training-1"
      arn = "arn:aws:s3:::quantahr-training-1"
    }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/1" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/one" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/quantahr/sessions-1" }
  }
  mock_resource "aws_security_group" {
    defaults = { id = "sg-1", arn = "arn:aws:ec2:eu-central-1:123456789012:security-group/sg-1" }
  }
}

run "stands_without_a_machine" {
  assert {
    condition     = length(aws_instance.operator) == 0
    error_message = "No machine may stand by default."
  }
  assert {
    condition     = aws_s3_bucket.training.force_destroy == false
    error_message = "A bucket with results must survive a destroy."
  }
  assert {
    condition     = one(aws_s3_bucket_server_side_encryption_configuration.training.rule).apply_server_side_encryption_by_default[0].sse_algorithm == "aws:kms"
    error_message = "The bucket must be encrypted with the installation's key."
  }
  assert {
    condition     = aws_vpc_security_group_egress_rule.https.from_port == 443 && aws_vpc_security_group_egress_rule.https.to_port == 443
    error_message = "Out by HTTPS only."
  }
  assert {
    condition     = output.image_queries[0] == local.compute.boot_os_query && length(output.image_queries) == 3
    error_message = "The configured image goes first, the fallbacks after it."
  }
  assert {
    condition     = length(output.subnet_ids) == 3
    error_message = "Every zone that offers the machine is used."
  }
}

run "an_operators_machine_is_closed_and_ends_itself" {
  variables {
    active = true
  }
  assert {
    condition     = aws_instance.operator[0].instance_initiated_shutdown_behavior == "terminate" && strcontains(aws_instance.operator[0].user_data, "shutdown -h +240")
    error_message = "It must end itself after compute.max_minutes."
  }
  assert {
    condition     = aws_instance.operator[0].metadata_options[0].http_tokens == "required" && aws_instance.operator[0].metadata_options[0].http_put_response_hop_limit == 1
    error_message = "IMDSv2, one hop."
  }
  assert {
    condition     = aws_instance.operator[0].root_block_device[0].encrypted && aws_instance.operator[0].root_block_device[0].volume_type == "gp3"
    error_message = "An encrypted gp3 disk."
  }
  assert {
    condition     = aws_instance.operator[0].instance_type == local.compute.instance_type
    error_message = "The configured machine."
  }
}

run "a_zone_that_does_not_offer_the_machine_is_left_out" {
  command = plan
  override_data {
    target = data.aws_subnet.each["subnet-b"]
    values = { vpc_id = "vpc-1", availability_zone = "eu-central-1b" }
  }
  assert {
    condition     = tolist(output.subnet_ids) == tolist(["subnet-a", "subnet-c"])
    error_message = "Only zones that offer the machine."
  }
}

run "no_image_is_one_clear_sentence" {
  command = plan
  override_data {
    target = data.aws_ami_ids.images
    values = { ids = [] }
  }
  expect_failures = [terraform_data.preconditions]
}

run "no_zone_is_one_clear_sentence" {
  command = plan
  override_data {
    target = data.aws_ec2_instance_type_offerings.zones
    values = { locations = [] }
  }
  expect_failures = [terraform_data.preconditions]
}
