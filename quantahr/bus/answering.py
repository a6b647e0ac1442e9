"""The worker's side of the bus: claim a question, write its events, close it.

Synchronous, because a worker's threads are. One background thread per process keeps every lease alive and hears who
pressed Stop.
"""

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any, Final, Literal, cast

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from quantahr.bus import scripts
from quantahr.errors import QuantaHRError
from quantahr.messages import Event, Failed, Question, dump_event
from quantahr.messages import Final as FinalEvent
from quantahr.settings import Settings

log = logging.getLogger(__name__)

PASSING: Final = (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError)
"""What a restarting Redis raises; waiting helps."""


class LeaseLostError(QuantaHRError):
    """Another worker has taken over this question; whatever is written now must not reach the asker."""


class Claim:
    """One attempt at one question, held by a lease."""

    def __init__(self, bus: "Answering", question: Question, attempt: int, token: str) -> None:
        self.question = question
        self.attempt = attempt
        self.token = token
        self._bus = bus
        self._stopped = threading.Event()

    def emit(self, event: Event) -> None:
        """Write one event. Raises LeaseLostError."""
        keys = [scripts.lease_key(self.question.id), scripts.answer_key(self.question.id)]
        if not self._bus.run(scripts.EMIT, keys, [self.token, dump_event(event)]):
            raise LeaseLostError(f"Question {self.question.id}: another worker has taken over.")

    def close(self, event: FinalEvent | Failed) -> bool:
        """Write the last event. Returns False if the question was closed by someone else or the lease is lost."""
        return self._bus.close(self.question.id, event, self.token)

    @property
    def stopped(self) -> bool:
        """True once the asker pressed Stop or the lease was lost: no further token is of use to anybody."""
        return self._stopped.is_set()

    def stop(self) -> None:
        self._stopped.set()


class Answering:
    """A worker's connection to the bus. Thread-safe; `close_connection` ends its background thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.queue
        self._redis = connect(settings.redis_url)
        self._loaded: dict[str, Any] = {}
        self._claims: dict[str, Claim] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.ready = False
        """Set once the model and the index are there: from then on the bots can see that somebody answers."""
        self._heart = threading.Thread(target=self._beat, name="leases", daemon=True)
        self._heart.start()

    def run(self, script: str, keys: list[str], arguments: list[Any]) -> Any:
        """Run one of the bus's scripts."""
        loaded = self._loaded.get(script)
        if loaded is None:
            loaded = self._loaded[script] = self._redis.register_script(script)
        return loaded(keys=keys, args=arguments)

    @contextlib.contextmanager
    def claim(self, question: str) -> Iterator[Claim | Literal["closed", "gone", "leased"]]:
        """The right to answer `question`, or why there is none: it is closed, its text is gone, somebody answers it."""
        token = secrets.token_hex(8)
        keys = [
            scripts.question_key(question),
            scripts.lease_key(question),
            scripts.attempts_key(question),
            scripts.closed_key(question),
            scripts.WAITING,
            scripts.answer_key(question),
        ]
        life = self._settings.lease_seconds * 1000
        arguments = [question, token, life, self._settings.keep_answers_seconds, scripts.ANNOUNCED]
        attempt, payload = self.run(scripts.CLAIM, keys, arguments)
        if not attempt:
            why: Literal["closed", "gone", "leased"] = payload.decode()
            yield why
            return
        claim = Claim(self, Question.model_validate_json(payload), attempt, token)
        with self._lock:
            self._claims[question] = claim
        try:
            if self._redis.exists(scripts.cancel_key(question)):
                claim.stop()
            yield claim
        finally:
            with self._lock:
                self._claims.pop(question, None)
            with contextlib.suppress(redis.RedisError):
                self.run(scripts.RELEASE, [scripts.lease_key(question)], [token])

    def close(self, question: str, event: FinalEvent | Failed, token: str = "") -> bool:
        """Close a question with its last event. Without a token it is closed whoever holds the lease."""
        keys = [
            scripts.closed_key(question),
            scripts.answer_key(question),
            scripts.question_key(question),
            scripts.lease_key(question),
            scripts.WAITING,
            scripts.cancel_key(question),
        ]
        arguments = [question, dump_event(event), self._settings.keep_answers_seconds, token]
        return bool(self.run(scripts.CLOSE, keys, arguments))

    def upload(self, question: str) -> bytes | None:
        """The document that came with a question; None if there is none (any more)."""
        return cast("bytes | None", self._redis.get(scripts.upload_key(question)))

    def drop_upload(self, question: str) -> None:
        """Forget it."""
        self._redis.delete(scripts.upload_key(question))

    def announce(self, channel: str, text: str = "") -> None:
        """Wake whoever listens on `channel`; the truth is in the database, this only makes them look sooner."""
        self._redis.publish(channel, text)

    def close_connection(self) -> None:
        """End the background thread and the connections."""
        self._ended.set()
        self._heart.join(timeout=5)
        self._redis.close()

    def _beat(self) -> None:
        interval = self._settings.lease_seconds / 3
        while not self._ended.is_set():
            try:
                with cast(Any, self._redis).pubsub(ignore_subscribe_messages=True) as listener:
                    listener.subscribe(scripts.CANCELLED)
                    self._listen(listener, interval)
            except Exception as error:  # whatever it was, a worker without this thread would answer nothing to its end
                log.warning("leases cannot be renewed (%s); trying again", type(error).__name__)
                self._ended.wait(0.2)

    def _listen(self, listener: Any, interval: float) -> None:
        due = 0.0
        while not self._ended.is_set():
            message = listener.get_message(timeout=min(interval, 0.5))
            if message is not None:
                with self._lock:
                    claim = self._claims.get(message["data"].decode())
                if claim:
                    claim.stop()
            if time.monotonic() >= due:
                self._renew()
                due = time.monotonic() + interval

    def _renew(self) -> None:
        if self.ready:
            self._redis.set(scripts.READY, "1", ex=max(10, self._settings.lease_seconds * 2))
        with self._lock:
            claims = list(self._claims.values())
        for claim in claims:
            arguments = [claim.token, self._settings.lease_seconds * 1000]
            if not self.run(scripts.RENEW, [scripts.lease_key(claim.question.id)], arguments):
                claim.stop()


def tcp_options(url: str) -> dict[str, Any]:
    """What makes a dead peer noticed; a unix socket neither needs nor takes it."""
    return {} if url.startswith("unix:") else {"socket_keepalive": True}


def connect(url: str) -> "redis.Redis":
    """A synchronous client that rides out a restart of Redis (about ten seconds) before it gives up."""
    return redis.Redis.from_url(
        url,
        socket_timeout=5,
        **tcp_options(url),
        health_check_interval=15,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), 15),
        retry_on_error=list(PASSING),
    )
