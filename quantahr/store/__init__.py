"""The database: what must survive a restart of everything else.

SQLAlchemy 2 on SQLite or PostgreSQL, its schema changed by Alembic migrations only. Two ideas: one synchronous class
that both worker threads and (through `asyncio.to_thread`) bots use; and no text where a fact will do: a sensitive
question leaves a row without its words.
"""

from quantahr.store import people_tables as _people_tables  # noqa: F401 - they belong to the schema
from quantahr.store.records import Delivery, Escalation, Turn
from quantahr.store.store import Store

__all__ = ["Delivery", "Escalation", "Store", "Turn"]
