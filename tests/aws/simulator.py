"""An AWS account on this machine: moto behind one address, and instances that really run their user data.

RunInstances starts the decoded script in a session of its own, with a `shutdown` and an `aws` first on its PATH and a
metadata service (IMDSv2) that knows its instance. An instance that shuts down, or is terminated, loses its whole
session. `faults` lets any call fail as AWS would; `minute` is how long a minute lasts for `shutdown -h +N`.
"""

import base64
import contextlib
import functools
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import boto3
from moto.core.base_backend import BackendDict
from moto.ec2.models.iam_instance_profile import IamInstanceProfileAssociationBackend
from moto.ec2.models.instances import Instance, InstanceBackend, StateReason
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from quantahr.infra import Infra

REGION, BUCKET = "eu-central-1", "quantahr-training-test"
IMAGE = "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.7 (Ubuntu 24.04) 20251101"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}
SIGNATURE = f"AWS4-HMAC-SHA256 Credential=test/20261123/{REGION}/s3/aws4_request, SignedHeaders=host, Signature=0"
_SHIMS = {
    "shutdown": '#!/bin/bash\necho "$*" >> "$SIM_FOLDER/shutdown"\n',
    # `aws s3 cp [--only-show-errors] A B`: moto wants a signature, and takes any.
    "aws": """#!/bin/bash
shift 2; [ "$1" = --only-show-errors ] && shift
url() { echo "$AWS_ENDPOINT_URL/${1#s3://}"; }
signed="Authorization: $SIM_SIGNATURE"
case "$1" in
  s3://*) curl --fail --silent --max-time 5 --header "$signed" --output "$2" "$(url "$1")" ;;
  *) curl --fail --silent --max-time 5 --header "$signed" --upload-file "$1" --output /dev/null "$(url "$2")" ;;
esac
""",
}


class Box:
    """What runs inside one instance."""

    def __init__(self, instance: Instance, folder: Path, session: subprocess.Popen[bytes]) -> None:
        self.instance, self.folder, self.session = instance, folder, session
        self.born = time.monotonic()
        self.spot_notice = False

    def processes(self) -> list[int]:
        """`timeout` and others make process groups of their own; the session is what they share."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if os.getsid(int(entry.name)) == self.session.pid:
                        found.append(int(entry.name))
        return found

    def kill(self) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.session.wait()


class Account:
    """The account. Use as a context manager."""

    def __init__(self, folder: Path, python: str = sys.executable, minute: float = 60.0) -> None:
        self.folder, self.python, self.minute = folder, python, minute
        self.boxes: dict[str, Box] = {}
        self.faults: list[Callable[[str, str], tuple[int, str] | None]] = []
        """Called with (service, action or path); (status, code) refuses the call, status 0 breaks the connection."""
        self.calls: list[str] = []
        self.environment: dict[str, str] = {}
        self._tokens: dict[str, Any] = {}
        self._over = threading.Event()
        self._undo: list[Callable[[], None]] = []
        self.self_shutdown = True

    def __enter__(self) -> "Account":
        shims = self.folder / "bin"
        shims.mkdir(parents=True)
        for name, text in _SHIMS.items():
            (shims / name).write_text(text)
            (shims / name).chmod(0o755)
        # moto's state belongs to the process: an account that an earlier test left is emptied.
        BackendDict.reset()
        self._patch()
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()
        self.infra = self._found()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for box in self.boxes.values():
            box.kill()
        for undo in self._undo:
            undo()
        self._server.shutdown()
        self._server.server_close()

    def client(self, service: str) -> Any:
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    # What a test looks at and plays

    def states(self) -> dict[str, str]:
        """Every instance with its state."""
        pages = self.client("ec2").describe_instances()["Reservations"]
        return {one["InstanceId"]: one["State"]["Name"] for page in pages for one in page["Instances"]}

    def objects(self, prefix: str = "") -> list[str]:
        listed = self.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [entry["Key"] for entry in listed.get("Contents", ())]

    def read(self, key: str) -> bytes:
        return bytes(self.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def newest(self) -> Box:
        return list(self.boxes.values())[-1]

    def end(self, box: Box, reason: str = "") -> None:
        """The instance is gone: its processes, and in EC2's eyes."""
        box.kill()
        box.instance.terminate()
        if reason:
            box.instance.state_reason = StateReason(reason, reason)

    def take_back(self, box: Box) -> None:
        """A spot interruption: the notice now, the end two minutes later or when the machine has shut down."""
        box.spot_notice = True

    # Inside

    def _found(self) -> Infra:
        ec2, s3, iam = self.client("ec2"), self.client("s3"), self.client("iam")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        key = self.client("kms").create_key()["KeyMetadata"]["Arn"]
        subnets = sorted(ec2.describe_subnets()["Subnets"], key=lambda one: one["AvailabilityZone"])
        iam.create_instance_profile(InstanceProfileName="quantahr-trainer")
        ec2.register_image(Name=IMAGE, RootDeviceName="/dev/sda1")
        return Infra(
            region=REGION,
            bucket=BUCKET,
            kms_key_arn=key,
            subnet_ids=tuple(one["SubnetId"] for one in subnets),
            security_group_id=ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"],
            instance_profile="quantahr-trainer",
            scheduler_role_arn="arn:aws:iam::123456789012:role/scheduler",
            image_queries=("Deep Learning AMI GPU PyTorch*Ubuntu 20.04*", "Deep Learning OSS*PyTorch*Ubuntu 24.04*"),
            image_owners=("self",),
        )

    def _patch(self) -> None:
        account = self
        run, terminate = InstanceBackend.run_instances, InstanceBackend.terminate_instances
        associate = IamInstanceProfileAssociationBackend.associate_iam_instance_profile

        def run_instances(backend: Any, image_id: str, count: int, user_data: Any, *rest: Any, **more: Any) -> Any:
            token = account._token
            if token in account._tokens:
                return account._tokens[token]  # moto itself does not know ClientToken
            reservation = run(backend, image_id, count, user_data, *rest, **more)
            account._tokens[token] = reservation
            account._boot(reservation.instances[0], base64.b64decode(str(user_data)))
            return reservation

        def terminate_instances(backend: Any, instance_ids: list[str]) -> Any:
            for identifier in instance_ids:
                if identifier in account.boxes:
                    account.boxes[identifier].kill()
            return terminate(backend, instance_ids)

        def associate_iam_instance_profile(backend: Any, instance_id: str, *rest: Any, **more: Any) -> Any:
            # The machine that a repeated token gives has its profile already.
            known = backend.iam_instance_profile_associations.get(instance_id)
            return known or associate(backend, instance_id, *rest, **more)

        for kind, mine, moto in (
            (InstanceBackend, run_instances, run),
            (InstanceBackend, terminate_instances, terminate),
            (IamInstanceProfileAssociationBackend, associate_iam_instance_profile, associate),
        ):
            setattr(kind, mine.__name__, mine)
            self._undo.append(functools.partial(setattr, kind, mine.__name__, moto))

    def _boot(self, instance: Instance, user_data: bytes) -> None:
        folder = self.folder / instance.id
        folder.mkdir()
        (folder / "user_data").write_bytes(user_data)
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(folder),
            "SIM_FOLDER": str(folder),
            "SIM_SIGNATURE": SIGNATURE,
            "QHR_HOME": str(folder / "opt"),
            "QHR_PYTHON": self.python,
            "QHR_BEAT_SECONDS": "0.3",
            "QHR_PATIENCE": "1",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{self.url}/imds/{instance.id}",
            "OMP_NUM_THREADS": "2",
            **CREDENTIALS,
            **self.environment,
        }
        with (folder / "console").open("wb") as console:
            session = subprocess.Popen(
                ["bash", str(folder / "user_data")],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        self.boxes[instance.id] = Box(instance, folder, session)

    def _watch(self) -> None:
        """`shutdown` as the operating system would do it, with termination as the behaviour asked for."""
        while not self._over.wait(0.1):
            for box in list(self.boxes.values()):
                if box.instance.state != "running" or not self.self_shutdown:
                    continue
                with contextlib.suppress(OSError):
                    for line in (box.folder / "shutdown").read_text().splitlines():
                        later = re.fullmatch(r"-h \+(\d+)", line)
                        if line == "-h now" or (later and time.monotonic() - box.born > int(later[1]) * self.minute):
                            self.end(box)

    def _answer(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        path = str(environ.get("PATH_INFO", ""))
        if path.startswith("/imds/"):
            return self._metadata(environ, start, path.split("/", 3)[2], path.split("/", 3)[3])
        service = self._service(environ, path)
        action = path
        if service == "ec2":
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            fields = urllib.parse.parse_qs(body.decode())
            action, self._token = fields.get("Action", [""])[0], fields.get("ClientToken", [""])[0]
            import io

            environ["wsgi.input"] = io.BytesIO(body)
        self.calls.append(f"{service}:{action}")
        for fault in self.faults:
            if refused := fault(service, action):
                return _refusal(service, *refused, start)
        return self._moto(environ, start)  # type: ignore[no-any-return]

    _token = ""

    def _service(self, environ: dict[str, Any], path: str) -> str:
        scope = re.search(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/", str(environ.get("HTTP_AUTHORIZATION", "")))
        return scope[1] if scope else "s3" if path.startswith(f"/{BUCKET}") else ""

    def _metadata(self, environ: dict[str, Any], start: Any, instance: str, path: str) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        if method == "PUT" and path == "latest/api/token" and environ.get("HTTP_X_AWS_EC2_METADATA_TOKEN_TTL_SECONDS"):
            answer: str | None = f"token-{instance}"
        elif environ.get("HTTP_X_AWS_EC2_METADATA_TOKEN") != f"token-{instance}":
            start("401 Unauthorized", [])
            return [b""]
        elif path == "latest/meta-data/instance-id":
            answer = instance
        elif path == "latest/meta-data/spot/instance-action" and self.boxes[instance].spot_notice:
            answer = '{"action":"terminate","time":"2026-11-23T04:02:00Z"}'
        else:
            answer = None
        start("200 OK" if answer else "404 Not Found", [("Content-Type", "text/plain")])
        return [(answer or "").encode()]


def _refusal(service: str, status: int, code: str, start: Any) -> Iterable[bytes]:
    if status == 0:
        raise ConnectionError("the simulated network is down")
    error = f"<Error><Code>{code}</Code><Message>simulated</Message></Error>"
    body = f"<Response><Errors>{error}</Errors><RequestID>r</RequestID></Response>" if service == "ec2" else error
    kind = "application/xml"
    if service == "scheduler":
        body, kind = f'{{"__type":"{code}","Message":"simulated"}}', "application/json"
    start(f"{status} Refused", [("Content-Type", kind), ("x-amzn-ErrorType", code)])
    return [body.encode()]
