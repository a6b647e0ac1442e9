"""The demo's processes: Redis, a worker, and whoever talks to people, started together and ended together.

The first `up` on a folder starts them and leaves a note of where Redis listens; a second one finds the note, and joins
instead of starting everything twice.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from quantahr.bus import scripts
from quantahr.embedded_redis import EmbeddedRedis
from quantahr.errors import QuantaHRError
from quantahr.settings import Settings

STOP_SECONDS = 12.0


def joined(settings: Settings) -> Settings:
    """The settings with the Redis of a demo that runs on this state folder, if there is one."""
    note = settings.state_dir / "up.json"
    with contextlib.suppress(OSError, ValueError, KeyError):
        return settings.model_copy(update={"redis_url": json.loads(note.read_text(encoding="utf-8"))["redis"]})
    return settings


class Stack:
    """Everything that `quantahr up` starts. A context manager: leaving it ends what was started."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._folder = settings.state_dir.resolve()
        self._redis: EmbeddedRedis | None = None
        self._children: list[subprocess.Popen[bytes]] = []
        self.url = ""

    @property
    def _note(self) -> Path:
        return self._folder / "up.json"

    def __enter__(self) -> Self:
        try:
            if not self._join():
                self._start()
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

    def environment(self) -> dict[str, str]:
        """The environment in which our processes find this Redis."""
        return {**os.environ, "QUANTAHR_REDIS_URL": self.url}

    def spawn(self, *arguments: str, log: str) -> subprocess.Popen[bytes]:
        """Start `quantahr ARGUMENTS` in the background, its output in the state folder's `log`."""
        with (self._folder / log).open("ab") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", "quantahr", *arguments],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children.append(child)
        return child

    def wait_for_worker(self, seconds: float = 180.0) -> None:
        """Wait until a worker holds the model and the index. Raises QuantaHRError with the end of its log."""
        deadline = time.monotonic() + seconds
        with redis.Redis.from_url(self.url) as client:
            while time.monotonic() < deadline:
                with contextlib.suppress(redis.RedisError):
                    if client.exists(scripts.READY):
                        return
                for child in self._children:
                    if child.poll() is not None:
                        raise QuantaHRError(
                            f"The worker ended before it was ready:\n\n{self._last_words('worker.log')}"
                        )
                time.sleep(0.05)
        raise QuantaHRError(f"The worker did not get ready in {seconds:.0f} s. Its log: {self._folder / 'worker.log'}")

    def stop(self) -> None:
        """End what was started, the talkers before the worker before Redis."""
        children, self._children = self._children, []
        for child in reversed(children):
            if child.poll() is None:
                child.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for child in reversed(children):
            try:
                child.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        embedded, self._redis = self._redis, None
        if embedded:
            self._note.unlink(missing_ok=True)
            embedded.stop()

    def _join(self) -> bool:
        with contextlib.suppress(OSError, ValueError, KeyError, redis.RedisError):
            url = json.loads(self._note.read_text(encoding="utf-8"))["redis"]
            with redis.Redis.from_url(url) as client:
                client.ping()
            self.url = url
            return True
        return False

    def _start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._redis = EmbeddedRedis(self._folder / "redis")
        self._redis.start()
        self.url = self._redis.url
        with redis.Redis.from_url(self.url) as client:
            client.delete(scripts.READY)
        self._note.write_text(json.dumps({"redis": self.url}), encoding="utf-8")
        (self._folder / "worker.log").write_bytes(b"")
        self.spawn("worker", log="worker.log")
        self._say("Started Redis and a worker.")

    def _last_words(self, log: str, lines: int = 12) -> str:
        try:
            text = (self._folder / log).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.strip().splitlines()[-lines:])
