"""The queue's settings: one Celery configuration for those who send and those who consume.

Three ideas, each measured. `acks_late` with a short visibility timeout brings a task of a killed worker back in seconds
instead of an hour; the worker's own lease keeps the second delivery from answering twice. There is no result backend:
answers travel on Redis Streams. And a task carries an id only, so that no text stands in a log or a repr.
"""

from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from celery import Celery

from quantahr.errors import SettingsError
from quantahr.settings import Settings

ASK: Final = "quantahr.ask"
ASK_QUEUE: Final = "ask"
PEOPLE: Final = "quantahr.people"
"""Onboarding, the weekly digest: work that nobody waits for, beside the questions."""
PEOPLE_QUEUE: Final = "people"


def broker_url(redis_url: str) -> str:
    """The Redis address in kombu's spelling; a unix socket is written differently there."""
    parts = urlsplit(redis_url)
    if parts.scheme == "unix":
        database = parse_qs(parts.query).get("db", ["0"])[0]
        return f"redis+socket://{parts.path}?virtual_host={database}"
    if parts.scheme in {"redis", "rediss"}:
        return redis_url
    raise SettingsError(
        f"redis_url starts with `{parts.scheme}:`, but only redis://, rediss:// and unix:// are understood."
    )


def make_celery(settings: Settings) -> Celery:
    """A Celery application bound to the configured Redis. It connects when it is first used."""
    application = Celery("quantahr", broker=broker_url(settings.redis_url))
    application.conf.update(_configuration(settings))
    return application


def _configuration(settings: Settings) -> dict[str, Any]:
    return {
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_default_queue": ASK_QUEUE,
        "task_routes": {},
        "worker_prefetch_multiplier": 1,
        "worker_hijack_root_logger": False,
        "worker_send_task_events": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "visibility_timeout": settings.queue.visibility_seconds,
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
    }
