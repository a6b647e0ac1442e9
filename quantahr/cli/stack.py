"""The demo's processes: Redis and a worker, started together and ended together.

Four ideas. The first `up` on a state folder holds a lock and leaves a note of where Redis listens; a second one reads
the note and joins, instead of starting everything twice. Children have sessions of their own, so that Ctrl-C reaches
us first and they end in order: the worker while Redis still answers it. A worker that was ready and dies is started
again. And a watcher, a shell of one megabyte, ends them when this process was killed without a chance to do so.
"""

import contextlib
import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import redis

from quantahr.bus import scripts
from quantahr.embedded_redis import EmbeddedRedis
from quantahr.errors import QuantaHRError
from quantahr.settings import Settings

log = logging.getLogger(__name__)

STOP_SECONDS = 12.0
AGAIN_SECONDS = 1.0
"""How soon a worker that died is started again; twice as long each further time."""
AGAIN_AT_MOST_SECONDS = 60.0
JOIN_SECONDS = 20.0
READY_SECONDS = 900.0
"""A first start computes a vector for every sentence of the documents: half a minute of a core for a small handbook."""

# Reads process ids, one a line; `gone ID` strikes one out, whose number may soon be another program's. The end of input
# without `done` before it means that our owner died.
_WATCHER = """
trap '' INT HUP TERM
children=
while read -r line; do
    case $line in
        done) exit 0 ;;
        gone*)
            left=
            for child in $children; do
                [ "gone $child" = "$line" ] || left="$left $child"
            done
            children=$left ;;
        *) children="$line $children" ;;
    esac
done
for child in $children; do
    kill -TERM "$child" 2>/dev/null || continue
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do
        kill -0 "$child" 2>/dev/null || break
        sleep 0.5
    done
    kill -KILL "$child" 2>/dev/null
done
"""


def note_of(settings: Settings) -> Path:
    """Where a running demo says how to reach its Redis."""
    return settings.state_dir.resolve() / "up.json"


def joined(settings: Settings) -> Settings:
    """The settings with the Redis of a demo that runs on this state folder, if there is one."""
    url = _running(settings)
    return settings.model_copy(update={"redis_url": url}) if url else settings


def _running(settings: Settings) -> str | None:
    with contextlib.suppress(OSError, ValueError, KeyError, redis.RedisError):
        url = str(json.loads(note_of(settings).read_text(encoding="utf-8"))["redis"])
        with redis.Redis.from_url(url) as client:
            client.ping()
        return url
    return None


class Stack:
    """Everything that `quantahr up` starts. A context manager: leaving it ends what was started."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.state_dir.resolve()
        self._note = note_of(settings)
        self._lock: IO[str] | None = None
        self._redis: EmbeddedRedis | None = None
        self._worker: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._tender: threading.Thread | None = None
        self._ending = threading.Event()
        self.url = ""

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise QuantaHRError(
                f"The folder {self._folder} cannot be made ({error.strerror}). Name another one with state_dir "
                "(QUANTAHR_STATE_DIR)."
            ) from None
        try:
            if self._alone():
                self._outlast()
                self._start()
            else:
                self._join()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def joined(self) -> bool:
        """True if everything was running already and belongs to another process."""
        return self._redis is None

    def wait_for_worker(self, seconds: float = READY_SECONDS) -> None:
        """Wait until a worker holds the model and the index. Raises QuantaHRError with the end of its log."""
        deadline = time.monotonic() + seconds
        with redis.Redis.from_url(self.url) as client:
            while time.monotonic() < deadline:
                with contextlib.suppress(redis.RedisError):
                    if client.exists(scripts.READY):
                        self._tend()
                        return
                if self._worker and self._worker.poll() is not None:
                    raise QuantaHRError(self._last_words())
                time.sleep(0.02)
        raise QuantaHRError(
            f"The worker did not get ready in {seconds:.0f} s. What it did stands in {self._worker_log}."
        )

    def stop(self) -> None:
        """End what was started: the worker before Redis."""
        self._ending.set()
        tender, self._tender = self._tender, None
        if tender:
            tender.join()
        worker, self._worker = self._worker, None
        if worker:
            _end(worker)
        embedded, self._redis = self._redis, None
        if embedded:
            self._note.unlink(missing_ok=True)
            embedded.stop()
        watcher, self._watcher = self._watcher, None
        if watcher and watcher.stdin:
            with contextlib.suppress(OSError):
                watcher.stdin.write(b"done\n")
                watcher.stdin.close()
            watcher.wait()
        if self._lock:
            self._lock.close()
            self._lock = None

    def _alone(self) -> bool:
        lock = (self._folder / "up.lock").open("w", encoding="ascii")
        try:
            # The kernel releases it with this process, however that ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            return False
        self._lock = lock
        return True

    def _join(self) -> None:
        deadline = time.monotonic() + JOIN_SECONDS
        while time.monotonic() < deadline:
            if url := _running(self._settings):
                self.url = url
                return
            time.sleep(0.1)
        raise QuantaHRError(
            f"Another `quantahr up` holds {self._folder}, but its Redis does not answer. End that one (Ctrl-C) and try "
            "again."
        )

    def _outlast(self) -> None:
        """Wait for the Redis of an `up` that was killed a moment ago: when it ends, it takes its socket along."""
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline and _running(self._settings):
            time.sleep(0.1)
        self._note.unlink(missing_ok=True)

    def _start(self) -> None:
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHER],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._redis = EmbeddedRedis(self._folder / "redis")
        self._redis.start(self._watch)
        self.url = self._redis.url
        with redis.Redis.from_url(self.url) as client:
            client.delete(scripts.READY)
        self._note.write_text(json.dumps({"redis": self.url}), encoding="utf-8")
        self._worker_log.unlink(missing_ok=True)
        self._start_worker()

    def _start_worker(self) -> None:
        with self._worker_log.open("ab") as output:
            self._worker = subprocess.Popen(
                [sys.executable, "-m", "quantahr", "worker"],
                env={**os.environ, "QUANTAHR_REDIS_URL": self.url},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._watch(self._worker.pid)

    @property
    def _worker_log(self) -> Path:
        return self._folder / "worker.log"

    def _tend(self) -> None:
        """From now on a worker that dies (out of memory, killed) is started again; what it held is answered then."""
        if self._worker and not self._tender:
            self._tender = threading.Thread(target=self._keep_a_worker, name="tender", daemon=True)
            self._tender.start()

    def _keep_a_worker(self) -> None:
        wait = AGAIN_SECONDS
        while not self._ending.wait(wait):
            if self._worker and (code := self._worker.poll()) is not None:
                log.warning("the worker ended (code %d) and is started again; see %s", code, self._worker_log)
                self._tell_watcher(f"gone {self._worker.pid}")
                self._start_worker()
                wait = min(2 * wait, AGAIN_AT_MOST_SECONDS)

    def _watch(self, pid: int) -> None:
        self._tell_watcher(str(pid))

    def _tell_watcher(self, line: str) -> None:
        if self._watcher and self._watcher.stdin:
            self._watcher.stdin.write(f"{line}\n".encode())
            self._watcher.stdin.flush()

    def _last_words(self, lines: int = 12) -> str:
        written = self._worker_log
        text = written.read_text(encoding="utf-8", errors="replace") if written.exists() else ""
        marked = text.rfind("Sorry:")
        if marked >= 0:
            # The worker has said itself what is wrong and what to do.
            return text[marked + len("Sorry:") :].strip()
        end = "\n".join(text.strip().splitlines()[-lines:])
        return f"The worker ended before it was ready. The end of {written}:\n\n{end}"


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
