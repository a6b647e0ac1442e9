"""The beat only ticks: each work once per interval, whatever the number of beats."""

import base64
import json
from collections import Counter

import redis

from quantahr.queue import PEOPLE, PEOPLE_QUEUE
from quantahr.settings import Settings
from quantahr.store import Store
from worker.app import make_worker
from worker.beat import DAY, LEASE_SECONDS, Beat, publisher


def test_of_two_beats_one_ticks_and_the_other_follows_when_it_dies(settings: Settings) -> None:
    now = [1_000_000.0]
    store = Store(settings.database, clock=lambda: now[0])
    asked: Counter[str] = Counter()

    def publish(work: str) -> None:
        asked[work] += 1

    first, second = Beat(settings, store, publish), Beat(settings, store, publish)
    assert first.tick()
    assert not second.tick()
    assert asked == {"onboarding": 1, "gaps": 1, "digest": 1}
    for _ in range(10):
        now[0] += 30
        assert first.tick()
        assert not second.tick()
    assert asked == {"onboarding": 11, "gaps": 1, "digest": 1}
    now[0] += LEASE_SECONDS + 1
    assert second.tick(), "the first one has died"
    assert not first.tick()
    now[0] += DAY
    second.tick()
    assert (asked["gaps"], asked["digest"]) == (2, 1)
    store.close()


def test_a_tick_is_a_message_with_a_name_on_the_queue_that_workers_read(settings: Settings) -> None:
    publisher(settings)("onboarding")
    [raw] = redis.Redis.from_url(settings.redis_url).lrange(PEOPLE_QUEUE, 0, -1)
    message = json.loads(raw)
    assert message["headers"]["task"] == PEOPLE
    assert message["headers"]["expires"]
    assert json.loads(base64.b64decode(message["body"]))[0] == ["onboarding"]
    assert PEOPLE in make_worker(settings).tasks
