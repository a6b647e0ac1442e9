"""An AWS account that is a process on this machine (moto), and Terraform pointed at it.

moto ignores the conditions of policies, so a bucket policy that refuses unencrypted connections would refuse all;
the override leaves it out. Terraform finds its provider by TF_PLUGIN_MIRROR (a filesystem mirror's root), in
.quantahr/plugins, by an existing TF_CLI_CONFIG_FILE, or in a folder where Debian images of CI keep it; without one
these tests say so and skip. `terraform -chdir=iac/terraform providers mirror "$PWD/.quantahr/plugins"` fills that
folder, once.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "iac" / "terraform"
REGION = "eu-central-1"
IMAGE = "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.7 (Ubuntu 24.04) 20260101"
OVERRIDE = """
provider "aws" {
  s3_use_path_style = true
}

resource "aws_s3_bucket_policy" "training" {
  count = 0
}

# The provider waits for 55 seconds after it.
resource "aws_s3_bucket_lifecycle_configuration" "training" {
  count = 0
}
"""


def mirror() -> Path | None:
    """The root of a provider mirror on this machine."""
    named = [Path(os.environ["TF_PLUGIN_MIRROR"])] if "TF_PLUGIN_MIRROR" in os.environ else []
    usual = [Path("/usr/local/share/terraform/plugins"), Path("/usr/share/terraform/plugins"), *Path("/opt").glob("*/")]
    named.append(ROOT / ".quantahr" / "plugins")
    for root in (*named, *usual):
        if (root / "registry.terraform.io/hashicorp/aws").is_dir():
            return root
    return None


@pytest.fixture(scope="session")
def terraform_env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which terraform finds its provider without the internet; skips where it cannot."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed on this machine")
    folder = tmp_path_factory.mktemp("terraform")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_"))},
        "TF_IN_AUTOMATION": "1",
        "TF_INPUT": "0",
        "CHECKPOINT_DISABLE": "1",
    }
    named = os.environ.get("TF_CLI_CONFIG_FILE", "")
    found = mirror()
    if found is None and not (named and Path(named).is_file()):
        pytest.skip("there is no mirror of Terraform's aws provider on this machine (TF_PLUGIN_MIRROR)")
    if found is None:
        return {**environment, "TF_CLI_CONFIG_FILE": named}
    config = folder / "terraform.rc"
    path = json.dumps(str(found))
    config.write_text(f"provider_installation {{\n  filesystem_mirror {{\n    path = {path}\n  }}\n}}\n", "utf-8")
    return {**environment, "TF_CLI_CONFIG_FILE": str(config)}


@dataclass(frozen=True)
class Account:
    """A simulated account: its address, and clients for it."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            # A call that moto does not know is a 500, which terraform would repeat for ten minutes.
            "AWS_MAX_ATTEMPTS": "3",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str, key: str = "testing", secret: str = "testing", token: str | None = None) -> Any:
        import boto3

        return boto3.client(  # type: ignore[call-overload]
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
        )

    def post(self, path: str, body: bytes) -> None:
        # As text: Flask would take a form apart.
        headers = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{self.url}{path}", data=body, headers=headers, method="POST")
        with urllib.request.urlopen(request) as answer:
            answer.read()


@pytest.fixture(scope="session")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """A fresh simulated account with one machine image of Amazon's."""
    folder = tmp_path_factory.mktemp("moto")
    image = {
        "ami_id": "ami-0123456789abcdef0",
        "name": IMAGE,
        "description": "A GPU image",
        "owner_id": "898082745236",
        "owner_alias": "amazon",
        "image_location": "amazon/gpu",
        "public": True,
        "virtualization_type": "hvm",
        "architecture": "x86_64",
        "state": "available",
        "platform": None,
        "image_type": "machine",
        "hypervisor": "xen",
        "root_device_type": "ebs",
        "root_device_name": "/dev/sda1",
        "sriov": "simple",
        "creation_date": "2026-01-01T00:00:00.000Z",
    }
    (folder / "amis.json").write_text(json.dumps([image]), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env={**os.environ, "MOTO_AMIS_PATH": str(folder / "amis.json")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    account = Account(f"http://127.0.0.1:{port}")
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{account.url}/moto-api/").read()
                break
            except OSError:
                time.sleep(0.1)
        yield account
    finally:
        server.terminate()
        server.wait(timeout=20)
