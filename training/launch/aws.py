"""Training on a machine rented from AWS, so that money is safe whatever crashes.

One `run_instances` an attempt, under a client token made of job and attempt, and looked up by its tags before: however
often a step is repeated, there is one machine. It ends itself (an alarm set by its first command, `timeout`, a trap,
and "terminate" on shutdown); behind that stand a one-shot EventBridge schedule, and `reap`, which ends every machine
that no living job accounts for. `jobs/ACTIVE` in the bucket, written on condition that there is none, keeps other
installations on the same bucket away. Data and configuration are removed when the job has ended; checkpoints and
adapters stay.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from quantahr.infra import Infra
from quantahr.retrain import Attempt, Job, Progress
from quantahr.retrain.machine import MachineState, Seen
from training.launch import rules
from training.launch.aws_errors import missing, said
from training.launch.bundle import File, bootstrap_file, build
from training.launch.contract import Configured, Known, RefusedError
from training.launch.marks import SUMS, check_sums, names_in, progress_in, status_in
from training.launch.user_data import minutes_for, render

ACTIVE: Final = "jobs/ACTIVE"
LIVING: Final = ("pending", "running", "stopping", "stopped", "shutting-down")
_STATES: Final[dict[str, MachineState]] = {
    "pending": "pending",
    "running": "running",
    "shutting-down": "ending",
    "stopping": "ending",
    "stopped": "ended",
    "terminated": "ended",
}
_SPARE_MINUTES: Final = 5
"""How long after the machine should have ended itself the schedule ends it."""


class AwsLauncher:
    """Trains in the account that `infra` describes, with the credentials that boto3 finds.

    `endpoint`: another address of all services, for a simulator.
    """

    def __init__(self, infra: Infra, config: Configured, *, root: Path, endpoint: str | None = None) -> None:
        import boto3
        from botocore.config import Config

        patience = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "max_attempts": 3})
        session = boto3.Session(region_name=infra.region)

        def client(service: str) -> Any:
            return session.client(service, endpoint_url=endpoint, config=patience)  # type: ignore[call-overload]

        self._infra, self._config, self._root = infra, config, root
        self._ec2, self._s3, self._scheduler = client("ec2"), client("s3"), client("scheduler")
        self.zones = len(infra.subnet_ids)

    # Before

    def prepare(self, job: Job) -> tuple[str, str | None]:
        with said("the job could not be prepared"):
            self._claim(job)
            bundle = build(job.id, self._config(job), root=self._root)
            for file in (bootstrap_file(), *bundle.files, bundle.manifest):
                self._upload(file)
            return bundle.manifest.sha256, self._image()

    def find(self, job: Job, attempt: Attempt) -> str | None:
        with said("the machines could not be listed"):
            found = [m for m in self._machines(job.id) if rules.tag(m, "Attempt") == str(attempt.number)]
        return str(found[0]["InstanceId"]) if found else None

    def start(self, job: Job, attempt: Attempt) -> str:
        infra = self._infra
        tags = [
            {"Key": name, "Value": value}
            for name, value in {
                "Name": f"quantahr-{job.id}",
                "Environment": "Training",
                "Installation": infra.bucket,
                "JobId": job.id,
                "Attempt": str(attempt.number),
                "MaxMinutes": str(minutes_for(job, attempt)),
            }.items()
        ]
        request: dict[str, Any] = {
            "ClientToken": f"qhr-{job.id}-a{attempt.number}",
            "ImageId": job.image,
            "InstanceType": job.options.instance_type,
            "MinCount": 1,
            "MaxCount": 1,
            "SubnetId": infra.subnet_ids[(attempt.number - 1) % self.zones],
            "SecurityGroupIds": [infra.security_group_id],
            "IamInstanceProfile": {"Name": infra.instance_profile},
            "InstanceInitiatedShutdownBehavior": "terminate",
            "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"},
            "BlockDeviceMappings": [
                {
                    "DeviceName": "/dev/sda1",
                    "Ebs": {
                        "VolumeSize": infra.volume_gib,
                        "VolumeType": "gp3",
                        "Encrypted": True,
                        "DeleteOnTermination": True,
                    },
                }
            ],
            "TagSpecifications": [
                {"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume", "network-interface")
            ],
            "UserData": render(job, attempt, bucket=infra.bucket, region=infra.region),
        }
        if attempt.spot:
            one_time = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
            request["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": one_time}
        with said("no machine was started"):
            answer = self._ec2.run_instances(**request)
        return str(answer["Instances"][0]["InstanceId"])

    def guard(self, job: Job, attempt: Attempt) -> None:
        from botocore.exceptions import ClientError

        ends = attempt.started_at + (minutes_for(job, attempt) + _SPARE_MINUTES) * 60
        moment = datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        with said("the machine's end could not be scheduled"):
            try:
                self._scheduler.create_schedule(
                    Name=_schedule(job, attempt),
                    ScheduleExpression=f"at({moment})",
                    FlexibleTimeWindow={"Mode": "OFF"},
                    ActionAfterCompletion="DELETE",
                    Target={
                        "Arn": "arn:aws:scheduler:::aws-sdk:ec2:terminateInstances",
                        "RoleArn": self._infra.scheduler_role_arn,
                        "Input": json.dumps({"InstanceIds": [attempt.instance]}),
                    },
                )
            except ClientError as error:
                if error.response["Error"]["Code"] != "ConflictException":
                    raise  # a conflict: it was scheduled by the step that was cut short

    # Meanwhile

    def look(self, job: Job, attempt: Attempt) -> Seen:
        with said("the machine could not be looked at"):
            # The machine first: what it said last is there by the time it has ended.
            machine = next((m for m in self._machines(job.id) if m["InstanceId"] == attempt.instance), None)
            heartbeat = self._read(f"jobs/{job.id}/heartbeat.json")
            status = self._read(f"jobs/{job.id}/status.json")
        name = attempt.instance or ""
        return Seen(
            machine=_STATES.get(machine["State"]["Name"], "absent") if machine else "absent",
            instance=attempt.instance,
            interrupted=machine is not None and rules.taken_back(machine),
            progress=progress_in(heartbeat, name),
            status=status_in(status, name),
        )

    # After

    def settle(self, job: Job) -> bool:
        with said("the machines could not be ended"):
            living = [m for m in self._machines(job.id) if m["State"]["Name"] in LIVING]
            self._terminate([m for m in living if m["State"]["Name"] != "shutting-down"])
            return not living

    def release(self, job: Job) -> None:
        with said("what was uploaded for the job could not be removed"):
            for attempt in job.attempts:
                if attempt.instance is not None:
                    self._unschedule(_schedule(job, attempt))
            for prefix in (f"data/{job.id}/", f"config/{job.id}/"):
                for key in self._keys(prefix):
                    self._s3.delete_object(Bucket=self._infra.bucket, Key=key)
            holder, mark = self._holder()
            if holder == job.id:
                self._s3.delete_object(Bucket=self._infra.bucket, Key=ACTIVE, IfMatch=mark)

    def fetch(self, job: Job, folder: Path) -> None:
        with said("the results could not be fetched"):
            sums = self._read(f"adapters/{job.id}/{SUMS}")
            if sums is None:
                raise RefusedError("results", "The training said that it succeeded, but left no results.", "Try again.")
            for name in (*names_in(sums.decode("ascii", "replace")), SUMS):
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                self._s3.download_file(self._infra.bucket, f"adapters/{job.id}/{name}", str(target))
        check_sums(folder)

    def reap(self, jobs: Known, now: float) -> list[str]:
        with said("the reaper could not do its round"):
            doomed = []
            for machine in self._machines(None):
                job = jobs(rules.tag(machine, "JobId") or "")
                if machine["State"]["Name"] != "shutting-down" and rules.orphaned(
                    machine, job, self._heartbeat(machine), now
                ):
                    doomed.append(machine)
            self._terminate(doomed)
        return [str(machine["InstanceId"]) for machine in doomed]

    def _heartbeat(self, machine: Any) -> Progress | None:
        identifier = rules.tag(machine, "JobId")
        data = self._read(f"jobs/{identifier}/heartbeat.json") if identifier else None
        return progress_in(data, str(machine["InstanceId"]))

    def _machines(self, job: str | None) -> list[Any]:
        """The machines of a job, in any state; without one, all of this installation that exist."""
        mine = [{"Name": "tag:Environment", "Values": ["Training"]}]
        if job is None:
            mine += [
                {"Name": "tag:Installation", "Values": [self._infra.bucket]},
                {"Name": "instance-state-name", "Values": list(LIVING)},
            ]
        else:
            mine.append({"Name": "tag:JobId", "Values": [job]})
        pages = self._ec2.get_paginator("describe_instances").paginate(Filters=mine)
        return [one for page in pages for reservation in page["Reservations"] for one in reservation["Instances"]]

    def _terminate(self, machines: list[Any]) -> None:
        if machines:
            self._ec2.terminate_instances(InstanceIds=[machine["InstanceId"] for machine in machines])

    def _image(self) -> str:
        for query in self._infra.image_queries:
            found = self._ec2.describe_images(
                Owners=list(self._infra.image_owners),
                Filters=[{"Name": "name", "Values": [query]}, {"Name": "state", "Values": ["available"]}],
            )["Images"]
            if found:
                newest = max(found, key=lambda image: (image.get("CreationDate", ""), image["ImageId"]))
                return str(newest["ImageId"])
        raise RefusedError(
            "no_image",
            f"No machine image matches {' or '.join(self._infra.image_queries)} in {self._infra.region}.",
            "Correct compute.boot_os_query in config/qlora_config.json and run `quantahr infra up`.",
        )

    def _claim(self, job: Job) -> None:
        from botocore.exceptions import ClientError

        for _ in range(2):
            try:
                self._s3.put_object(
                    Bucket=self._infra.bucket, Key=ACTIVE, Body=job.id.encode(), IfNoneMatch="*", **self._encrypted()
                )
            except ClientError as error:
                if error.response["Error"]["Code"] not in {"PreconditionFailed", "ConditionalRequestConflict"}:
                    raise
            else:
                return
            holder, mark = self._holder()
            if holder == job.id:
                return
            # Our database allows one job at a time: who holds it has crashed, or is another installation.
            if holder and any(machine["State"]["Name"] in LIVING for machine in self._machines(holder)):
                raise RefusedError(
                    "active",
                    f"Another job ({holder}) is training with this bucket.",
                    "Wait until it has ended; `/hr-retrain status` where it was started shows it.",
                )
            self._s3.delete_object(Bucket=self._infra.bucket, Key=ACTIVE, IfMatch=mark)
        raise RefusedError("active", "Another job took its turn at this moment.", "Try again in a few minutes.")

    def _holder(self) -> tuple[str | None, str]:
        try:
            found = self._s3.get_object(Bucket=self._infra.bucket, Key=ACTIVE)
        except Exception as error:
            if missing(error):
                return None, "*"
            raise
        return found["Body"].read().decode("ascii", "replace"), str(found["ETag"])

    def _upload(self, file: File) -> None:
        self._s3.put_object(Bucket=self._infra.bucket, Key=file.key, Body=file.data, **self._encrypted())

    def _encrypted(self) -> dict[str, str]:
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self._infra.kms_key_arn}

    def _read(self, key: str) -> bytes | None:
        try:
            return bytes(self._s3.get_object(Bucket=self._infra.bucket, Key=key)["Body"].read())
        except Exception as error:
            if missing(error):
                return None
            raise

    def _keys(self, prefix: str) -> list[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._infra.bucket, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def _unschedule(self, name: str) -> None:
        try:
            self._scheduler.delete_schedule(Name=name)
        except Exception as error:
            if not missing(error):
                raise


def _schedule(job: Job, attempt: Attempt) -> str:
    return f"qhr-{job.id}-a{attempt.number}"
