"""Terraform's own checks, and a whole life of the infrastructure in a simulated account."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner

from quantahr.cli import infra as commands
from quantahr.errors import QuantaHRError
from quantahr.infra import Infra, load_infra
from tests.iac.conftest import IMAGE, MODULE, OVERRIDE, ROOT, Account

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]


SCHEDULE: Any = {
    "Name": "mine",
    "ScheduleExpression": "at(2030-01-01T00:00:00)",
    "FlexibleTimeWindow": {"Mode": "OFF"},
    "Target": {"Arn": "arn:aws:scheduler:::aws-sdk:ec2:startInstances", "RoleArn": "arn:aws:iam::123456789012:role/x"},
}


def terraform(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["terraform", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory, terraform_env: dict[str, str]) -> Path:
    """The module with its configuration, where a test may write beside it."""
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(MODULE, root / "iac" / "terraform", ignore=shutil.ignore_patterns(".terraform", "*.tfstate*"))
    (root / "config").mkdir()
    shutil.copy(ROOT / "config" / "qlora_config.json", root / "config")
    done = terraform(root / "iac" / "terraform", terraform_env, "init", "-backend=false", "-lockfile=readonly")
    assert done.returncode == 0, done.stderr
    return root / "iac" / "terraform"


def test_the_sources_are_formatted_and_valid_and_the_provider_is_locked(
    copied: Path, terraform_env: dict[str, str]
) -> None:
    formatted = terraform(copied, terraform_env, "fmt", "-check", "-recursive")
    assert formatted.returncode == 0, formatted.stdout
    valid = json.loads(terraform(copied, terraform_env, "validate", "-json").stdout)
    assert valid["diagnostics"] == []


TERRAFORM = """#!/bin/sh
echo "$@" >> "$CALLS"
case "$1" in
  version) echo '{{"platform": "{platform}"}}' ;;
  providers) touch "$CALLS.locked" ;;
  init) [ -e "$CALLS.locked" ] || {{
    echo "Error: it does not match any of the checksums previously recorded in the lock file" >&2; exit 1; }} ;;
esac
"""


@pytest.mark.parametrize(("platform", "asks"), [("darwin_arm64", True), ("linux_amd64", False)])
def test_another_platform_s_provider_is_asked_of_the_registry_and_ours_never(
    platform: str, asks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, program = tmp_path / "calls", tmp_path / "bin" / "terraform"
    program.parent.mkdir()
    program.write_text(TERRAFORM.format(platform=platform))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(calls))
    start = commands.Terraform(tmp_path / "state")
    if asks:
        start.init()
    else:
        with pytest.raises(QuantaHRError, match="checksums previously recorded"):
            start.init()
    locked = "providers lock -no-color -platform=darwin_arm64" in calls.read_text().splitlines()
    assert locked is asks


def test_what_is_planned_is_what_was_promised(copied: Path, terraform_env: dict[str, str]) -> None:
    done = terraform(copied, terraform_env, "test", "-json")
    results = [json.loads(line) for line in done.stdout.splitlines()]
    summary = next(result["test_summary"] for result in results if result["type"] == "test_summary")
    assert (summary["status"], summary["failed"], summary["errored"]) == ("pass", 0, 0), done.stdout
    assert summary["passed"] >= 5


@pytest.fixture(scope="module")
def place(account: Account, terraform_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout with the configuration, and the commands pointed at the simulated account."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "config", root / "config", ignore=shutil.ignore_patterns("infra.json"))
    module = root / "iac" / "terraform"
    module.mkdir(parents=True)
    for source in (*MODULE.glob("*.tf"), MODULE / ".terraform.lock.hcl"):
        shutil.copy(source, module / source.name)
    (module / "moto_override.tf").write_text(OVERRIDE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AWS_", "TF_"))]:
            patch.delenv(name)
        for name, value in {**terraform_env, **account.environment}.items():
            patch.setenv(name, value)
        patch.setenv("QUANTAHR_STATE_DIR", str(root / "state"))
        patch.setattr(commands, "MODULE", module)
        patch.chdir(root)
        yield root


def run(*arguments: str, answer: str | None = None) -> Any:
    result = CliRunner().invoke(commands.app, list(arguments), input=answer)
    if isinstance(result.exception, QuantaHRError):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def standing(place: Path) -> Infra:
    """The infrastructure, made by `quantahr infra up` after a no and a yes."""
    refused = run("up", answer="n\n")
    assert refused.exit_code == 1
    assert "a bucket for data, checkpoints and adapters" in refused.output
    assert "1.00 dollars a month" in refused.output
    assert "at most 4.02" in refused.output
    assert not (place / "config" / "infra.json").exists()
    made = run("up", answer="y\n")
    assert made.exit_code == 0, made.output
    return load_infra(place / "config" / "infra.json")


def assumed(account: Account, role: str, service: str) -> Any:
    held = account.client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    return account.client(service, held["AccessKeyId"], held["SecretAccessKey"], held["SessionToken"])


def named(account: Account, purpose: str) -> str:
    """The ARN of one of the installation's roles."""
    roles = account.client("iam").list_roles()["Roles"]
    return next(str(one["Arn"]) for one in roles if one["RoleName"].startswith(f"quantahr-{purpose}-"))


def refuses(action: Any, **arguments: Any) -> bool:
    """Whether the account says that this is not allowed. Any other mistake is a mistake of the test."""
    try:
        action(**arguments)
    except ClientError as error:
        # moto says it in its own way for services that speak JSON.
        if error.response["Error"]["Code"] in {"AccessDenied", "UnauthorizedOperation", "AccessDeniedException", "403"}:
            return True
        raise
    return False


def test_what_stands_is_what_the_launcher_reads(standing: Infra, account: Account) -> None:
    assert standing.region == "eu-central-1"
    assert len(standing.subnet_ids) == 3
    found = account.client("ec2").describe_images(
        Owners=list(standing.image_owners), Filters=[{"Name": "name", "Values": [standing.image_queries[1]]}]
    )
    assert [image["Name"] for image in found["Images"]] == [IMAGE]
    group = account.client("ec2").describe_security_groups(GroupIds=[standing.security_group_id])["SecurityGroups"][0]
    assert group["IpPermissions"] == []
    assert [(rule["FromPort"], rule["ToPort"]) for rule in group["IpPermissionsEgress"]] == [(443, 443)]


def test_doing_it_again_changes_nothing(standing: Infra, place: Path) -> None:
    before = (place / "config" / "infra.json").read_bytes()
    again = run("up")  # it has nothing to ask
    assert again.exit_code == 0, again.output
    assert "create" not in again.output
    assert (place / "config" / "infra.json").read_bytes() == before


def test_the_status_lists_what_exists_and_that_nothing_runs(standing: Infra) -> None:
    shown = run("status")
    assert f"arn:aws:s3:::{standing.bucket}" in shown.output
    assert standing.kms_key_arn in shown.output
    assert "No machine runs." in shown.output
    assert "The bucket, 0.0 GiB" in run("cost").output


def test_the_trainer_reads_its_job_and_writes_its_results_and_nothing_else(
    standing: Infra, account: Account, place: Path
) -> None:
    owner = account.client("s3")
    for key in ("data/j/data.tar.gz", "config/j/manifest.txt", "adapters/old/adapter.gguf", "jobs/ACTIVE"):
        owner.put_object(Bucket=standing.bucket, Key=key, Body=b"x")
    profile = account.client("iam").get_instance_profile(InstanceProfileName=standing.instance_profile)
    role = profile["InstanceProfile"]["Roles"][0]["Arn"]
    launcher = named(account, "launcher")
    services = ("s3", "ec2", "kms", "iam", "sts", "scheduler")
    s3, ec2, kms, iam, sts, scheduler = (assumed(account, role, service) for service in services)
    version = owner.put_object(Bucket=standing.bucket, Key="checkpoints/r/c/manifest.json", Body=b"w")["VersionId"]
    account.post("/moto-api/reset-auth", b"0")
    try:
        for key in ("data/j/data.tar.gz", "config/j/manifest.txt"):
            assert s3.get_object(Bucket=standing.bucket, Key=key)["Body"].read() == b"x"
        for key in ("checkpoints/r/c/manifest.json", "adapters/j/adapter.gguf", "jobs/j/heartbeat.json"):
            s3.put_object(Bucket=standing.bucket, Key=key, Body=b"y")
        s3.delete_object(Bucket=standing.bucket, Key="checkpoints/r/c/manifest.json")
        for key in ("data/j/data.tar.gz", "config/j/manifest.txt", "bootstrap/h/bootstrap.sh", "base/h/base.tar.gz"):
            assert refuses(s3.put_object, Bucket=standing.bucket, Key=key, Body=b"z"), key
        for key in ("data/j/data.tar.gz", "adapters/old/adapter.gguf", "jobs/j/heartbeat.json", "jobs/ACTIVE"):
            assert refuses(s3.delete_object, Bucket=standing.bucket, Key=key), key
        assert refuses(s3.get_object, Bucket=standing.bucket, Key="adapters/old/adapter.gguf")
        assert refuses(s3.put_object, Bucket=standing.bucket, Key="jobs/ACTIVE", Body=b"mine")
        assert refuses(s3.delete_bucket, Bucket=standing.bucket)
        assert refuses(s3.list_buckets)
        assert refuses(ec2.describe_instances)
        assert refuses(ec2.run_instances, ImageId="ami-1", MinCount=1, MaxCount=1)
        assert refuses(ec2.terminate_instances, InstanceIds=["i-0123456789abcdef0"])
        # Nor can it change the rules that hold it, loosen what protects the data, or become somebody else.
        rules = {"Status": "Suspended"}
        assert refuses(s3.put_bucket_versioning, Bucket=standing.bucket, VersioningConfiguration=rules)
        assert refuses(s3.put_bucket_policy, Bucket=standing.bucket, Policy="{}")
        assert refuses(s3.delete_object, Bucket=standing.bucket, Key="checkpoints/r/c/manifest.json", VersionId=version)
        assert refuses(kms.schedule_key_deletion, KeyId=standing.kms_key_arn)
        assert refuses(kms.put_key_policy, KeyId=standing.kms_key_arn, Policy="{}")
        assert refuses(iam.list_roles)
        assert refuses(iam.attach_role_policy, RoleName=role.rpartition("/")[2], PolicyArn="arn:aws:iam::aws:policy/A")
        assert refuses(sts.assume_role, RoleArn=launcher, RoleSessionName="trainer")
        assert refuses(scheduler.create_schedule, **SCHEDULE)
    finally:
        account.post("/moto-api/reset-auth", b"inf")


def test_the_launcher_brings_fetches_and_tidies_up_and_cannot_change_what_stands(
    standing: Infra, account: Account, place: Path
) -> None:
    owner = account.client("s3")
    owner.put_object(Bucket=standing.bucket, Key="adapters/kept/adapter.gguf", Body=b"x")
    role = named(account, "launcher")
    s3, ec2, iam = (assumed(account, role, service) for service in ("s3", "ec2", "iam"))
    account.post("/moto-api/reset-auth", b"0")
    try:
        s3.put_object(Bucket=standing.bucket, Key="data/k/data.tar.gz", Body=b"x")
        assert s3.get_object(Bucket=standing.bucket, Key="adapters/kept/adapter.gguf")["Body"].read() == b"x"
        s3.delete_object(Bucket=standing.bucket, Key="data/k/data.tar.gz")
        assert ec2.describe_instances()["Reservations"] == []
        assert refuses(s3.delete_object, Bucket=standing.bucket, Key="adapters/kept/adapter.gguf")
        assert refuses(s3.delete_bucket, Bucket=standing.bucket)
        assert refuses(ec2.authorize_security_group_ingress, GroupId=standing.security_group_id)
        assert refuses(iam.create_user, UserName="somebody")
        assert refuses(iam.list_roles)
    finally:
        account.post("/moto-api/reset-auth", b"inf")


def test_who_ends_machines_at_their_hour_can_start_none_and_reads_nothing(
    standing: Infra, account: Account, place: Path
) -> None:
    role = named(account, "scheduler")
    assert role == standing.scheduler_role_arn
    s3, ec2 = assumed(account, role, "s3"), assumed(account, role, "ec2")
    account.post("/moto-api/reset-auth", b"0")
    try:
        assert refuses(ec2.run_instances, ImageId="ami-1", MinCount=1, MaxCount=1)
        assert refuses(ec2.describe_instances)
        assert refuses(s3.get_object, Bucket=standing.bucket, Key="data/j/data.tar.gz")
    finally:
        account.post("/moto-api/reset-auth", b"inf")


def test_removing_it_spares_results_until_told_otherwise_and_leaves_nothing(
    standing: Infra, account: Account, place: Path
) -> None:
    s3 = account.client("s3")
    s3.put_object(Bucket=standing.bucket, Key="adapters/result/adapter.gguf", Body=b"x")
    # With delete markers in it, moto never lets the provider empty a bucket.
    for marker in s3.list_object_versions(Bucket=standing.bucket).get("DeleteMarkers", ()):
        s3.delete_object(Bucket=standing.bucket, Key=marker["Key"], VersionId=marker["VersionId"])
    with pytest.raises(QuantaHRError, match="holds results of trainings"):
        run("down", "--yes")
    assert account.client("s3").head_bucket(Bucket=standing.bucket)
    removed = run("down", "--delete-data", answer="y\n")
    assert removed.exit_code == 0, removed.output
    assert account.client("s3").list_buckets()["Buckets"] == []
    left = account.client("iam").list_roles()["Roles"]
    assert [one["RoleName"] for one in left if one["RoleName"].startswith("quantahr-")] == []
    assert not (place / "config" / "infra.json").exists()
    assert "nothing to remove" in run("down").output
