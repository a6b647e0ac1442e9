"""A retrain job: what it is, which step comes next, and where it is kept.

Three ideas. What happens next is a pure function of the job, of the administrators' wishes and of what was seen of the
machine (`machine.py`). The database holds all of that (`jobs.py`), so that any process can carry a job on after any
other was killed. And the intention is written down before the deed: which attempt is about to start is known before
anything is started, so a repeated step finds what the first one did.
"""

from quantahr.retrain.job import (
    Attempt,
    Failure,
    Gate,
    Job,
    JobError,
    Options,
    Plan,
    Progress,
    Taught,
    Wishes,
    default_options,
)
from quantahr.retrain.jobs import Jobs, Notice

__all__ = [
    "Attempt",
    "Failure",
    "Gate",
    "Job",
    "JobError",
    "Jobs",
    "Notice",
    "Options",
    "Plan",
    "Progress",
    "Taught",
    "Wishes",
    "default_options",
]
