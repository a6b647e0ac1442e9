"""`quantahr infra`: what stands in the AWS account between trainings, and what it costs.

Terraform does the work, from a copy of iac/terraform in the state folder, where its state is kept too: nothing is
written beside the sources. What is shown before the question is the very plan that is carried out afterwards. And
config/infra.json, the launcher's only knowledge of all this, is written last, from Terraform's outputs.
"""

import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from quantahr.infra import INFRA_FILE, Infra, InfraError, load_infra
from quantahr.settings import load_settings

MODULE = Path(__file__).resolve().parents[2] / "iac" / "terraform"
TRAINING_CONFIG: Final = Path("config/qlora_config.json")
PRICES: Final = Path("config/instances.json")
KEY_MONTH: Final = 1.0
STORAGE_GIB_MONTH: Final = 0.023
"""US dollars, us-east-1, November 2026: a key of one's own, and a GiB in S3."""
LOCKED: Final = "linux_amd64"
"""The platform whose provider the lock file pins by its hash; the containers' on most machines."""
LIVING: Final = ("pending", "running", "stopping", "stopped", "shutting-down")
_NAMES: Final = {
    "aws_s3_bucket": "a bucket for data, checkpoints and adapters",
    "aws_kms_key": "a key that encrypts them",
    "aws_iam_role": "roles: the training machine's, the launcher's, the scheduler's",
    "aws_security_group": "a security group without a way in",
    "aws_cloudwatch_log_group": "a log of operators' sessions",
    "aws_ssm_document": "how an operator's session is recorded",
    "aws_instance": "a machine for an operator",
}

app = typer.Typer(
    name="infra", no_args_is_help=True, help="What stands in AWS for training: make it, look at it, remove it."
)
out = Console(highlight=False)

Config = Annotated[Path | None, typer.Option("--config", help="The settings file; config/quantahr.yaml by default.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


class Terraform:
    """Terraform with this installation's state, in `folder`. Methods raise InfraError."""

    def __init__(self, folder: Path, *, region: str | None = None, training: Path = TRAINING_CONFIG) -> None:
        self.state = folder / "terraform.tfstate"
        self._work = folder / "module"
        self._variables = [f"-var=config_file={training.resolve()}"] + ([f"-var=region={region}"] if region else [])

    def init(self) -> None:
        """Bring module and provider. The provider is downloaded the first time."""
        if not MODULE.is_dir():
            raise InfraError(f"There is no {MODULE}. Run this command in QuantaHR's folder.")
        self._work.mkdir(parents=True, exist_ok=True)
        for stale in self._work.glob("*.tf"):
            stale.unlink()
        for source in (*MODULE.glob("*.tf"), MODULE / ".terraform.lock.hcl"):
            shutil.copy(source, self._work / source.name)
        arguments = ("-reconfigure", f"-backend-config=path={self.state.resolve()}")
        try:
            self._run("init", *arguments)
        except InfraError as error:
            platform = json.loads(self._run("version", "-json"))["platform"]
            if "checksums previously recorded" not in str(error) or platform == LOCKED:
                raise
            # The lock file knows nothing of this platform: Terraform asks the registry, and checks the signature.
            self._run("providers", "lock", "-no-color", f"-platform={platform}")
            self._run("init", *arguments)

    def plan(self, *arguments: str) -> Mapping[str, Any]:
        """Make a plan, keep it for `apply`, and return it as Terraform describes it in JSON."""
        self._run("plan", "-out=the.plan", *self._variables, *arguments)
        described: Mapping[str, Any] = json.loads(self._run("show", "-json", "the.plan"))
        return described

    def apply(self) -> None:
        """Carry out the plan that was made last."""
        self._run("apply", "the.plan")

    def outputs(self) -> dict[str, Any]:
        return {name: output["value"] for name, output in json.loads(self._run("output", "-json")).items()}

    def stands(self) -> bool:
        """Whether anything was made and not removed."""
        try:
            return bool(json.loads(self.state.read_text(encoding="utf-8")).get("resources"))
        except FileNotFoundError:
            return False
        except ValueError:
            raise InfraError(
                f"{self.state} is damaged. Put back terraform.tfstate.backup, which lies beside it."
            ) from None

    def _run(self, command: str, *arguments: str) -> str:
        color = () if command in {"show", "version", "providers"} else ("-no-color",)
        waits = ("-input=false",) if command in {"init", "plan", "apply"} else ()
        try:
            done = subprocess.run(
                ["terraform", command, *waits, *color, *arguments],
                cwd=self._work,
                env={**os.environ, "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"},
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            raise InfraError(
                "Terraform is not installed on this machine. Install version 1.9 or newer, or let a container do it: "
                "podman compose --profile infra run --rm infra quantahr infra up"
            ) from None
        if done.returncode != 0:
            raise InfraError(f"terraform {command} says: {_reason(done.stderr or done.stdout)}")
        return done.stdout


@app.command()
def up(
    region: Annotated[str | None, typer.Option(help="The AWS region; AWS_REGION or your profile's by default.")] = None,
    yes: Yes = False,
    config: Config = None,
) -> None:
    """Make what training in AWS needs, or bring it up to date. Shows what will exist and what it costs, and asks."""
    terraform = _terraform(config, region)
    terraform.init()
    plan = terraform.plan()
    changes = _changes(plan)
    if changes:
        _show(changes)
        out.print(f"It costs about {KEY_MONTH:.2f} dollars a month while nothing trains. {_one_job()}", soft_wrap=True)
        if not yes and not typer.confirm("Go on?"):
            raise typer.Exit(1)
        terraform.apply()
    infra = _write(terraform.outputs())
    out.print(f"It stands in {infra.region}, and {INFRA_FILE} says where. Train from the chat: /hr-retrain")


@app.command()
def down(
    delete_data: Annotated[
        bool, typer.Option("--delete-data", help="Also the bucket with its checkpoints and adapters.")
    ] = False,
    yes: Yes = False,
    config: Config = None,
) -> None:
    """Remove everything from the account. Refuses while a machine trains, or while the bucket holds anything."""
    terraform = _terraform(config, None)
    if not terraform.stands():
        out.print("Nothing stands; there is nothing to remove.")
        return
    terraform.init()
    infra = _infra(terraform.outputs())
    machines = _machines(infra)
    if machines:
        raise InfraError(f"{machines[0]['InstanceId']} still runs. End it first: /hr-retrain cancel")
    held = _client("s3", infra).list_object_versions(Bucket=infra.bucket, MaxKeys=1)
    full = bool(held.get("Versions") or held.get("DeleteMarkers"))
    if full and not delete_data:
        raise InfraError(
            f"The bucket {infra.bucket} holds results of trainings. Keep what you need of them, then type: "
            "quantahr infra down --delete-data"
        )
    if full:
        out.print(f"[bold]The bucket {infra.bucket} and everything in it will be deleted for good.[/]", soft_wrap=True)
    if not yes and not typer.confirm("Remove everything that stands in AWS?"):
        raise typer.Exit(1)
    if full:
        terraform.plan("-var=delete_data=true", "-target=aws_s3_bucket.training")
        terraform.apply()
    terraform.plan("-destroy")
    terraform.apply()
    INFRA_FILE.unlink(missing_ok=True)
    out.print("Removed. The key can be brought back for seven days; then nothing is left.")


@app.command()
def status() -> None:
    """What exists in the account now, by its tag: what stands, and every machine."""
    infra = load_infra()
    pages = _client("resourcegroupstaggingapi", infra).get_paginator("get_resources")
    filters = [{"Key": "Environment", "Values": ["Training"]}]
    found = [
        str(one["ResourceARN"]) for page in pages.paginate(TagFilters=filters) for one in page["ResourceTagMappingList"]
    ]
    # Machines stay listed for an hour after their end: they are told by their state.
    for arn in sorted(arn for arn in found if ":instance/" not in arn):
        out.print(arn, soft_wrap=True)
    machines = _machines(infra)
    for machine in machines:
        tags = {tag["Key"]: tag["Value"] for tag in machine.get("Tags", ())}
        what = f"job {tags['JobId']}" if "JobId" in tags else "an operator's"
        out.print(f"{machine['InstanceId']}  {machine['InstanceType']}  {machine['State']['Name']}  {what}")
    if not machines:
        out.print("No machine runs.")


@app.command()
def cost() -> None:
    """What it costs: standing, stored, and a training at most."""
    table = Table.grid(padding=(0, 2))
    table.add_row("The key, a month", f"${KEY_MONTH:.2f}")
    if INFRA_FILE.exists():
        infra = load_infra()
        pages = _client("s3", infra).get_paginator("list_object_versions").paginate(Bucket=infra.bucket)
        gib = sum(one["Size"] for page in pages for one in page.get("Versions", ())) / (1 << 30)
        table.add_row(f"The bucket, {gib:.1f} GiB, a month", f"${gib * STORAGE_GIB_MONTH:.2f}")
    out.print(table)
    out.print(_one_job(), soft_wrap=True)
    out.print("What trainings have cost: /hr-retrain history")


def _terraform(config: Path | None, region: str | None) -> Terraform:
    if region is None and INFRA_FILE.exists():
        region = load_infra().region
    return Terraform(load_settings(config).state_dir.resolve() / "infra", region=region)


def _changes(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(action, resource type) of everything that the plan changes."""
    found = []
    for change in plan.get("resource_changes", ()):
        actions = [action for action in change["change"]["actions"] if action not in {"no-op", "read"}]
        if actions:
            found.append(("replace" if len(actions) > 1 else actions[0], str(change["type"])))
    return found


def _show(changes: list[tuple[str, str]]) -> None:
    table = Table.grid(padding=(0, 2))
    rest = 0
    for (action, kind), count in sorted(Counter(changes).items()):
        if kind in _NAMES:
            table.add_row(action, str(count), _NAMES[kind])
        else:
            rest += count
    if rest:
        table.add_row("and", str(rest), "settings of these")
    out.print(table)


def _write(outputs: Mapping[str, Any]) -> Infra:
    infra = _infra(outputs)
    partial = INFRA_FILE.with_name(f".{INFRA_FILE.name}")
    try:
        partial.write_text(infra.model_dump_json(indent=2) + "\n", encoding="utf-8")
        partial.replace(INFRA_FILE)
    except OSError as error:
        raise InfraError(
            f"Everything stands, but {INFRA_FILE} cannot be written ({error.strerror}). Mend its folder's rights and "
            "run the command again."
        ) from None
    return infra


def _infra(outputs: Mapping[str, Any]) -> Infra:
    missing = sorted(set(Infra.model_fields) - set(outputs))
    if missing:
        raise InfraError(f"What stands is not complete ({', '.join(missing)}). Run `quantahr infra up` again.")
    return Infra.model_validate({name: outputs[name] for name in Infra.model_fields})


def _client(service: str, infra: Infra) -> Any:
    import boto3

    return boto3.client(service, region_name=infra.region)  # type: ignore[call-overload]


def _machines(infra: Infra) -> list[Any]:
    """The machines of this installation that exist, jobs' and an operator's."""
    pages = (
        _client("ec2", infra)
        .get_paginator("describe_instances")
        .paginate(
            Filters=[
                {"Name": "tag:Installation", "Values": [infra.bucket]},
                {"Name": "instance-state-name", "Values": list(LIVING)},
            ]
        )
    )
    return [one for page in pages for reservation in page["Reservations"] for one in reservation["Instances"]]


def _one_job() -> str:
    try:
        compute = json.loads(TRAINING_CONFIG.read_text(encoding="utf-8")).get("compute", {})
        prices = json.loads(PRICES.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "What a training costs is said before each one."
    kind, minutes = compute.get("instance_type") or "g5.xlarge", compute.get("max_minutes", 240)
    cap = float(compute.get("max_cost", 20.0))
    if kind not in prices:
        return f"A training costs at most {cap:.2f} dollars (compute.max_cost)."
    hour = float(prices[kind]["usd_per_hour"])
    return (
        f"A training on {kind} costs about {hour:.2f} dollars an hour, and at most "
        f"{min(cap, hour * minutes / 60):.2f}: it ends after {minutes} minutes."
    )


def _reason(said: str) -> str:
    """Terraform's own sentence, without its frame and without where in the source it stands."""
    lines = [line.strip("│╷╵ ").strip() for line in said.splitlines()]
    starts = [number for number, line in enumerate(lines) if line.startswith("Error:")]
    text = " ".join(
        line for line in lines[starts[0] if starts else -6 :] if line and not line.startswith(("on ", "with "))
    )
    if "credential" in text.lower():
        return f"{text[:300]} Sign in to AWS first (aws sso login), or set AWS_PROFILE."
    return text[:600] or "nothing. Run it again with TF_LOG=ERROR."
