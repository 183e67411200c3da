"""What whoever runs the installation sees and does: all tenants' jobs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from server.errors import NotFound
from server.services import Deps


def jobs(deps: Deps, *, dead_only: bool = False) -> list[dict[str, Any]]:
    """Return the jobs that wait, run or are dead, as JSON takes them; see `server.store.jobs.JobRow`."""
    with deps.store.transaction(reading=True) as tx:
        found = tx.jobs(deps.now(), dead_only=dead_only)
    return [{**asdict(job), "since": job.since.isoformat() if job.since else None} for job in found]


def retry_job(deps: Deps, job_id: str) -> str:
    """Have a job tried again now; return its kind.

    Raises: NotFound if there is none with this id, or it cannot be tried: a session whose mailbox is not connected.
    """
    with deps.store.transaction() as tx:
        kind = tx.retry_job(job_id, deps.now())
        tx.after_commit(deps.wake)
    if kind is None:
        raise NotFound("There is no such job, or it cannot be tried now: a session needs its mailbox to be connected.")
    return kind
