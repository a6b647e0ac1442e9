"""Bringing a database to the schema of this version, whoever starts first.

Every process calls `migrate` when it starts; a lock lets one of them do it while the others wait.
"""

import fcntl
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from quantahr.errors import StoreError

log = logging.getLogger(__name__)

LOCK = 0x51A47
"""PostgreSQL advisory lock number."""
PATIENCE_SECONDS = 20.0
"""A database server is often started together with us, and takes its time the first time."""


def migrate(engine: Engine) -> None:
    """Upgrade the schema to this version. Raises StoreError."""
    try:
        with _alone(engine):
            command.upgrade(configuration(engine), "head")
    except CommandError as error:
        raise StoreError(
            "The database was made by a newer version of QuantaHR. Install that version, or restore an older backup."
        ) from error
    except (DBAPIError, OSError) as error:
        raise StoreError(
            f"The database at {engine.url.render_as_string(hide_password=True)} cannot be opened "
            f"({type(error).__name__}). Check database_url, that the server runs, and the rights of the state folder."
        ) from error


def configuration(engine: Engine) -> Config:
    """Alembic's configuration, with the engine in it."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["engine"] = engine
    return config


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    if engine.dialect.name == "postgresql":
        if engine.url.host:
            wait_for(engine.url.host, engine.url.port or 5432)
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:n)"), {"n": LOCK})
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:n)"), {"n": LOCK})
        return
    database = engine.url.database
    if not database or database == ":memory:":
        yield
        return
    Path(database).parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{database}.lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def wait_for(host: str, port: int, seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether a server takes connections at this address, now or before so many seconds are over."""
    until = time.monotonic() + seconds
    said = False
    while True:
        try:
            socket.create_connection((host, port), 3.0).close()
        except OSError:
            if time.monotonic() > until:
                return False
            if not said:
                log.info("waiting for %s:%d", host, port)
                said = True
            time.sleep(0.2)
        else:
            return True
