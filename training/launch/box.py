"""The training machine from inside: `python -m training.launch.box`, started by bootstrap.sh in the job's folder.

It trains with the same code as `quantahr train`, beats every few seconds, uploads each checkpoint as it is saved, and
says how it ended last of all, after the adapter and its SHA256SUMS. What it says holds numbers and the project's own
error messages, never text of a document. A spot machine that is taken back stops at once: its checkpoints are out.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Final

from quantahr.errors import QuantaHRError
from quantahr.gguf import file_sha256
from training.uploads import Place, UploadError, open_place

CURVE_POINTS: Final = 40
SUMS: Final = "SHA256SUMS"
LOG_BYTES: Final = 20_000


class _InterruptedError(BaseException):
    """The cloud takes this machine back."""


class _OutOfTimeError(BaseException):
    """The cap is reached."""


class Box:
    """One attempt of one job. `environ` as bootstrap.sh sets it."""

    def __init__(self, environ: Mapping[str, str], clock: Callable[[], float] = time.time) -> None:
        self._job, self._attempt = environ["QHR_JOB"], int(environ["QHR_ATTEMPT"])
        self._instance = environ["QHR_INSTANCE"]
        self._beat_seconds = float(environ.get("QHR_BEAT_SECONDS", "5"))
        self._imds = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/")
        self._rented = environ["QHR_END"] == "shutdown"
        self._clock = clock
        self._place: Place = open_place(environ["QHR_PLACE"])
        self._quick: Place = open_place(environ["QHR_PLACE"], patience=0)
        self._facts: dict[str, Any] = {"stage": "reading", "step": 0, "steps": 0}
        self._losses: list[float] = []
        self._seconds = 0.0
        self._ending = threading.Event()
        self.interrupted = threading.Event()

    def run(self, work: Callable[["Box"], Path]) -> str:
        """Do the work under a heartbeat and report how it ended. Returns the outcome."""
        beating = threading.Thread(target=self._beat, daemon=True)
        beating.start()
        outcome, detail = "failed", ""
        try:
            folder = work(self)
            self.stage("uploading")
            self._upload(folder)
            outcome = "succeeded"
        except _InterruptedError:
            outcome, detail = "interrupted", "The cloud took the spot machine back."
        except _OutOfTimeError:
            outcome, detail = "timeout", "The cap was reached."
        except QuantaHRError as error:
            detail = str(error)
        except MemoryError:
            detail = "The machine has too little memory. Choose a larger instance_type or a smaller batch."
        except Exception as error:
            detail = f"{type(error).__name__}; the end of the log is in a{self._attempt}.log of the job."
            if type(error).__name__ == "OutOfMemoryError":
                detail = "The GPU has too little memory. Choose a larger instance_type or a smaller batch."
            sys.excepthook(type(error), type(error)("not shown"), error.__traceback__)
        self._ending.set()
        beating.join(timeout=30)
        self._send_log()
        last = {"outcome": outcome, "detail": detail[:500], "finished_at": self._clock()}
        # First on the disk: if the bucket stays away, the bootstrap's EXIT trap tries once more.
        text = self._text(last)
        Path("../status.json").write_text(text, encoding="utf-8")
        self._place.put(Path("../status.json"), f"jobs/{self._job}/status.json")
        Path("../status.sent").touch()
        return outcome

    def stage(self, name: str) -> None:
        self._facts = {**self._facts, "stage": name}

    def expect(self, steps: int) -> None:
        """How many steps there will be."""
        self._facts = {**self._facts, "stage": "training", "steps": steps}

    def step(self, point: Any) -> None:
        """A training step has ended. Raises when the machine is being taken back."""
        if self.interrupted.is_set():
            raise _InterruptedError
        now = self._clock()
        self._losses.append(float(point.loss))
        self._seconds += point.seconds
        left = (self._facts["steps"] - point.step) * point.seconds
        self._facts = {
            **self._facts,
            "step": point.step,
            "loss": round(float(point.loss), 4),
            "tokens_per_second": round(point.tokens / max(point.seconds, 1e-9), 1),
            "seconds_left": round(left, 1),
            "step_seconds": round(self._seconds / len(self._losses), 3),
            "stepped_at": now,
            "curve": _thinned(self._losses),
        }
        if point.step == self._facts["steps"]:
            self.stage("exporting")

    def _upload(self, folder: Path) -> None:
        names = sorted(
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.is_file() and "checkpoints" not in path.relative_to(folder).parts and path.name != SUMS
        )
        for name in names:
            self._place.put(folder / name, f"adapters/{self._job}/{name}")
        sums = folder / SUMS
        sums.write_text("".join(f"{file_sha256(folder / name)}  {name}\n" for name in names), encoding="ascii")
        self._place.put(sums, f"adapters/{self._job}/{SUMS}")

    def _send_log(self) -> None:
        """Before the last word: whoever hears that ends the machine, perhaps before the EXIT trap has sent the log."""
        sys.stdout.flush()
        sys.stderr.flush()
        with contextlib.suppress(OSError, UploadError), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "log"
            path.write_bytes(Path("../box.log").read_bytes()[-LOG_BYTES:])
            self._quick.put(path, f"jobs/{self._job}/a{self._attempt}.log")

    def _beat(self) -> None:
        while True:
            # A bucket that cannot be reached for a while costs heartbeats, not the training.
            with contextlib.suppress(UploadError):
                self._say()
            if self._rented and self._taken_back():
                self.interrupted.set()
            if self._ending.wait(self._beat_seconds):
                return

    def _say(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "heartbeat.json"
            path.write_text(self._text({"at": self._clock(), **self._facts}), encoding="utf-8")
            self._quick.put(path, f"jobs/{self._job}/heartbeat.json")

    def _text(self, facts: Mapping[str, Any]) -> str:
        whole = {"job": self._job, "attempt": self._attempt, "instance_id": self._instance, **facts}
        return json.dumps(whole) + "\n"

    def _taken_back(self) -> bool:
        """Whether the spot notice stands in the metadata service (IMDSv2)."""
        with contextlib.suppress(OSError):
            token = _metadata("PUT", f"{self._imds}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
            _metadata("GET", f"{self._imds}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token})
            return True
        return False


def train(box: Box) -> Path:
    """The run of `qlora_config.json` in the current folder. Returns the folder with its results."""
    from training.config import load_config
    from training.run import execute, make_plan

    config = load_config(Path("qlora_config.json"))
    state_dir = Path(os.environ.get("QHR_STATE_DIR", "state"))
    # A later attempt always goes on from the earlier one; a first one only if the configuration says so.
    resumes = config.training.resume_from_uploads or int(os.environ["QHR_ATTEMPT"]) > 1
    uploads = {"upload_to": f"{os.environ['QHR_PLACE']}/checkpoints", "resume_from_uploads": resumes}
    config = config.model_copy(update={"training": config.training.model_copy(update=uploads)})
    plan = make_plan(config, state_dir=state_dir)
    box.expect(len(plan.schedule.steps))
    return execute(plan, state_dir=state_dir, out=Path("result"), resume=resumes, on_step=box.step, say=print)


def main() -> None:
    """Run the attempt that the environment describes."""

    def out_of_time(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)  # once: the last words must not be cut short
        raise _OutOfTimeError

    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, out_of_time)
    signal.alarm(int(os.environ["QHR_SECONDS"]))  # where the system has no `timeout`
    socket.setdefaulttimeout(30)
    sys.exit(0 if Box(os.environ).run(train) == "succeeded" else 1)


def _metadata(method: str, url: str, headers: Mapping[str, str]) -> str:
    request = urllib.request.Request(url, method=method, headers=dict(headers))  # noqa: S310 (the metadata service)
    with urllib.request.urlopen(request, timeout=2) as answer:  # noqa: S310
        return str(answer.read().decode())


def _thinned(losses: list[float]) -> list[float]:
    count = min(CURVE_POINTS, len(losses))
    if count < 2:
        return [round(loss, 4) for loss in losses]
    return [round(losses[round(index * (len(losses) - 1) / (count - 1))], 4) for index in range(count)]


if __name__ == "__main__":
    main()
