"""The beat only ticks: each work once per interval, whatever the number of beats."""

from collections import Counter

from quantahr.settings import Settings
from quantahr.store import Store
from worker.beat import DAY, LEASE_SECONDS, Beat


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
