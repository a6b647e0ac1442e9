"""One engine at a time, and no answer that changes engines in the middle."""

import threading

from worker.engines.base import Engine
from worker.serving import Serving


class Named:
    """As much of an engine as Serving touches."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed = False

    def close(self) -> None:
        self.closed = True


def serving_of(engine: Named) -> Serving:
    return Serving(lambda: engine)  # type: ignore[arg-type,return-value]


def name_of(engine: Engine) -> str:
    return engine.name  # type: ignore[attr-defined,no-any-return]


def test_an_answer_keeps_its_engine_while_new_answers_get_the_next_one() -> None:
    old, new = Named("old"), Named("new")
    serving = serving_of(old)
    returned: list[object] = []
    with serving.lease() as mine:
        swap = threading.Thread(target=lambda: returned.append(serving.switch(new)))  # type: ignore[arg-type]
        swap.start()
        switched = threading.Event()
        while not switched.is_set():
            with serving.lease() as later:
                if name_of(later) == "new":
                    switched.set()
        assert name_of(mine) == "old"
        assert not returned
    swap.join(10)
    assert returned == [old]
    assert not old.closed


def test_a_drain_that_takes_too_long_ends_all_the_same() -> None:
    old, new = Named("old"), Named("new")
    serving = serving_of(old)
    with serving.lease():
        assert serving.switch(new, drain_seconds=0.01) is old  # type: ignore[arg-type,comparison-overlap]


def test_eight_threads_load_the_engine_once() -> None:
    loads: list[Named] = []
    barrier = threading.Barrier(8)

    def load() -> Engine:
        loads.append(Named("only"))
        return loads[-1]  # type: ignore[return-value]

    serving = Serving(load)

    def take() -> None:
        barrier.wait(10)
        with serving.lease():
            pass

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(loads) == 1


def test_a_load_that_failed_is_tried_again_by_the_next_answer() -> None:
    outcomes: list[object] = [OSError("no memory"), Named("second")]

    def load() -> Engine:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome  # type: ignore[return-value]

    serving = Serving(load)
    caught = []
    try:
        with serving.lease():
            pass
    except OSError as error:
        caught.append(error)
    with serving.lease() as engine:
        assert name_of(engine) == "second"
    assert len(caught) == 1


def test_many_swaps_under_many_answers_leave_nobody_without_an_engine() -> None:
    serving = serving_of(Named("0"))
    stop = threading.Event()
    mixed: list[str] = []
    answers: list[int] = []

    def answer() -> None:
        while not stop.is_set():
            with serving.lease() as engine:
                first = name_of(engine)
                if first != name_of(engine) or engine.closed:  # type: ignore[attr-defined]
                    mixed.append(first)
            answers.append(1)

    threads = [threading.Thread(target=answer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1, 200):
        before = serving.switch(Named(str(number)))  # type: ignore[arg-type]
        if before is not None:
            before.close()
    stop.set()
    for thread in threads:
        thread.join(10)
    assert not mixed
    assert len(answers) >= 4
