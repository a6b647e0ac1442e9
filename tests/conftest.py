"""What tests of all rooms share: a real Redis of their own, settings in their own folder, a fresh database."""

import itertools
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from quantahr.settings import Settings
from quantahr.store import Store

_databases = itertools.count(1)


class RedisServer:
    """A throw-away redis-server on a unix socket, with AOF; it can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = {
            "port": 0,
            "databases": 2000,
            "unixsocket": self.socket,
            "dir": self.folder,
            "appendonly": "yes",
            "save": "",
        }
        options |= {"appendfsync": "everysec", "maxmemory-policy": "noeviction", "daemonize": "no"}
        options |= {"loglevel": "warning"}
        arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        assert program, "these tests need redis-server on PATH: apt-get install redis-server"
        self._process = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(3000):
            try:
                redis.Redis.from_url(self.url).ping()
            except redis.ConnectionError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError("redis-server did not start")

    def stop(self, *, kill: bool = False) -> None:
        if self._process is not None:
            (self._process.kill if kill else self._process.terminate)()
            self._process.wait(timeout=10)
            self._process = None


@pytest.fixture(scope="session")
def _shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("r"))
    server.start()
    yield server
    server.stop(kill=True)


@pytest.fixture
def redis_url(_shared_redis: RedisServer) -> str:
    """An empty Redis."""
    return f"{_shared_redis.url}?db={next(_databases)}"


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that the test may kill and start again."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop(kill=True)


@pytest.fixture
def settings(tmp_path: Path, redis_url: str) -> Settings:
    """Settings that touch nothing outside the test's folder, and that lose patience quickly."""
    return Settings.model_validate(
        {
            "state_dir": tmp_path / "state",
            "policies_dir": tmp_path / "policies",
            "redis_url": redis_url,
            "queue": {"lease_seconds": 2, "silent_seconds": 2, "visibility_seconds": 5, "give_up_seconds": 30},
        }
    )


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """An empty database at the current schema."""
    opened = Store.open(settings)
    yield opened
    opened.close()
