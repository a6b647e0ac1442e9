"""Measuring a candidate in a process of its own: `python -m training.judging FOLDER`.

It answers the golden questions as `quantahr eval` does, once with the candidate and once with what serves now, and
writes the result last. A process that was killed is started again and goes on with the questions that are left.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from quantahr.errors import QuantaHRError
from quantahr.retrain import Gate, Job
from quantahr.settings import Settings
from training.launch.contract import RefusedError
from training.locks import LOCK, held

TRIES: Final = 3
_RESULT: Final = "gate.json"


class DetachedJudge:
    """Judges by such processes. `environ` is theirs; by default ours, so that they read the same settings."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self._folder = folder.resolve()
        self._environ = dict(os.environ if environ is None else environ)

    def look(self, job: Job, candidate: Path) -> Gate | None:
        """The result, or None while it is measured; begins if nobody does. Raises RefusedError."""
        home = self._home(job)
        home.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            answer = json.loads((home / _RESULT).read_text(encoding="utf-8"))
            if "error" in answer:
                raise RefusedError("evaluation", f"The candidate could not be measured: {answer['error']}", _ADVICE)
            return Gate.model_validate(answer)
        if held(home):
            return None
        tries = len(list(home.glob("try-*")))
        if tries >= TRIES:
            raise RefusedError("evaluation", f"Measuring the candidate ended {tries} times without a result.", _ADVICE)
        (home / f"try-{tries + 1}").touch()
        with (home / "judging.log").open("ab") as log:
            subprocess.Popen(
                [sys.executable, "-m", "training.judging", str(home), str(candidate.resolve())],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return None

    def stop(self, job: Job) -> None:
        home = self._home(job)
        if held(home):
            with contextlib.suppress(OSError, ValueError):
                os.killpg(int((home / "session").read_text(encoding="ascii")), signal.SIGKILL)

    def _home(self, job: Job) -> Path:
        return self._folder / job.id / "judging"


_ADVICE: Final = "The trained adapter is kept in the registry. See `judging.log` of the job, and `quantahr eval`."


def judge(candidate: Path, folder: Path) -> Gate:
    """Measure, compare and decide, with the configured golden questions and rule. Raises QuantaHRError."""
    from quantahr.registry import Registry
    from quantahr.settings import load_settings
    from training.gate import judge as gate
    from training.gate.promotion import load_rule
    from training.gate.report import chat_rows, keep_with_run, write_report
    from training.gate.run import gather

    settings = load_settings()
    registry = Registry.open(settings)
    files = [*sorted(gate.GOLDEN.glob("*.jsonl")), *_approved(settings, folder)]
    questions = gather(files, settings.policies_dir, derived=True)
    evaluation = gate.evaluate(
        gate.candidate(settings, registry, str(candidate)),
        questions,
        settings.policies_dir,
        folder,
        against=gate.candidate(settings, registry, None),
        rule=load_rule(),
    )
    keep_with_run(write_report(evaluation, folder), candidate)
    decision = evaluation.decision
    return Gate(
        passed=decision is not None and decision.passed,
        reasons=decision.reasons if decision else (),
        rows=chat_rows(evaluation),
        metrics=evaluation.metrics,
    )


def _approved(settings: Settings, folder: Path) -> list[Path]:
    """The golden questions that HR's approvals added, as a file of this job."""
    from quantahr.people.loop import Loop
    from quantahr.store import Store

    store = Store.open(settings)
    try:
        rows = Loop(store).golden()
    finally:
        store.close()
    if not rows:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "approved.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return [file]


def main(home: Path, candidate: Path) -> None:
    """Judge, and leave gate.json in `home`; one process at a time."""
    with (home / LOCK).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        os.set_inheritable(lock.fileno(), False)
        (home / "session").write_text(str(os.getpid()), encoding="ascii")
        try:
            answer = judge(candidate, home / "evaluation").model_dump_json()
        except QuantaHRError as error:
            answer = json.dumps({"error": str(error)})
        partial = home / f".{_RESULT}"
        partial.write_text(answer, encoding="utf-8")
        partial.rename(home / _RESULT)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
