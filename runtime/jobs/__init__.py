"""Independent jobs on processes of this machine or on a Dask cluster; each one's result once."""

from runtime.jobs.engine import run_jobs
from runtime.jobs.outcome import Outcome, WorkerDied

__all__ = ["Outcome", "WorkerDied", "run_jobs"]
