"""Stands in for `python -m training.launch.box` where a test is not about training: `QUICK` says how it goes.

succeed: an adapter and its sums, then the status. fail: the status. wait: beats until it is ended. hang: one heartbeat,
then silence. crash: ends without a word. spot: beats until the metadata service says that the machine is taken back.
"""

import hashlib
import json
import os
import sys
import time
import urllib.request
from pathlib import Path

JOB, PLACE = os.environ["QHR_JOB"], os.environ["QHR_PLACE"].removeprefix("s3://")
IMDS = os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"]


def put(key: str, data: bytes) -> None:
    url = f"{os.environ['AWS_ENDPOINT_URL']}/{PLACE}/{key}"
    headers = {"Authorization": os.environ["SIM_SIGNATURE"], "Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(url, data=data, headers=headers, method="PUT"), timeout=10).read()


def say(name: str, **facts: object) -> None:
    whole = {"job": JOB, "attempt": int(os.environ["QHR_ATTEMPT"]), "instance_id": os.environ["QHR_INSTANCE"], **facts}
    put(f"jobs/{JOB}/{name}.json", json.dumps(whole).encode())


def beat() -> None:
    now = time.time()
    say("heartbeat", at=now, stage="training", step=1, steps=9, loss=2.5, stepped_at=now)


def taken_back() -> bool:
    try:
        asked = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        request = urllib.request.Request(f"{IMDS}/latest/api/token", method="PUT", headers=asked)
        token = urllib.request.urlopen(request, timeout=5).read().decode()
        url, known = f"{IMDS}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token}
        urllib.request.urlopen(urllib.request.Request(url, headers=known), timeout=5)
    except OSError:
        return False
    return True


def last_word(outcome: str, detail: str = "") -> None:
    say("status", outcome=outcome, detail=detail)
    Path("../status.sent").touch()


beat()
play = os.environ["QUICK"]
if play == "spot" and int(os.environ["QHR_ATTEMPT"]) > 1:
    play = "succeed"
while play in {"wait", "hang", "spot"}:
    time.sleep(0.2)
    if play != "hang":
        beat()
    if play == "spot" and taken_back():
        last_word("interrupted")
        sys.exit(1)
if play == "crash":
    sys.exit(9)
if play == "fail":
    last_word("failed", "The GPU has too little memory.")
    sys.exit(1)
adapter = Path(os.environ["QUICK_ADAPTER"]).read_bytes()
put(f"adapters/{JOB}/adapter.gguf", adapter)
put(f"adapters/{JOB}/SHA256SUMS", f"{hashlib.sha256(adapter).hexdigest()}  adapter.gguf\n".encode())
last_word("succeeded")
