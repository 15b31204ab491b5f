"""Reads folders of hostile files under a limit of memory, and tells what each reader said; run by a test."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import pandas  # noqa: F401 - what readers load is not to count
import pyarrow.parquet  # noqa: F401
import safetensors.torch  # noqa: F401
import torch  # noqa: F401

from recbench.analysis.per_image import ScoreFiles
from recbench.errors import UserError
from recbench.store import artifacts, heartbeat, scales
from recbench.store.archive import Archive
from recbench.store.store import Store

ALLOWANCE = 600 << 20
"""Bytes that a reader may take."""

READERS: dict[str, Callable[[Path], object]] = {
    artifacts.HISTORY: artifacts.read_history,
    artifacts.SCORES: lambda folder: artifacts.read_scores(folder, "psnr", images=64),
    artifacts.IMAGES: lambda folder: artifacts.read_images(folder, shape=(3, 16, 16)),
    artifacts.TRACES: artifacts.read_traces,
    artifacts.MODEL: lambda folder: artifacts.read_model(artifacts.content(folder, artifacts.MODEL)),
    "readable history.jsonl": lambda folder: list(artifacts.readable_epochs(folder)),
    "record.json": lambda folder: Store(folder).read(next((folder / "jobs").iterdir()).name),
    "plan.json": lambda folder: Store(folder).read_plan(),
    "export.zip": lambda folder: Archive(folder / "export.zip"),
    "calibration.json": scales.read,
    "running.json": heartbeat.read,
    "statistics.json": lambda folder: ScoreFiles(Store(folder))._read(),
}


def memory(name: str) -> int:
    """Return an entry of this process's memory in bytes, such as VmData or VmHWM."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(name)


def main() -> None:
    limit = memory("VmData") + ALLOWANCE
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    for folder in sorted(Path(sys.argv[1]).iterdir()):
        reader = json.loads((folder / "reader").read_text())
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = memory("VmRSS")
        try:
            says, kind = str(READERS[reader](folder))[:200], "value"
        except Exception as error:
            says, kind = str(error), "error" if isinstance(error, UserError | ValueError) else type(error).__name__
        print(json.dumps({"folder": folder.name, "kind": kind, "says": says, "took": memory("VmHWM") - before}))


if __name__ == "__main__":
    main()
