"""Runs commands of recbench one after the other, in one process with little memory; tells how each ended."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import sys
import traceback

import matplotlib.pyplot  # noqa: F401 - what commands load is not to count
import pandas  # noqa: F401
import pyarrow.parquet  # noqa: F401
import torch  # noqa: F401

from recbench.cli import main
from tests.store.hostile_child import memory

ALLOWANCE = 1 << 30
SECONDS = 60
"""A command that takes as long waits for something that will never come."""


def call(arguments: list[str]) -> dict[str, object]:
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    broken = ""
    sys.argv = ["recbench", *arguments]
    signal.alarm(SECONDS)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as error:
            code = error.code or 0
        except BaseException:
            broken = traceback.format_exc()
    signal.alarm(0)
    return {"code": code, "out": out.getvalue(), "err": err.getvalue(), "broken": broken}


def timed_out(*_: object) -> None:
    raise TimeoutError("the command hangs")


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, timed_out)
    limit = memory("VmData") + ALLOWANCE
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    for folder, arguments in json.load(sys.stdin):
        os.chdir(folder)
        print(json.dumps(call(arguments)), flush=True)
