"""Batch processing: find videos, run missing work on workers, report results.

Workers run on this machine or on a cluster. Start reading with run.py.

``inputs.py`` finds videos, ``plan.py`` says where results go and which are up to date. ``run.py`` runs a batch:
``loop.py`` hands tasks (``task.py``) to an executor (``executor.py`` here, ``cluster.py`` elsewhere), ``report.py``
tells what came of them. ``lock.py`` keeps two batches apart, ``storage.py`` copies files from and to URLs.
"""
