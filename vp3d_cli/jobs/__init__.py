"""Many videos: find them, do what is missing in worker processes, keep a journal, report.

``inputs.py`` finds videos, ``plan.py`` says where results go and which are still good, ``run.py`` is the loop that
hands videos to the processes of ``pool.py``, in which ``worker.py`` takes orders and ``work.py`` does them; with a
scheduler, ``cluster.py`` has such processes work on other machines, where ``cluster_task.py`` starts them.
``folder.py`` keeps two batches apart and cleans up after a dead one, ``journal.py`` remembers what was done,
``report.py`` tells it. :func:`vp3d_cli.jobs.run.run_batch` is all of it.
"""
