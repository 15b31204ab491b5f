"""Planning anew when code was edited while a sweep ran."""

from __future__ import annotations

import os
import sys

from recbench.cli.terminal import err
from recbench.job.code import CodeChanged
from recbench.store.store import Store

_TIMES = "RECBENCH_PLANNED_AGAIN"
_MOST = 3
"""Number of times that a command plans anew, so that somebody who goes on editing does not keep it busy for ever."""


def plan_again(store: Store) -> None:
    """Start this command anew if jobs of its plan failed because their code was edited after they were planned.

    The process is replaced by a new one, which has imported nothing yet and plans with the code as it is on the disk.
    Returns if there are no such jobs, or if that was done often enough.
    """
    plan = store.read_plan()
    records = store.scan(plan).records
    edited = [
        job_id
        for job_id, one in records.items()
        if one.failure is not None and one.failure.type == CodeChanged.__name__
    ]
    times = int(os.environ.get(_TIMES) or 0)
    if not edited:
        return
    if times >= _MOST:
        err.print("code is edited again and again; the same command plans these jobs with the code as it is then")
        return
    jobs = "1 job" if len(edited) == 1 else f"{len(edited)} jobs"
    err.print(f"{jobs} failed since code was edited after they were planned; planning again with the code as it is now")
    sys.stdout.flush()
    sys.stderr.flush()
    os.environ[_TIMES] = str(times + 1)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - this very command
