"""Many videos: find them, do what is missing in workers of this machine or of a cluster, report. Read run.py first.

``inputs.py`` finds videos, ``plan.py`` says where results go and which are up to date, ``run.py`` is the loop that
hands tasks (``task.py``) to an executor (``executor.py`` here, ``cluster.py`` elsewhere), ``report.py`` tells what came
of them. ``lock.py`` keeps two batches apart, ``storage.py`` copies files from and to URLs.
"""

from vp3d_cli.jobs.plan import BatchItem, plan_items
from vp3d_cli.jobs.report import BatchRow
from vp3d_cli.jobs.run import BatchOptions, Limits, check_batch, run_batch

__all__ = ["BatchItem", "BatchOptions", "BatchRow", "Limits", "check_batch", "plan_items", "run_batch"]
