"""The former address of ``run_task`` and ``reason_of``, for executors written before ``recbench.run_task``."""

from __future__ import annotations

from recbench.job.accidents import reason_of
from recbench.job.runner import run_task

__all__ = ["reason_of", "run_task"]
