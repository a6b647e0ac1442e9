"""A throw-away PostgreSQL: the machine's own server program, or the one in the package `pgserver`.

It refuses to run as root, so a test that does lends it another account. Only a unix socket leads to it.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import URL, create_engine, text

ACCOUNTS = ("postgres", "nobody")


def find_programs() -> Path | None:
    """The folder with `initdb` and `postgres`; None if there is none on this machine."""
    packaged = importlib.util.find_spec("pgserver")
    folders = [Path(shutil.which("postgres") or "/nowhere").resolve().parent]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    folders += (
        [Path(place) / "pginstall" / "bin" for place in (packaged.submodule_search_locations or ())] if packaged else []
    )
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


class PostgresServer:
    """One cluster. `fresh` makes a database of its own for a test."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="qhr-pg-", dir="/tmp"))
        self._account = _account()
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        if self._account:
            shutil.chown(self._folder, self._account["user"])

    def start(self) -> None:
        data = self._folder / "data"
        make = ["-D", str(data), "-U", "quantahr", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        program = str(self._programs / "initdb")
        done = subprocess.run([program, *make], capture_output=True, cwd=self._folder, check=False, **self._account)
        assert done.returncode == 0, done.stderr.decode()
        options = {"listen_addresses": "", "unix_socket_directories": str(self._folder), "fsync": "off"}
        options |= {"shared_buffers": "16MB", "max_connections": "60"}
        arguments = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        self._process = subprocess.Popen(
            [self._programs / "postgres", "-D", str(data), *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            **self._account,
        )
        ready = [str(self._programs / "pg_isready"), "-h", str(self._folder), "-U", "quantahr", "-t", "1"]
        for _ in range(120):
            if subprocess.run(ready, capture_output=True, check=False).returncode == 0:
                return
            assert self._process.poll() is None, "PostgreSQL ended while it started"
        raise AssertionError("PostgreSQL did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)  # at once, with all its children
            self._process.wait(timeout=30)
        shutil.rmtree(self._folder, ignore_errors=True)

    def fresh(self) -> str:
        """The address of an empty database."""
        self._databases += 1
        name = f"test{self._databases}"
        engine = create_engine(self._url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self._url(name).render_as_string()

    def _url(self, database: str) -> URL:
        where = {"host": str(self._folder)}
        return URL.create("postgresql+psycopg", username="quantahr", database=database, query=where)


def _account() -> dict[str, Any]:
    """Whom the server runs as, if we are root."""
    if os.getuid() != 0:
        return {}
    for name in ACCOUNTS:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": name, "group": found.pw_gid, "extra_groups": []}
    return {}
