"""A real Celery worker whose model is a script, and who takes time over documents: `python -m tests.e2e.people_worker`.

Everything else is the project's own. Leases are seconds instead of minutes: what a killed worker held comes back soon.
"""

import time
from typing import Any

from quantahr.people import onboarding
from quantahr.settings import load_settings
from tests.worker.test_pipeline import ScriptedEngine
from worker import runtime
from worker.people.personal import Personal

READ_SECONDS = 0.15
LEASE_SECONDS = 4.0


def main() -> None:
    onboarding.LEASE_SECONDS = LEASE_SECONDS
    read = Personal.read

    def slowly(*arguments: Any, **named: Any) -> Any:
        time.sleep(READ_SECONDS)
        return read(*arguments, **named)

    Personal.read = slowly  # type: ignore[method-assign]
    settings = load_settings()
    runtime.current._runtime = runtime.Runtime(settings, lambda: ScriptedEngine("I do not know."))

    from worker.app import run_worker

    run_worker(settings, log_level="warning")


if __name__ == "__main__":
    main()
